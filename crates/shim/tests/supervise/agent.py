"""A seccomp agent: takes one listener, answers one notification with ENOMEDIUM, prints what it was told as JSON lines."""
import array, fcntl, json, socket, struct, sys

NOTIF, RESPONSE = "=QIIiIQ6Q", "=QqiI"  # struct seccomp_notif, struct seccomp_notif_resp
RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
ENOMEDIUM = 123

def say(what):
    print(json.dumps(what), flush=True)

server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1])
server.listen()
say("listening")
connection, _ = server.accept()
fds = array.array("i")
data, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(16))
for level, kind, payload in ancillary:
    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
        fds.frombytes(payload)
say({"state": json.loads(data), "descriptors": len(fds)})
buffer = bytearray(struct.calcsize(NOTIF))
fcntl.ioctl(fds[0], RECEIVE, buffer)
number, pid, _, call, *_ = struct.unpack(NOTIF, buffer)
fcntl.ioctl(fds[0], SEND, struct.pack(RESPONSE, number, 0, -ENOMEDIUM, 0))
say({"pid": pid, "call": call})
