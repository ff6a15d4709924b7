"""The life of the process under load: reloads, listeners that come and go, SIGTERM, systemd's readiness and sockets.

A client that counts (`peer load`) works all the while, in HTTP/1.1 and HTTP/2; what it may not see is a failed request.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time

from frames import END_HEADERS, END_STREAM, GOAWAY, HEADERS, Wire, frame, request
from world import CLEAN, PROGRAM, Authority, Gateway, Load, Peer, folder, free_port, http_get, parts, run, told, until
from rig import Upstream as NodeUpstream
from wire import ask, echo, upgrade

# The gateway's own address is https; its listener in clear text stands behind what ends TLS, and is told so.
FORWARDED = "X-Forwarded-Proto: https"
TRUSTED = {"scheme": "https", "trusted_proxies": ["127.0.0.0/8"]}
LAST_REQUESTS = 10  # seconds that requests in hand have after the drain, as docs/configuration.md says


def main(score):
    upstream, authority = Peer(), Authority()
    every = {
        "reloads": reloads,
        "listeners": listeners,
        "SIGTERM": terminate,
        "notify": notify,
        "activation": activation,
    }
    parts(score, *((name, lambda part=part: part(score, upstream, authority)) for name, part in every.items()))


def both(authority):
    """A listener with TLS at `PORT` and one in clear text; the latter's port."""
    certificate, key = authority.issue("localhost")
    port = free_port()
    return port, [
        {"address": "127.0.0.1:PORT", "tls": {"certificate": str(certificate), "key": str(key)}},
        {"address": f"127.0.0.1:{port}"},
    ]


def loads(plain, tls, rate=1.0):
    """Clients of every kind on these two ports, at rates that leave the machine time for the rest."""
    clear, safe = {"url": f"http://localhost:{plain}", "header": FORWARDED}, {"url": f"https://localhost:{tls}"}
    return {
        "HTTP/1.1": Load(**clear, workers=8, rate=200 * rate),
        "HTTP/1.1, POST": Load(**clear, workers=4, rate=50 * rate, method="POST", body=20000),
        "HTTP/1.1, new connections": Load(**clear, workers=2, rate=50 * rate, fresh=True),
        "HTTP/1.1 over TLS": Load(**safe, workers=4, rate=100 * rate),
        "HTTP/2 over TLS": Load(**safe, workers=16, h2=True, rate=200 * rate),
        "HTTP/2 in clear text": Load(**clear, workers=16, h2=True, rate=200 * rate),
    }


def get(port, target="/"):
    """The status of a request in clear text; 0 if there is no answer."""
    try:
        return http_get(port, target, timeout=3, more=f"{FORWARDED}\r\n")[0]
    except OSError:
        return 0


def judge(score, claim, running, least=20):
    """Ends all loads; none may have failed."""
    for name, load in running.items():
        counted = load.stop()
        score.check(
            f"{claim}, {name}: no request fails", counted["failed"] == 0 and counted["requests"] >= least, told(counted)
        )


def count(gateway, text):
    return sum(text in str(line.get("message", "")) for line in gateway.log())


def reloads(score, upstream, authority):
    """Half of them by SIGHUP, half by the changed file alone, every one with another label on the route."""
    turns = 100 if score.full else 8
    plain, listen = both(authority)
    gateway = Gateway(upstream.url, listen=listen, **TRUSTED)
    running = loads(plain, gateway.port)
    lines = max(40, turns * 15)
    held = {"HTTP/1.1": drips(gateway.url, False, lines), "HTTP/2": drips(gateway.url, True, lines)}
    start = time.monotonic()
    for turn in range(turns):
        taken = count(gateway, "configuration and policies reloaded")
        gateway.write(
            routes=[{"name": "app", "upstream": upstream.url, "allow": ["public"], "labels": {"turn": str(turn)}}]
        )
        if turn % 2:
            gateway.signal(signal.SIGHUP)
        until(
            f"reload {turn + 1} is taken",
            lambda taken=taken: count(gateway, "configuration and policies reloaded") > taken,
            15,
            0.05,
        )
    took = time.monotonic() - start
    judge(score, f"{turns} reloads in {took:.0f} s", running)
    for name, load in held.items():
        counted = load.result(turns * 3 + 60)
        score.check(
            f"{turns} reloads, streams of {name} that were open before: whole",
            counted["ok"] == 5 and counted["failed"] == 0,
            told(counted),
        )
    bad = count(gateway, "is not taken")
    gateway.config.write_text("routes: [")
    gateway.signal(signal.SIGHUP)
    until("a broken file is refused", lambda: count(gateway, "is not taken") > bad, 15, 0.05)
    score.check("after a broken file the old configuration serves", get(plain) == 200)
    score.figure(
        f"{turns} reloads under load, HTTP/1.1 and HTTP/2: failed requests", "0" if not score.failed else "some", "0"
    )


