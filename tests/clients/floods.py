"""Floods and slow clients: meanwhile others are served within a second, and memory stays where it is (S-86, S-87).

Each flood works for a few seconds beside an ordinary client, whose requests come on connections of their own.
"""

import contextlib
import os
import socket
import struct
import threading
import time

from frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Wire,
    block,
    frame,
    request,
)
from world import MIB, Authority, Gateway, Load, Peer, parts, run, settled, told, until

MEMORY = 64  # MiB that a flood may add
PATIENCE = 1000  # ms within which others are served
MANY = 500
IDLE = 5000


def main(score):
    upstream, authority = Peer(), Authority()
    hall = Hall(upstream, authority)
    wire = Wire(hall.plain.port)
    wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, request("/?n=10", f"localhost:{hall.plain.port}")))
    wire.until(HEADERS)
    score.check(
        "a request whose frames are written by hand is answered", (wire.until(DATA) or [0] * 4)[3] == b"abcdefghij"
    )
    seconds = 10 if score.full else 2
    parts(
        score,
        *(
            (name, lambda name=name, flood=flood: under(score, hall, name, flood, seconds))
            for name, flood in FLOODS.items()
        ),
    )
    parts(score, ("deadlines", lambda: deadlines(score, hall)), ("one address", lambda: one_address(score, upstream)))
    score.check(
        "after all of it the gateway still runs",
        hall.plain.process.child.poll() is None and hall.safe.process.child.poll() is None,
    )


class Hall:
    """A gateway in clear text and one with TLS, which allow what the floods open."""

    def __init__(self, upstream, authority):
        self.upstream = upstream
        certificate, key = authority.issue("localhost")
        limits = {"connections": 20000, "connections_per_address": 20000}
        self.plain = Gateway(upstream.url, limits=limits)
        self.safe = Gateway(
            upstream.url,
            scheme="https",
            limits=limits,
            listen=[{"address": "127.0.0.1:PORT", "tls": {"certificate": str(certificate), "key": str(key)}}],
        )


def under(score, hall, name, flood, seconds):
    """One flood, beside an ordinary client."""
    gateway = hall.safe if name.startswith("TLS") else hall.plain
    Load(gateway.url, workers=8, requests=2000).result()  # so that what is allocated once is there
    before = settled("memory", gateway.process.memory, 20)
    gateway.process.forget_peak()
    asked = hall.upstream.asked()
    ordinary = Load(gateway.url, workers=2, rate=20, fresh=True, timeout=10)
    said = flood(gateway.port, time.monotonic() + seconds)
    counted = ordinary.stop()
    grown = (gateway.process.memory("VmHWM") - before) / MIB
    reached = hall.upstream.asked() - asked - counted["requests"]
    figures = f"{said.told}; others: {counted['requests']} requests, longest {counted['max']:.0f} ms; memory +{grown:.1f} MiB; {reached} reached the upstream"
    served = counted["failed"] == 0 and counted["max"] < PATIENCE and counted["requests"] > 10
    score.check(
        f"{name}: others are served within {PATIENCE} ms", served, figures if served else f"{figures} ({told(counted)})"
    )
    score.check(f"{name}: memory grows by at most {said.memory} MiB", grown <= said.memory, f"{grown:.1f} MiB")
    if said.must_end:
        score.check(
            f"s87: {name}: the connection is ended",
            said.ended > 0,
            f"{said.ended} ended, after {said.sent // max(said.ended, 1)} frames each",
        )
    score.figure(
        f"{name}: longest wait of others, growth of memory",
        f"{counted['max']:.0f} ms, {grown:.1f} MiB",
        f"< {PATIENCE} ms, ≤ {said.memory} MiB",
    )


class Said:
    """What a flood did."""

    def __init__(self, told="", ended=0, sent=0, must_end=False, memory=MEMORY):
        self.told, self.ended, self.sent, self.must_end, self.memory = told, ended, sent, must_end, memory


# --- slow clients -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(port, count, first):
    """So many connections that have sent `first`."""
    wires = []
    try:
        for _ in range(count):
            wire = socket.create_connection(("127.0.0.1", port), timeout=10)
            wires.append(wire)
            wire.sendall(first)
        yield wires
    finally:
        for wire in wires:
            wire.close()


def trickle(wires, until_, piece):
    """Sends `piece` on every connection twice a second."""
    alive = set(wires)
    while time.monotonic() < until_:
        for wire in list(alive):
            try:
                wire.sendall(piece)
            except OSError:
                alive.discard(wire)
        time.sleep(0.5)
    return len(alive)


