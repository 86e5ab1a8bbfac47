"""A seccomp agent: takes one listener, answers one notification with ENOMEDIUM, prints what it was told as JSON lines.

With "signal" as its second argument it signals the caller before it answers, and prints whether that goes on waiting."""
import array, fcntl, json, os, signal, socket, struct, sys

NOTIF, RESPONSE = "=QIIiIQ6Q", "=QqiI"  # struct seccomp_notif, struct seccomp_notif_resp
RECEIVE, SEND, VALID = 0xC0502100, 0xC0182101, 0x40082102  # SECCOMP_IOCTL_NOTIF_RECV, _SEND, _ID_VALID
ENOMEDIUM = 123

def say(what):
    print(json.dumps(what), flush=True)

def waits_on(number, pid):
    """Sends a signal; whether the caller then sleeps where only a deadly one reaches it, or has left its call."""
    def is_valid():
        try:
            fcntl.ioctl(fds[0], VALID, struct.pack("=Q", number))
            return True
        except OSError:
            return False

    def sleeps_deep():
        try:
            with open(f"/proc/{pid}/stat") as stat:
                return stat.read().rsplit(") ")[-1][0] == "D"
        except OSError:
            return False  # it has ended

    os.kill(pid, signal.SIGUSR1)
    # The caller may wait in that state for a lock that is_valid() holds: only a lasting sleep counts.
    while is_valid():
        if all(sleeps_deep() for _ in range(1000)):
            return is_valid()
    return False

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
if not data:
    sys.exit("nobody came to be listened to")
say({"state": json.loads(data), "descriptors": len(fds)})
buffer = bytearray(struct.calcsize(NOTIF))
fcntl.ioctl(fds[0], RECEIVE, buffer)
number, pid, _, call, *_ = struct.unpack(NOTIF, buffer)
waits = waits_on(number, pid) if sys.argv[2:] == ["signal"] else True
if waits:
    fcntl.ioctl(fds[0], SEND, struct.pack(RESPONSE, number, 0, -ENOMEDIUM, 0))
say({"pid": pid, "call": call, "waits": waits})
