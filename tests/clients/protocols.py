"""Real clients and real upstreams: curl in every version it speaks, before nginx, Node and Go; every answer as without us.

Also what stands before HTTP: a Unix socket, and the PROXY protocol version 2.
"""

import hashlib
import json
import socket
import struct
import subprocess
import time

from world import HERE, Authority, Gateway, Nginx, Peer, Process, folder, free_port, http_get, parts, run, until

# What differs with the hop and says nothing about the answer: RFC 9110, section 7.6.1, and what names the hop itself.
HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "date",
    "via",
    "x-request-id",
    "upgrade",
    "alt-svc",
    "server-timing",
    "trailer",
    "x-upstream-proto",
}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def main(score):
    upstreams = Upstreams()
    every = (plain, tls, prior_knowledge, upgrade_offer, to_http2, uploads, unix_socket, proxy_protocol)
    parts(score, *((part.__name__.replace("_", " "), lambda part=part: part(score, upstreams)) for part in every))


class Upstreams:
    """One of each kind, and the requests that each is asked."""

    def __init__(self):
        self.peer = Peer()
        files = folder()
        (files / "file.txt").write_bytes(b"0123456789abcdef" * 65536)
        (files / "page.html").write_text(
            "<!doctype html><title>page</title>" + "<p>text that compresses well</p>" * 500
        )
        port = free_port()
        self.nginx = Nginx(
            f"types {{ text/plain txt; text/html html; }} server {{ listen 127.0.0.1:{port}; root {files}; absolute_redirect off;"
            " gzip on; gzip_proxied any; gzip_http_version 1.0; location = /moved { return 301 /file.txt; }"
            " location = /teapot { return 418 short; } }",
            port,
        )
        self.node = Process(["node", str(HERE / "node-upstream.mjs")], first_line=True)
        ports = self.node.first_line()
        self.node1, self.node2 = (f"http://127.0.0.1:{ports[name]}" for name in ("one", "two"))
        self.at = {"go": self.peer.url, "nginx": f"http://127.0.0.1:{port}", "node": self.node1}

    def routes(self, **more):
        return [
            {"name": name, "host": f"{name}.localhost", "upstream": url, "allow": ["public"]}
            for name, url in {**self.at, **more}.items()
        ]


ASKED = {
    "nginx": [
        ("/file.txt",),
        ("/file.txt", "-I"),
        ("/file.txt", "-r", "100-199"),
        ("/file.txt", "-r", "-5"),
        ("/file.txt", "-r", "9999999-"),
        ("/file.txt", "-H", "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT"),
        ("/page.html", "-H", "Accept-Encoding: gzip"),
        ("/missing",),
        ("/moved",),
        ("/teapot",),
        ("/file.txt", "-X", "DELETE"),
    ],
    "node": [
        ("/",),
        ("/big",),
        ("/big", "-I"),
        ("/none",),
        ("/same",),
        ("/missing",),
        ("/cookies",),
        ("/pieces",),
        ("/?a=b&c=%20d",),
    ],
    "go": [("/",), ("/?n=0",), ("/?n=3000000",), ("/?status=503",), ("/drip?lines=5&every=10",), ("/trailers",)],
}


def curl(url, *words, timeout=20):
    """One request of curl: version, status, headers in order of name, digest of the body."""
    home = folder()
    head, body = home / "head", home / "body"
    said = subprocess.run(
        [
            "curl",
            "-sS",
            "-D",
            str(head),
            "-o",
            str(body),
            "-w",
            "%{http_version} %{response_code} %{time_total}",
            "--max-time",
            str(timeout),
            *words,
            url,
        ],
        capture_output=True,
        text=True,
    )
    if said.returncode:
        return {"fault": said.stderr.strip() or f"curl ended with {said.returncode}"}
    whole = head.read_bytes().decode("latin-1")
    heads = [
        part for part in whole.split("\r\n\r\n") if part.startswith("HTTP/")
    ]  # not the trailers, which curl puts behind
    last = heads[-1].split("\r\n")
    fields = sorted((name.lower(), value.strip()) for name, value in (line.split(":", 1) for line in last[1:]))
    version, status, took = said.stdout.split()
    content = body.read_bytes() if body.exists() else b""
    return {"version": version, "status": status, "took": float(took), "body": content, "headers": fields, "all": whole}