def drips(base, h2, lines):
    """Five answers that take `lines` times 100 ms, begun now."""
    return Load(f"{base}/drip?lines={lines}&every=100&status=200", workers=5, requests=5, timeout=3600, h2=h2)


def listeners(score, upstream, authority):
    """A listener is added and taken away while the others serve, and while its own connections are in use."""
    plain, listen = both(authority)
    gateway = Gateway(upstream.url, listen=listen, **TRUSTED)
    running = loads(plain, gateway.port, 0.5)
    second = free_port()
    for turn in range(3 if score.full else 2):
        gateway.write(listen=[*listen, {"address": f"127.0.0.1:{second}"}])
        gateway.signal(signal.SIGHUP)
        until("the new listener serves", lambda: get(second) == 200, 15)
        slow = begin(second, "/?ms=2500")
        gateway.write(listen=listen)
        gateway.signal(signal.SIGHUP)
        until("it is gone", lambda: get(second) == 0, 15)
        score.check(f"turn {turn + 1}: a listener comes and goes; what it was serving ends well", finish(slow) == 200)
    judge(score, "listeners that come and go", running)
    free = free_port()
    taken = socket.socket()
    taken.bind(("127.0.0.1", free))
    taken.listen()
    bad = count(gateway, "is not taken")
    gateway.write(listen=[*listen, {"address": f"127.0.0.1:{free}"}])
    gateway.signal(signal.SIGHUP)
    until("an address in use is refused", lambda: count(gateway, "is not taken") > bad, 15)
    score.check("a listener whose address is in use leaves the old ones serving", get(plain) == 200)


def begin(port, target):
    """A request whose answer is not read yet."""
    wire = socket.create_connection(("127.0.0.1", port), timeout=30)
    wire.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{FORWARDED}\r\n\r\n".encode())
    return wire


