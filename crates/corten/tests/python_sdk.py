"""What users of the Docker SDK for Python do every day; DOCKER_HOST names the daemon."""

import threading

import docker
import docker.errors

client = docker.from_env(timeout=60)


def case(function):
    print("case", function.__name__, flush=True)
    function()


@case
def the_daemon_answers():
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.55"
    assert client.info()["Swarm"]["LocalNodeState"] == "inactive"


@case
def run_returns_output():
    assert client.containers.run("busybox", "echo hi", remove=True, network_mode="none") == b"hi\n"


@case
def a_failed_command_raises_with_its_status():
    try:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    except docker.errors.ContainerError as error:
        assert error.exit_status == 3, error
        assert error.stderr == b"bad\n", error.stderr
    else:
        raise AssertionError("no error")


@case
def missing_things_raise_not_found():
    for call, kind in [
        (lambda: client.containers.get("nosuch"), docker.errors.NotFound),
        (lambda: client.images.get("nosuch"), docker.errors.ImageNotFound),
        (lambda: client.volumes.get("nosuch"), docker.errors.NotFound),
        (lambda: client.networks.get("nosuch"), docker.errors.NotFound),
    ]:
        try:
            call()
        except kind:
            continue
        raise AssertionError(kind)


@case
def a_container_lives_and_is_removed():
    container = client.containers.run("busybox", ["sh", "-c", "echo one; echo two >&2; sleep 1000"], detach=True, name="sdk", labels={"k": "v"})
    try:
        container.reload()
        assert container.status == "running"
        assert container.labels == {"k": "v"}
        assert [c.id for c in client.containers.list(filters={"label": "k=v"})] == [container.id]
        code, output = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
        assert (code, output) == (4, (b"out\n", b"err\n")), (code, output)
        assert container.logs(stdout=True, stderr=False) == b"one\n"
        assert container.logs(stdout=False, stderr=True) == b"two\n"
        assert container.attrs["Config"]["Labels"] == {"k": "v"}
        container.kill()
        assert container.wait()["StatusCode"] == 137
        assert client.containers.list() == []
    finally:
        container.remove(force=True)
    assert client.containers.list(all=True) == []


@case
def attach_before_start_sees_everything():
    container = client.containers.create("busybox", ["sh", "-c", "read a; echo got $a"], stdin_open=True)
    socket = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    socket._sock.sendall(b"word\n")
    frame = b""
    while len(frame) < 8 + 9:
        frame += socket._sock.recv(4096)
    assert frame == b"\x01\0\0\0\0\0\0\x09got word\n", frame
    socket.close()
    assert container.wait()["StatusCode"] == 0
    container.remove()


@case
def images_load_and_tag():
    image = client.images.get("busybox")
    assert image.tag("local/other", "v2")
    assert "local/other:v2" in client.images.get(image.id).tags
    client.images.remove("local/other:v2")
    assert len(image.history()) == 1


@case
def a_volume_keeps_its_files():
    volume = client.volumes.create("sdk-volume", labels={"a": "b"})
    mount = {"sdk-volume": {"bind": "/v", "mode": "rw"}}
    client.containers.run("busybox", ["sh", "-c", "echo kept > /v/f"], volumes=mount, remove=True)
    assert client.containers.run("busybox", ["cat", "/v/f"], volumes=mount, remove=True) == b"kept\n"
    assert [v.name for v in client.volumes.list(filters={"label": "a=b"})] == ["sdk-volume"]
    volume.remove()


@case
def events_are_streamed():
    seen = []
    events = client.events(decode=True, filters={"type": "container"})

    def read():
        for event in events:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    reader = threading.Thread(target=read)
    reader.start()
    client.containers.run("busybox", "true", remove=True, network_mode="none")
    reader.join(30)
    assert not reader.is_alive() and seen[0] == "create" and seen[-1] == "destroy", seen
    assert "die" in seen, seen
    events.close()


@case
def limits_change_and_use_is_shown():
    box = client.containers.run("busybox", "sleep 1000", detach=True, network_mode="none", mem_limit="64m")
    try:
        assert box.update(mem_limit="72m", memswap_limit="144m", cpu_shares=300)["Warnings"] is None
        box.reload()
        host = box.attrs["HostConfig"]
        assert (host["Memory"], host["MemorySwap"], host["CpuShares"]) == (72 << 20, 144 << 20, 300), host
        box.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
        box.reload()
        assert box.attrs["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
        stats = box.stats(stream=False)
        assert stats["memory_stats"]["limit"] == 72 << 20 and stats["pids_stats"]["current"] == 1, stats
        assert stats["precpu_stats"]["system_cpu_usage"] < stats["cpu_stats"]["system_cpu_usage"], stats
        stream = box.stats(decode=True)
        first, second = next(stream), next(stream)
        assert second["preread"] == first["read"] and first["id"] == box.id, second
        stream.close()
        try:
            box.update(mem_limit="1m")
        except docker.errors.APIError as error:
            assert error.response.status_code == 400 and "Minimum memory limit allowed is 6MB" in str(error), error
        else:
            raise AssertionError("a megabyte was enough")
    finally:
        box.remove(force=True)


@case
def networks_are_listed():
    names = {network.name for network in client.networks.list()}
    assert {"bridge", "host", "none"} <= names, names
    network = client.networks.create("sdk-net", driver="bridge")
    assert client.networks.get(network.id).name == "sdk-net"
    network.remove()


@case
def what_is_not_there_says_so():
    try:
        client.nodes.list()
    except docker.errors.APIError as error:
        assert error.response.status_code == 503 and "not a swarm manager" in str(error), error
    else:
        raise AssertionError("nodes were listed")


print("all done")
