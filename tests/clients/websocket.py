"""WebSockets through the gateway behave as they do without it: a client library, and the Autobahn test suite.

Autobahn's fuzzing client judges one echo server twice, straight and through the gateway; each of its verdicts must be the
same. It needs Python 2.7 (TESTS_PYTHON2, with `autobahntestsuite` in TESTS_PYTHON2_BASE). By default the cases without
big messages and without compressed series; with `--full` all 517.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from world import CLEAN, MIB, Gateway, Process, folder, free_port, reachable, run, until

PYTHON2 = os.environ.get("TESTS_PYTHON2", "python2.7")
FAULT = "fault: "
LIGHT = ["9.*", "12.*", "13.*"]
START = "from autobahntestsuite.wstest import run; run()"


async def echo_server(port):
    """An echo server; the path `/close/CODE` closes with that code, `/header` sends the handshake's headers."""

    async def answer(socket):
        path = socket.request.path
        if path.startswith("/close/"):
            await socket.close(int(path.removeprefix("/close/")), "as asked")
        elif path == "/header":
            await socket.send(json.dumps(dict(socket.request.headers.raw_items())))
        else:
            async for message in socket:
                await socket.send(message)

    def choose(_, offered):
        return next((name for name in ("chat", "super") if name in offered), None)

    async with serve(answer, "127.0.0.1", port, max_size=32 * MIB, select_subprotocol=choose):
        await asyncio.get_running_loop().create_future()


def main(score):
    port = free_port()
    echo = Process([sys.executable, __file__, "echo", str(port)])
    until("the echo server listens", lambda: reachable(port))
    gateway = Gateway(f"http://127.0.0.1:{port}")
    asyncio.run(library(score, f"ws://127.0.0.1:{port}", f"ws://localhost:{gateway.port}", gateway.url))
    autobahn(score, f"ws://127.0.0.1:{port}", f"ws://localhost:{gateway.port}")
    score.check("the echo server still runs", echo.child.poll() is None)


# --- a client library -------------------------------------------------------------------------------------------


async def library(score, straight, through, origin):
    for name, deed in DEEDS.items():
        want, got = [await outcome(deed, url, origin) for url in (straight, through)]
        good = not want.startswith(FAULT)
        score.check(
            f"{name}: as without the gateway", good and want == got, got if want == got else f"{got}, not {want}"
        )


async def outcome(deed, url, origin):
    """What a deed says, or how it failed."""
    try:
        return await asyncio.wait_for(deed(url, origin), 30)
    except (ConnectionClosed, OSError, websockets.InvalidHandshake, TimeoutError) as fault:
        return f"{FAULT}{type(fault).__name__}: {fault}"