def same(score, claim, upstreams, base, version, words, may_lose=()):
    """Asks every upstream everything, straight and through the gateway."""
    different, asked = [], 0
    for name, requests in ASKED.items():
        if name not in upstreams.at:
            continue
        for target, *more in requests:
            asked += 1
            straight = curl(upstreams.at[name] + target, "--http1.1", *more)
            through = curl(base(name) + target, *words(name), *more)
            if why := difference(straight, through, version, may_lose):
                different.append(f"{name} {target} {' '.join(more)}: {why}")
    score.check(
        f"{claim}: every answer as without the gateway",
        not different,
        f"{asked - len(different)} of {asked} same" + "".join(f"; {one}" for one in different[:6]),
    )


def difference(straight, through, version, may_lose=()):
    """What is not the same, or nothing."""
    if not straight.get("headers"):
        return "no headers straight"
    if "fault" in straight or "fault" in through:
        return straight.get("fault", "") or through["fault"]
    if through["version"] not in version:
        return f"answered in HTTP/{through['version']}"
    if through["status"] != straight["status"]:
        return f"status {through['status']}, not {straight['status']}"
    if (
        through["body"] != straight["body"] and straight["body"][:5] != b"HTTP/"
    ):  # curl -I puts the head there, compared below
        return f"{len(through['body'])} bytes, not these {len(straight['body'])}"
    kept = [[field for field in answer["headers"] if field[0] not in HOP] for answer in (straight, through)]
    lost, more = (
        [field for field in kept[0] if field not in kept[1]],
        [field for field in kept[1] if field not in kept[0]],
    )
    # a body's length may become known; over TLS browsers are told to stay there
    more = [field for field in more if field[0] not in ("content-length", "trailer", "strict-transport-security")]
    lost = [field for field in lost if field[0] not in may_lose]
    return f"lost {lost}, added {more}" if lost or more else ""


def at(port):
    return lambda name: ["--connect-to", f"::127.0.0.1:{port}"]