def finish(wire):
    """The status of its answer, if all of it came; its head, in lower case, is kept at `finish.head`."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = wire.recv(65536)
        if not piece:
            return None
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    finish.head = head.lower().decode("latin-1")
    length = int(re.search(r"content-length: (\d+)", finish.head)[1])
    while len(body) < length:
        piece = wire.recv(65536)
        if not piece:
            return None
        body += piece
    return int(head.split(b" ")[1])


def terminate(score, upstream, authority):
    """SIGTERM: readiness fails at once, connections are accepted until the drain is over, all that is in hand ends well."""
    drain = 4
    plain, listen = both(authority)
    sockets = NodeUpstream()
    routes = [
        {"name": "app", "host": "localhost", "upstream": upstream.url, "allow": ["public"]},
        {"name": "ws", "host": "localhost", "path": "/ws/", "upstream": sockets.url, "allow": ["public"]},
    ]
    gateway = Gateway(routes=routes, listen=listen, drain=f"{drain}s", **TRUSTED)
    asyncio.run(drained(score, gateway, plain, loads(plain, gateway.port, 0.5), drain))


async def drained(score, gateway, plain, running, drain):
    loop = asyncio.get_running_loop()
    status, _, reader, writer = await ask(
        plain, "/ws/", {**upgrade(gateway.url), "X-Forwarded-Proto": "https"}, f"localhost:{gateway.port}"
    )
    score.check(
        "a WebSocket is open before SIGTERM", status == 101 and await echo(reader, writer, "hello") == "hello", status
    )
    late = f"/?ms={(drain + 2) * 1000}&n=10"
    idle, multiplexed = Wire(plain), Wire(plain)
    idle.send(call(1, "/?n=10"))
    assert idle.until(HEADERS)
    kept = begin(plain, "/?n=10")
    assert finish(kept) == 200
    slow = [begin(plain, late) for _ in range(10)]
    stream = drips(gateway.url, False, (drain + 3) * 10)
    for number in range(10):
        multiplexed.send(call(2 * number + 1, late))
    await asyncio.sleep(0.5)
    gateway.signal(signal.SIGTERM)
    start = time.monotonic()
    ready = await loop.run_in_executor(
        None,
        lambda: (
            until("readiness fails", lambda: http_get(gateway.operations, "/readyz")[0] == 503, 2)
            and time.monotonic() - start
        ),
    )
    score.check("after SIGTERM readiness fails at once", ready < 1, f"{ready * 1000:.0f} ms")
    # new connections all through the drain
    tried = refused = 0
    polite = []
    while time.monotonic() - start < drain - 0.6:
        tried += 1
        try:
            wire = await loop.run_in_executor(None, begin, plain, "/?n=10")
            if await loop.run_in_executor(None, finish, wire) != 200:
                refused += 1
            polite.append("connection: close" in finish.head)
        except OSError:
            refused += 1
        await asyncio.sleep(0.05)
    judged = {name: await loop.run_in_executor(None, load.stop) for name, load in running.items()}
    until_now = time.monotonic() - start
    score.check(
        "no connection is refused before the drain ends",
        refused == 0 and tried > 20,
        f"{tried} tried, {refused} refused, the last after {until_now:.1f} of {drain} s",
    )
    end = await loop.run_in_executor(None, kept.recv, 1)
    score.check("an idle HTTP/1.1 connection is closed", end == b"")
    score.check(
        "answers during the drain close their connection politely",
        all(polite),
        f"{sum(polite)} of {len(polite)} say `Connection: close`",
    )
    for name, counted in judged.items():
        score.check(
            f"SIGTERM under load, {name}: no request fails",
            counted["failed"] == 0 and counted["requests"] > 20,
            told(counted),
        )
    goaway = await loop.run_in_executor(None, idle.until, GOAWAY)
    score.check(
        "an idle HTTP/2 connection gets GOAWAY",
        goaway is not None and int.from_bytes(goaway[3][4:8], "big") == 0,
        "error code 0" if goaway else "closed without a word",
    )
    ended = [await loop.run_in_executor(None, finish, wire) for wire in slow]
    score.check(
        "requests in hand that outlast the drain are answered, HTTP/1.1",
        ended == [200] * 10,
        f"{sum(one == 200 for one in ended)} of 10",
    )
    ended = set()
    while len(ended) < 10 and (got := await loop.run_in_executor(None, multiplexed.until, HEADERS)):
        ended.add(got[2])
    score.check("requests in hand that outlast the drain are answered, HTTP/2", len(ended) == 10, f"{len(ended)} of 10")
    counted = await loop.run_in_executor(None, stream.result)
    score.check("streams that outlast the drain come whole", counted["ok"] == 5, told(counted))
    await deadline(score, reader, start, drain)
    code = await loop.run_in_executor(None, lambda: gateway.process.child.wait(timeout=30))
    score.check(
        "the process ends well, and in time",
        code == 0 and time.monotonic() - start < drain + LAST_REQUESTS + 5,
        f"exit code {code} after {time.monotonic() - start:.1f} s",
    )


def call(stream, target):
    """A whole request in HTTP/2."""
    return frame(
        HEADERS, END_HEADERS | END_STREAM, stream, request(target, "localhost", "GET", ("x-forwarded-proto", "https"))
    )


async def deadline(score, reader, start, drain):
    """An open WebSocket is closed, at the latest when the last requests' time is over."""
    try:
        said = await asyncio.wait_for(reader.read(100), drain + LAST_REQUESTS + 5)
    except (TimeoutError, ConnectionError) as fault:
        said = fault
    took = time.monotonic() - start
    # 0x88: a close frame (RFC 6455, section 5.5.1); an end without one is allowed, a hang is not
    closed = isinstance(said, bytes) and (said == b"" or said[0] == 0x88)
    score.check(
        "an open WebSocket gets a deadline",
        closed and took < drain + LAST_REQUESTS + 3,
        f"ended after {took:.1f} s" + (f" with close frame {said.hex()}" if closed and said else ""),
    )