async def messages(url, origin, size, compression):
    async with connect(url, origin=origin, compression=compression, max_size=32 * MIB) as socket:
        for message in ("x" * size, b"\x00\xff" * (size // 2)):
            await socket.send(message)
            if await socket.recv() != message:
                return "a message came back changed"
        used = [type(extension).__name__ for extension in socket.protocol.extensions]
        return f"{size} bytes of text and of data come back, extensions {used}"


async def fragments(url, origin):
    async with connect(url, origin=origin) as socket:
        await socket.send(f"piece {i} " for i in range(50))
        return f"{len(await socket.recv())} characters of 50 fragments"


async def ping(url, origin):
    async with connect(url, origin=origin, ping_interval=None) as socket:
        await (await socket.ping(b"are you there"))
        return "a ping is answered"


async def closing(url, origin, code):
    async with connect(f"{url}/close/{code}", origin=origin) as socket:
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            return f"closed with {closed.rcvd.code} {closed.rcvd.reason}"


async def protocols(url, origin):
    async with connect(url, origin=origin, subprotocols=["super", "chat"]) as socket:
        return f"subprotocol {socket.subprotocol}"


async def parallel(url, origin):
    async def one(number):
        async with connect(url, origin=origin) as socket:
            await socket.send(str(number))
            return await socket.recv() == str(number)

    return f"{sum(await asyncio.gather(*map(one, range(100))))} of 100 at once"


DEEDS = {
    "small messages": lambda url, origin: messages(url, origin, 64, None),
    "small messages, compressed": lambda url, origin: messages(url, origin, 64, "deflate"),
    "messages of 1 MiB": lambda url, origin: messages(url, origin, MIB, None),
    "messages of 16 MiB, compressed": lambda url, origin: messages(url, origin, 16 * MIB, "deflate"),
    "fragments": fragments,
    "ping": ping,
    "normal closure": lambda url, origin: closing(url, origin, 1000),
    "closure with a code of an application": lambda url, origin: closing(url, origin, 4321),
    "subprotocols": protocols,
    "a hundred at once": parallel,
}


# --- Autobahn ---------------------------------------------------------------------------------------------------


def autobahn(score, straight, through):
    out = folder()
    if subprocess.run([PYTHON2, "-c", "import autobahntestsuite"], env=python2(), capture_output=True).returncode:
        score.check("Autobahn's test suite can run", False, f"`{PYTHON2}` is not a Python 2.7 with autobahntestsuite")
        return
    places = {"straight": straight, "through": through}
    long = 1500 if score.full else 150
    want, got = (
        judged(out / agent, agent, url, ["*"], [] if score.full else LIGHT, long) for agent, url in places.items()
    )
    score.check(
        "Autobahn runs every case both times",
        len(want) >= 247 and want.keys() == got.keys(),
        f"{len(want)} and {len(got)}",
    )
    passed = sum(verdict == ("OK", "OK") for verdict in want.values())
    score.check(
        "Autobahn is content with the echo server itself", passed > 0.9 * len(want), f"{passed} OK of {len(want)}"
    )
    others = differing(out, places, want, got)
    said = ", ".join(
        f"{count} {verdict}" for verdict, count in Counter(verdict for verdict, _ in got.values()).most_common()
    )
    score.check(
        "Autobahn's verdicts are the same through the gateway as straight", not others, "; ".join([said, *others[:10]])
    )
    score.figure(
        "Autobahn test suite, verdicts as without the proxy", f"{len(want) - len(others)} of {len(want)}", "all"
    )


def judged(out, agent, url, cases, left_out, seconds):
    """The verdicts of one run: behaviour and closing of each case."""
    out.mkdir(exist_ok=True)
    spec = out / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(out),
                "servers": [{"agent": agent, "url": url}],
                "cases": cases,
                "exclude-cases": left_out,
                "exclude-agent-cases": {},
            }
        )
    )
    subprocess.run(
        [PYTHON2, "-c", START, "-m", "fuzzingclient", "-s", str(spec)],
        env=python2(),
        cwd=out,
        capture_output=True,
        timeout=seconds,
        check=True,
    )
    return {
        name: (case["behavior"], case["behaviorClose"])
        for name, case in json.loads((out / "index.json").read_text())[agent].items()
    }


def differing(out, places, want, got):
    """Cases whose verdict differs. How soon a server fails is a matter of chance in a few (6.4: OK or NON-STRICT), so that
    those which differ are judged thrice more, and differ if no verdict was given on both sides."""
    seen = {name: ({verdict}, {got.get(name)}) for name, verdict in want.items()}
    for turn in range(3):
        if again := [name for name, (one, other) in seen.items() if not one & other]:
            for side, (agent, url) in enumerate(places.items()):
                for name, verdict in judged(out / f"{agent}-{turn}", agent, url, again, [], 300).items():
                    seen[name][side].add(verdict)
    return [
        f"{name}: {sorted(map(str, other))}, not {sorted(map(str, one))}"
        for name, (one, other) in seen.items()
        if not one & other
    ]


def python2():
    """The environment in which Python 2 finds the suite."""
    base = os.environ.get("TESTS_PYTHON2_BASE")
    kept = {name: value for name, value in CLEAN.items() if not name.startswith("PYTHON")}
    return {**kept, **({"PYTHONUSERBASE": base} if base else {})}


if __name__ == "__main__":
    if sys.argv[1:2] == ["echo"]:
        asyncio.run(echo_server(int(sys.argv[2])))
    else:
        run(main)