def slow_heads(port, until_):
    with opened(port, MANY, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") as wires:
        return Said(f"{trickle(wires, until_, b'a')} of {MANY} connections still sending their head")


def slow_bodies(port, until_):
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with opened(port, MANY, head) as wires:
        return Said(f"{trickle(wires, until_, b'a')} of {MANY} connections still sending their body")


def slow_chunks(port, until_):
    with opened(port, MANY, b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n") as wires:
        return Said(
            f"{trickle(wires, until_, b'1' + bytes([13, 10]) + b'a' + bytes([13, 10]))} of {MANY} connections still sending chunks of a byte"
        )


def never_reading(port, until_):
    wires = []
    for _ in range(100):
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.settimeout(10)
        wire.connect(("127.0.0.1", port))
        wire.sendall(b"GET /?n=1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wires.append(wire)
    time.sleep(max(0, until_ - time.monotonic()))
    for wire in wires:
        wire.close()
    return Said("100 connections that asked for 1 GB each and read nothing")


def never_reading2(port, until_):
    """The same in HTTP/2, with a window as wide as it goes."""
    wires = []
    for _ in range(10):
        wire = Wire(port, struct.pack(">HI", 4, 0x7FFFFFFF))
        wire.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFF0000)))
        for number in range(50):
            wire.send(
                frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, request("/?n=1000000", f"localhost:{port}"))
            )
        wires.append(wire)
    time.sleep(max(0, until_ - time.monotonic()))
    for wire in wires:
        wire.close()
    # a price and no flood, too: three reads of an upstream's answer wait in each stream, of up to 32 KiB
    return Said("10 connections with 50 streams each that asked for 1 MB and read nothing", memory=500 * 160 // 1024)


def stalled_handshakes(port, until_):
    hello = bytes.fromhex("16030102000100") + b"\x01\xfc\x03\x03" + os.urandom(20)  # the beginning of a ClientHello
    with opened(port, MANY, hello) as wires, opened(port, MANY, b"") as others:
        time.sleep(max(0, until_ - time.monotonic()))
        return Said(f"{len(wires) + len(others)} handshakes begun and not gone on with")


def idle(port, until_):
    """Each is served before the next connects, so that what is measured is waiting and nothing else."""
    with contextlib.ExitStack() as held:
        for _ in range(IDLE):
            wire = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            wire.sendall(b"GET /?n=10 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wire.recv(4096)
        time.sleep(max(0, until_ - time.monotonic()))
        # what a connection costs is a price and no flood; 16 KiB of it are the HTTP library's two buffers
        return Said(f"{IDLE} connections that have been served once and wait", memory=IDLE * 20 * 1024 // MIB)


# --- frames -----------------------------------------------------------------------------------------------------


def writers(count, port, until_, begin, more, reads=False):
    """Connections that write frames as fast as they are taken, each anew when it has been ended."""
    said, lock = Said(must_end=True), threading.Lock()

    def one():
        while time.monotonic() < until_:
            wire, sent, turn = None, 0, 0
            try:
                wire = Wire(port, timeout=5)
                wire.send(*begin(port))
                wire.socket.settimeout(1)
                while time.monotonic() < until_:
                    frames = more(turn)
                    wire.socket.sendall(b"".join(frames))
                    sent, turn = sent + len(frames), turn + 1
                    if reads:
                        drain(wire.socket)
                ended = 0
            except TimeoutError:  # it is not read from: no flood either
                ended = 1
            except OSError:
                ended = 1
            if wire:
                wire.close()
            with lock:
                said.ended, said.sent = said.ended + ended, said.sent + sent

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said.told = f"{said.sent} frames on {count} connections, {said.ended} times ended"
    return said


def drain(wire):
    """Takes what has come, and raises what there is to raise."""
    wire.setblocking(False)
    try:
        while True:
            if not wire.recv(65536):
                raise ConnectionResetError("ended")
    except BlockingIOError:
        pass
    finally:
        wire.settimeout(1)


def followed(port, until_, kind, payload):
    """Requests, fifty at a time, each followed by a frame of its stream."""

    def pairs(turn):
        numbers = [2 * (turn * 50 + i) + 1 for i in range(50)]
        return [
            one
            for number in numbers
            for one in (
                frame(HEADERS, END_HEADERS | END_STREAM, number, request("/", f"localhost:{port}")),
                frame(kind, 0, number, payload),
            )
        ]

    return writers(8, port, until_, lambda _: [], pairs, reads=True)


def rapid_reset(port, until_):
    return followed(port, until_, RST_STREAM, struct.pack(">I", 8))


def bad_streams(port, until_):
    """Streams that we have to reset ourselves ("MadeYouReset"): a window update of zero after each request."""
    return followed(port, until_, WINDOW_UPDATE, struct.pack(">I", 0))


def continuation(port, until_):
    return writers(
        8,
        port,
        until_,
        lambda port: [frame(HEADERS, END_STREAM, 1, request("/", f"localhost:{port}"))],
        lambda turn: [frame(CONTINUATION, 0, 1, block((f"x-{turn}-{i}", "a" * 100))) for i in range(20)],
    )


def empty_continuation(port, until_):
    return writers(
        8,
        port,
        until_,
        lambda port: [frame(HEADERS, END_STREAM, 1, request("/", f"localhost:{port}"))],
        lambda _: [frame(CONTINUATION, 0, 1)] * 500,
    )


def settings(port, until_):
    return writers(
        8,
        port,
        until_,
        lambda _: [],
        lambda turn: [frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535 + turn % 2))] * 500,
    )


def ping(port, until_):
    return writers(8, port, until_, lambda _: [], lambda _: [frame(PING, 0, 0, b"12345678")] * 500)


def empty_data(port, until_):
    return writers(
        8,
        port,
        until_,
        lambda port: [frame(HEADERS, END_HEADERS, 1, request("/", f"localhost:{port}", "POST"))],
        lambda _: [frame(DATA, 0, 1)] * 500,
    )


def priority(port, until_):
    return writers(
        8, port, until_, lambda _: [], lambda turn: [frame(PRIORITY, 0, 2 * turn + 1, struct.pack(">IB", 0, 15))] * 500
    )


def window_updates(port, until_):
    return writers(
        8,
        port,
        until_,
        lambda port: [frame(HEADERS, END_HEADERS, 1, request("/", f"localhost:{port}", "POST"))],
        lambda _: [frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))] * 500,
    )