# --- systemd ----------------------------------------------------------------------------------------------------


def notify(score, upstream, _):
    """`Type=notify`: READY when it serves and not before, WATCHDOG while it lives, STOPPING when told to stop."""
    path = folder() / "notify"
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.bind(str(path))
    box.settimeout(15)
    gateway = Gateway(
        upstream.url, wait=False, drain="0s", env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"}
    )
    while "READY=1" not in (said := box.recv(4096).decode()):
        pass
    score.check(
        "systemd is told READY, and then it serves",
        "READY=1" in said and http_get(gateway.port)[0] == 200,
        said.strip(),
    )
    beats = [time.monotonic() for _ in range(5) if "WATCHDOG=1" in box.recv(4096).decode()]
    score.check(
        "systemd's watchdog is fed within half its time",
        len(beats) == 5 and max(b - a for a, b in zip(beats, beats[1:])) < 0.8,
        f"{len(beats)} beats",
    )
    gateway.signal(signal.SIGTERM)
    while "STOPPING=1" not in (said := box.recv(4096).decode()):
        pass
    score.check("systemd is told STOPPING", True, said.strip())
    gateway.process.child.wait(timeout=20)


LAUNCH = (
    "import os, sys; fds = [int(fd) for fd in sys.argv[1].split(',')]; [os.dup2(fd, 3 + i) for i, fd in enumerate(fds)];"
    " os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[2]);"
    " [os.set_inheritable(3 + i, True) for i in range(len(fds))]; os.execvp(sys.argv[3], sys.argv[3:])"
)


class Activated(Gateway):
    """A gateway whose sockets are held outside, as systemd holds them."""

    def __init__(self, held, names, *words, **more):
        self.held, self.names = held, names
        super().__init__(*words, **more)

    def start(self, wait=True):
        log = open(self.folder / "log", "ab")
        numbers = ",".join(str(100 + i) for i in range(len(self.held)))
        for i, one in enumerate(self.held):
            os.dup2(one.fileno(), 100 + i)
        command = [sys.executable, "-c", LAUNCH, numbers, ":".join(self.names), PROGRAM, "run", "-c", str(self.config)]
        self.child = subprocess.Popen(
            command, stderr=log, stdin=subprocess.DEVNULL, env=CLEAN, pass_fds=[100 + i for i in range(len(self.held))]
        )
        until("vestibule listens", self.ready)

    def must_run(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"vestibule ended: {(self.folder / 'log').read_text()[-600:]}")


def activation(score, upstream, authority):
    """Sockets of systemd: what comes while nobody serves waits in their queue, so that a restart loses no request."""
    certificate, key = authority.issue("localhost")
    held = []
    for _ in range(2):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        one.listen(4096)
        held.append(one)
    ports = [one.getsockname()[1] for one in held]
    listen = [
        {"address": "systemd:plain"},
        {"address": "systemd:tls", "tls": {"certificate": str(certificate), "key": str(key)}},
    ]
    gateway = Activated(held, ["plain", "tls"], upstream.url, listen=listen, at=ports[1], drain="1s", **TRUSTED)
    try:
        running = loads(*ports, 0.3)
        pauses = []
        for _ in range(5 if score.full else 3):
            os.kill(gateway.child.pid, signal.SIGTERM)
            gateway.child.wait(timeout=30)
            start = time.monotonic()
            gateway.start()
            pauses.append(time.monotonic() - start)
            until("it serves again", lambda: get(ports[0]) == 200, 15)
        judge(score, f"{len(pauses)} restarts behind systemd's sockets", running)
        score.check(
            "each restart is a pause that clients only wait through",
            max(pauses) < 10,
            ", ".join(f"{pause:.2f} s" for pause in pauses),
        )
    finally:
        gateway.child.kill()


if __name__ == "__main__":
    run(main)