def plain(score, upstreams):
    gateway = Gateway(routes=upstreams.routes())
    same(
        score,
        "curl, HTTP/1.1",
        upstreams,
        lambda name: f"http://{name}.localhost:{gateway.port}",
        ["1.1"],
        lambda name: ["--http1.1", *at(gateway.port)(name)],
    )
    same(
        score,
        "curl, HTTP/1.0",
        upstreams,
        lambda name: f"http://{name}.localhost:{gateway.port}",
        ("1", "1.1"),
        lambda name: ["--http1.0", *at(gateway.port)(name)],
    )
    # one connection, many requests
    words = [f"http://go.localhost:{gateway.port}/?n={n}" for n in range(1, 101)]
    said = subprocess.run(
        [
            "curl",
            "-sS",
            "--connect-to",
            f"::127.0.0.1:{gateway.port}",
            "-w",
            "%{num_connects}\n",
            "-o",
            "/dev/null",
            *sum([["-o", "/dev/null", word] for word in words[1:]], [words[0]]),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    opened = sum(map(int, said.stdout.split()))
    score.check(
        "a hundred requests of curl use one connection", opened == 1 and len(said.stdout.split()) == 100, f"{opened}"
    )


def tls(score, upstreams):
    authority = Authority()
    names = ["localhost", *(f"{name}.localhost" for name in upstreams.at)]
    certificate, key = authority.issue(*names)
    gateway = Gateway(
        routes=upstreams.routes(),
        scheme="https",
        listen=[{"address": "127.0.0.1:PORT", "tls": {"certificate": str(certificate), "key": str(key)}}],
    )
    trust = ["--cacert", str(authority.certificate)]
    for flag, version in (("--http1.1", "1.1"), ("--http2", "2")):
        same(
            score,
            f"curl, HTTP/{version} over TLS",
            upstreams,
            lambda name: f"https://{name}.localhost:{gateway.port}",
            [version],
            lambda name, flag=flag: [flag, *trust, *at(gateway.port)(name)],
        )
    for flag, want in (("--tls-max 1.2", "TLSv1.2"), ("--tlsv1.3", "TLSv1.3")):
        said = subprocess.run(
            [
                "curl",
                "-sSv",
                *flag.split(),
                *trust,
                "--connect-to",
                f"::127.0.0.1:{gateway.port}",
                "-o",
                "/dev/null",
                f"https://go.localhost:{gateway.port}/",
            ],
            capture_output=True,
            text=True,
            timeout=30,
        )
        score.check(f"curl, {want}", f"SSL connection using {want}" in said.stderr and said.returncode == 0)
    seen = json.loads(curl(f"https://go.localhost:{gateway.port}/echo", *trust, *at(gateway.port)("go"))["body"])
    score.check(
        "the upstream is told that it was https",
        seen["headers"].get("X-Forwarded-Proto") == ["https"],
        seen["headers"].get("X-Forwarded-Proto"),
    )


def prior_knowledge(score, upstreams):
    gateway = Gateway(routes=upstreams.routes())
    same(
        score,
        "curl, HTTP/2 by prior knowledge",
        upstreams,
        lambda name: f"http://{name}.localhost:{gateway.port}",
        ["2"],
        lambda name: ["--http2-prior-knowledge", *at(gateway.port)(name)],
    )


def upgrade_offer(score, upstreams):
    """curl offers `Upgrade: h2c` on its first request; we go on in HTTP/1.1, and the connection stays usable."""
    gateway = Gateway(routes=upstreams.routes())
    same(
        score,
        "curl, HTTP/1.1 that offers h2c",
        upstreams,
        lambda name: f"http://{name}.localhost:{gateway.port}",
        ["1.1"],
        lambda name: ["--http2", *at(gateway.port)(name)],
    )
    before = upstreams.peer.asked()
    url = f"http://go.localhost:{gateway.port}/echo"
    said = subprocess.run(
        [
            "curl",
            "-sS",
            "--http2",
            "--connect-to",
            f"::127.0.0.1:{gateway.port}",
            "-w",
            "\n%{num_connects}\n",
            url,
            url,
            url,
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    lines = said.stdout.splitlines()
    saw = [json.loads(line)["headers"] for line in lines if line.startswith("{")]
    opened = sum(int(line) for line in lines if line.isdigit())
    score.check(
        "after the offer the connection serves on",
        len(saw) == 3 and opened == 1 and upstreams.peer.asked() == before + 3,
        f"{len(saw)} answers on {opened} connection",
    )
    score.check(
        "the offer stays with us", not any({"Upgrade", "Http2-Settings", "Connection"} & saw_.keys() for saw_ in saw)
    )


def to_http2(score, upstreams):
    """Upstreams that are spoken to in HTTP/2, in clear text and over TLS."""
    authority = Authority()
    certificate = authority.issue("localhost", "127.0.0.1")
    safe = Peer("safe", certificate)
    more = {
        "go": {"urls": [upstreams.peer.url], "http2": True},
        "node": {"urls": [upstreams.node2], "http2": True},
        "safe": {"urls": [f"https://localhost:{safe.port}"], "http2": True, "tls": {"ca": str(authority.certificate)}},
        "one": {"urls": [f"https://localhost:{safe.port}"], "tls": {"ca": str(authority.certificate)}},
    }
    gateway = Gateway(routes=upstreams.routes(**more))
    for flag, version in (("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")):
        same(
            score,
            f"HTTP/{version} before upstreams of HTTP/2",
            upstreams,
            lambda name: f"http://{name}.localhost:{gateway.port}",
            [version],
            lambda name, flag=flag: [flag, *at(gateway.port)(name)],
            {"content-length"},
        )  # Node's HTTP/2 gives none
    for name, want in (("go", "HTTP/2.0"), ("safe", "HTTP/2.0"), ("one", "HTTP/1.1")):
        answer = curl(f"http://{name}.localhost:{gateway.port}/", *at(gateway.port)(name))
        got = dict(answer.get("headers", [])).get("x-upstream-proto")
        score.check(
            f"the upstream `{name}` is spoken to in {want}", got == want, got or answer.get("fault") or answer["status"]
        )


def uploads(score, upstreams):
    gateway = Gateway(routes=upstreams.routes())
    content = b"upload " * 700_000
    file = folder() / "upload"
    file.write_bytes(content)
    sum_ = hashlib.sha256(content).hexdigest()
    for name in ("go", "node"):
        for how, words in {
            "with a length": ["-T", str(file)],
            "chunked": ["-T", str(file), "-H", "Transfer-Encoding: chunked"],
            "as a form": ["-F", f"file=@{file}"],
            "after 100-continue": ["-T", str(file), "-H", "Expect: 100-continue", "--expect100-timeout", "20"],
        }.items():
            answer = curl(f"http://{name}.localhost:{gateway.port}/echo", "--http1.1", *words, *at(gateway.port)(name))
            seen = json.loads(answer["body"]) if answer.get("status") == "200" else {}
            whole = seen.get("sha256") == sum_ or how == "as a form" and seen.get("length", 0) > len(content)
            prompt = answer.get("took", 99) < 10
            asked = how != "after 100-continue" or "HTTP/1.1 100" in answer.get("all", "")
            score.check(
                f"an upload {how} reaches {name} whole",
                whole and prompt and asked,
                answer.get("fault") or f"{seen.get('length')} bytes, {answer['took']:.2f} s",
            )


def unix_socket(score, upstreams):
    home = folder()
    path = home / "gateway.sock"
    gateway = Gateway(routes=upstreams.routes(), listen=[{"address": "127.0.0.1:PORT"}, {"address": f"unix:{path}"}])
    until("the socket is there", path.exists)
    answer = curl("http://go.localhost/echo", "--unix-socket", str(path))
    score.check(
        "curl through a Unix socket",
        answer.get("status") == "200" and json.loads(answer["body"])["target"] == "/echo",
        answer.get("fault") or answer["status"],
    )
    score.check("TCP is served beside it", http_get(gateway.port, "/echo", "go.localhost")[0] == 200)
    score.check(
        "only the owner and the group may connect", path.stat().st_mode & 0o007 == 0, oct(path.stat().st_mode & 0o777)
    )


# --- PROXY protocol ---------------------------------------------------------------------------------------------


def header(command, family, payload):
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", len(payload)) + payload


def tcp4(source, target="192.0.2.1"):
    return header(1, 0x11, socket.inet_aton(source) + socket.inet_aton(target) + struct.pack(">HH", 40000, 443))


def tcp6(source, more=b""):
    pack = lambda address: socket.inet_pton(socket.AF_INET6, address)  # noqa: E731
    return header(1, 0x21, pack(source) + pack("2001:db8::1") + struct.pack(">HH", 40000, 443) + more)


def after(port, *pieces, pause=0.0):
    """Sends these pieces on one connection; all that comes back until its end, or until 3 s are over."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = b""
        try:
            for piece in pieces:
                wire.sendall(piece)
                time.sleep(pause)
            while part := wire.recv(65536):
                got += part
        except TimeoutError:
            return got, False
        except OSError:
            pass
        return got, True


def proxy_protocol(score, upstreams):
    gateway = Gateway(
        routes=upstreams.routes(),
        listen=[{"address": "127.0.0.1:PORT", "proxy_protocol": True}],
        trusted_proxies=["127.0.0.0/8"],
    )
    request = b"GET /echo HTTP/1.1\r\nHost: go.localhost\r\nConnection: close\r\n\r\n"
    good = {
        "TCP4": ([tcp4("192.0.2.77")], "192.0.2.77"),
        "TCP6": ([tcp6("2001:db8::77")], "2001:db8::77"),
        "TCP6 with additional values": (
            [tcp6("2001:db8::78", b"\x04\x00\x04pad!" + b"\x05\x00\x02id")],
            "2001:db8::78",
        ),
        "LOCAL": ([header(0, 0, b"")], "127.0.0.1"),
        "LOCAL with an address to be left out": ([header(0, 0x11, tcp4("192.0.2.1")[16:])], "127.0.0.1"),
        "TCP4 byte by byte": ([bytes([byte]) for byte in tcp4("192.0.2.79")], "192.0.2.79"),
    }
    for name, (pieces, want) in good.items():
        got, _ = after(
            gateway.port,
            *(pieces if len(pieces) > 1 else [pieces[0] + request]),
            *([request] if len(pieces) > 1 else []),
            pause=0.002 if len(pieces) > 1 else 0,
        )
        seen = json.loads(got.partition(b"\r\n\r\n")[2] or b"{}") if b" 200 " in got[:20] else {"headers": {}}
        address = seen["headers"].get("X-Forwarded-For", [""])[0]
        score.check(f"PROXY v2, {name}: the client's address goes upstream", address == want, address or got[:60])
    forged = tcp4("192.0.2.80") + request.replace(b"Connection", b"X-Forwarded-For: 203.0.113.9\r\nConnection")
    got, _ = after(gateway.port, forged)
    score.check(
        "PROXY v2: who is behind it cannot name another address", b"203.0.113.9" not in got and b"192.0.2.80" in got
    )
    before = upstreams.peer.asked()
    bad = {
        "no header at all": request,
        "version 1": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request,
        "another version": header(1, 0x11, tcp4("192.0.2.1")[16:]).replace(b"\x21\x11", b"\x31\x11") + request,
        "an unknown command": header(5, 0x11, tcp4("192.0.2.1")[16:]) + request,
        "an address cut short": header(1, 0x11, b"\x7f\0\0") + request,
        "a signature that is wrong at its end": SIGNATURE[:-1] + b"x" + tcp4("192.0.2.1")[12:] + request,
        "a length of 65535 and no more": SIGNATURE + b"\x21\x11\xff\xff" + request,
        "random bytes": bytes(range(0, 256, 3)) * 40,
    }
    for name, sent in bad.items():
        got, closed = after(gateway.port, sent)
        waits = name == "a length of 65535 and no more"
        score.check(f"PROXY v2, {name}: nothing is served", b" 200 " not in got and (closed or waits), got[:40])
    score.check("PROXY v2: of all those the upstream saw nothing", upstreams.peer.asked() == before)


if __name__ == "__main__":
    run(main)