def header_bomb(port, until_):
    """One large entry in the table, and requests that name it thousands of times (RFC 7541, section 7.3)."""
    entry = b"\x40" + block(("x-bomb", "a" * 3900))[1:]

    def requests(turn):
        first = (
            [frame(HEADERS, END_HEADERS | END_STREAM, 1, request("/", f"localhost:{port}") + entry)]
            if turn == 0
            else []
        )
        return first + [
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * turn + 3, request("/", f"localhost:{port}") + b"\xbe" * 16000)
        ]

    return writers(8, port, until_, lambda _: [], requests, reads=True)


FLOODS = {
    "slow heads": slow_heads,
    "slow bodies": slow_bodies,
    "slow chunks": slow_chunks,
    "clients that never read": never_reading,
    "clients that never read, HTTP/2": never_reading2,
    "TLS handshakes that stall": stalled_handshakes,
    f"{IDLE} idle connections": idle,
    "rapid reset": rapid_reset,
    "resets that we are made to send": bad_streams,
    "CONTINUATION": continuation,
    "empty CONTINUATION": empty_continuation,
    "SETTINGS": settings,
    "PING": ping,
    "empty DATA": empty_data,
    "PRIORITY": priority,
    "WINDOW_UPDATE": window_updates,
    "a header bomb": header_bomb,
}


# --- deadlines and limits ---------------------------------------------------------------------------------------


def deadlines(score, hall):
    """S-86: who does not go on is let go. All wait at once, so that the longest of them is all the time it takes."""
    hello = bytes.fromhex("16030102000100")
    kinds = {
        "a head that never ends": (hall.plain.port, b"GET / HTTP/1.1\r\nHost: loc", 10),
        "nothing at all": (hall.plain.port, b"", 10),
        "a handshake that stops": (hall.safe.port, hello, 10),
        "a handshake that never begins": (hall.safe.port, b"", 10),
        "half a preface of HTTP/2": (hall.plain.port, b"PRI * HTTP/2.0\r\n\r\nSM", 10),
    }
    if score.full:
        kinds["a body that stops"] = (
            hall.plain.port,
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\na",
            30,
        )
        kinds["a connection that was served and waits"] = (
            hall.plain.port,
            b"GET /?n=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            75,
        )
    ended = {}

    def wait(name, port, sent, limit):
        with socket.create_connection(("127.0.0.1", port), timeout=limit + 8) as wire:
            wire.sendall(sent)
            start = time.monotonic()
            try:
                while wire.recv(4096):
                    pass
            except TimeoutError:
                return
            except OSError:
                pass
            ended[name] = time.monotonic() - start

    threads = [threading.Thread(target=wait, args=(name, *kind)) for name, kind in kinds.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (_, _, limit) in kinds.items():
        took = ended.get(name)
        score.check(
            f"s86: {name}: ended within {limit} s",
            took is not None and took <= limit + 2,
            f"after {took:.1f} s" if took else "never",
        )


def one_address(score, upstream):
    """S-86: one address has so many connections and no more; another is served all the same."""
    gateway = Gateway(upstream.url, limits={"connections": 1000, "connections_per_address": 50})
    ask = b"GET /?n=10 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with opened(gateway.port, 60, b"") as wires:
        served = 0
        for wire in wires:
            wire.settimeout(3)
            with contextlib.suppress(OSError):
                wire.sendall(ask)
                served += wire.recv(4096).startswith(b"HTTP/1.1 200")
        score.check("s86: of 60 connections of one address 50 are served", served == 50, served)
        with socket.socket() as other:
            other.settimeout(3)
            other.bind(("127.0.0.2", 0))
            other.connect(("127.0.0.1", gateway.port))
            other.sendall(ask)
            score.check("s86: another address is served meanwhile", other.recv(4096).startswith(b"HTTP/1.1 200"))
    until("places are free again", lambda: Load(gateway.url, workers=1, requests=1).result()["failed"] == 0, 10)
    score.check("s86: places that are free again are given again", True)


if __name__ == "__main__":
    run(main)
