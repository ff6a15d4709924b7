"""What every check of this folder needs: a gateway whose listeners and upstreams are given, certificates, and the
two ends of `peer` (a client that counts, an upstream that obeys).

Built upon the rig of tests/soak. Everything runs on loopback. With FRONT=nginx in the environment an nginx stands in
Vestibule's place where it can do the same: that shows whether a check that fails is itself at fault.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request
import atexit
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "soak"))
from rig import (  # noqa: E402, F401
    CLEAN, MIB, PROGRAM, SECRET, TRACE, Process, Provider, free_port, leave, note, reachable, run, until,
)

PEER = os.environ.get("TESTS_PEER", str(Path(tempfile.gettempdir()) / "vestibule-peer"))
FRONT = os.environ.get("FRONT", "vestibule")


def folder(prefix="vestibule-clients-"):
    """A folder that ends with this process."""
    made = Path(tempfile.mkdtemp(prefix=prefix))
    made.chmod(0o755)  # workers of nginx are another user
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def peer():
    """The program `peer`, built once if nobody did before."""
    if not Path(PEER).exists():
        subprocess.run(["go", "build", "-o", PEER, "."], cwd=HERE / "peer", check=True, timeout=300)
    return PEER


class Peer:
    """An upstream that does what the paths ask for (`tests/clients/peer/serve.go`)."""

    def __init__(self, name="one", certificate=None, port=0):
        self.name = name
        tls = ["-certificate", str(certificate[0]), "-key", str(certificate[1])] if certificate else []
        self.process = Process([peer(), "serve", "-name", name, "-address", f"127.0.0.1:{port}", *tls], first_line=True)
        said = self.process.first_line()
        self.url, self.port = said["url"], said["port"]

    def admin(self, query):
        fetch(f"{self.url}/admin?{query}")

    def asked(self):
        """How many requests arrived, health checks left out."""
        return int(fetch(f"{self.url}/asked"))


class Load:
    """A client at work (`tests/clients/peer/load.go`); `stop` or the end of its time gives what it counted."""

    running = []

    def __init__(self, url, **flags):
        words = []
        for name, value in flags.items():
            for one in value if isinstance(value, list) else [value]:
                words.append(f"-{name}" if one is True else f"-{name}={one}")
        self.child = subprocess.Popen(
            [peer(), "load", "-url", url, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=CLEAN,
        )
        Load.running.append(self)
        self.errors = []
        threading.Thread(target=lambda: self.errors.extend(self.child.stderr), daemon=True).start()
        atexit.register(self.child.kill)
        if not self.child.stdout.readline():  # the first answer has begun
            raise RuntimeError(f"no load on {url}: {''.join(self.errors)}")

    def stop(self, timeout=60):
        """Ends it politely: what is in flight is waited for."""
        self.child.stdin.close()
        return self.result(timeout)

    def result(self, timeout=600):
        """What it counted, once it has ended on its own."""
        timer = threading.Timer(timeout, self.child.kill)
        timer.start()
        text = self.child.stdout.read()
        timer.cancel()
        self.child.wait()
        if not text.strip():
            raise RuntimeError(f"the load ended without a result: {''.join(self.errors)}")
        return json.loads(text.strip().splitlines()[-1])


def parts(score, *functions):
    """Runs one part after the other: what cannot run has failed, and does not hide the others."""
    for name, part in functions:
        try:
            part()
        except Exception as fault:  # whatever it is, it is this part's
            score.check(f"{name} could be tried", False, f"{type(fault).__name__}: {fault}"[:600])
            for load in Load.running:
                load.child.kill()


def told(result):
    """A result in a few words."""
    kinds = ", ".join(
        f"{count} × {what}" for what, count in sorted(result["kinds"].items(), key=lambda kind: -kind[1])[:4]
    )
    return (
        f"{result['requests']} requests in {result['seconds']:.1f} s, {result['failed']} failed, "
        f"{result['retried']} sent again by the client, {result['connections']} connections, "
        f"p99 {result['p99']:.0f} ms, longest {result['max']:.0f} ms" + (f" ({kinds})" if kinds else "")
    )


class Authority:
    """A certificate authority of the test's own, made by `openssl`."""

    def __init__(self, name="test authority"):
        self.folder = folder()
        self.certificate, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        self.count = 0
        self.openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            f"/CN={name}",
            "-keyout",
            self.key,
            "-out",
            self.certificate,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )

    def openssl(self, *words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)

    def issue(self, *names, client=False, to=None, days=30):
        """A chain and its key for these host names or addresses, as two files in `to`."""
        self.count += 1
        into = Path(to) if to else self.folder / str(self.count)
        into.mkdir(exist_ok=True)
        chain, key, request, more = (into / name for name in ("tls.crt", "tls.key", "request", "more"))
        self.openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={names[0]}",
            "-keyout",
            key,
            "-out",
            request,
        )
        listed = ",".join(f"IP:{name}" if re.fullmatch(r"[0-9.]+|.*::.*", name) else f"DNS:{name}" for name in names)
        more.write_text(
            f"subjectAltName={listed}\nextendedKeyUsage={'clientAuth' if client else 'serverAuth'}\n"
            "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        )
        self.openssl(
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            self.certificate,
            "-CAkey",
            self.key,
            "-days",
            days,
            "-set_serial",
            int.from_bytes(os.urandom(8), "big") >> 1,
            "-extfile",
            more,
            "-out",
            chain,
        )
        chain.write_text(chain.read_text() + self.certificate.read_text())
        for file in (chain, key):
            file.chmod(0o600)
        return chain, key


class Gateway:
    """A running Vestibule: `listen` as in the configuration, routes given or one public route to `upstream`.

    `PORT` in `listen` stands for `self.port`, a free port. The provider is configured and is not there: nothing of this
    folder signs in, and a gateway serves without its provider.
    """

    def __init__(
        self,
        upstream=None,
        listen="127.0.0.1:PORT",
        routes=None,
        scheme="http",
        wrap=(),
        wait=True,
        at=None,
        env=None,
        **settings,
    ):
        self.port, self.operations = at or free_port(), free_port()
        self.scheme, self.url = scheme, f"{scheme}://localhost:{self.port}"
        self.folder, self.wrap, self.env = folder(), list(wrap), env or {}
        secret = self.folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET)
        routes = routes or [{"name": "app", "upstream": upstream, "allow": ["public"]}]
        provider = {
            "name": "gitlab",
            "kind": "gitlab",
            "issuer": "http://127.0.0.1:9",
            "client_id": "vestibule",
            "client_secret": {"file": "secret"},
        }
        self.settings = {
            "public_url": self.url,
            "listen": listen,
            "operations": {"address": f"127.0.0.1:{self.operations}"},
            "providers": [provider],
            "routes": routes,
            **settings,
        }
        self.config = self.folder / "vestibule.yaml"
        self.write()
        self.process = None
        self.start(wait)

    def write(self, **changes):
        """Writes the configuration, with these keys changed, in one step."""
        self.settings.update(changes)
        new = self.folder / "new.yaml"
        new.write_text(json.dumps(self.settings, indent=1).replace("PORT", str(self.port)))
        new.rename(self.config)

    def start(self, wait=True):
        command = [PROGRAM, "run", "-c", str(self.config)] if FRONT != "nginx" else stand_in(self)
        self.process = Process([*self.wrap, *command], **{**TRACE, **self.env})
        atexit.register(leave, self.process.log.name, self.folder)
        if wait:
            until("vestibule listens", self.ready)

    def ready(self):
        self.must_run()
        try:
            return http_get(self.operations, "/healthz", timeout=2)[0] == 200
        except OSError:
            return False

    def must_run(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(f"vestibule ended: {self.process.tail()}")

    def signal(self, number):
        os.kill(self.process.pid, number)

    def log(self):
        """Every line logged so far, as JSON where it is."""
        text = Path(self.process.log.name).read_text(errors="replace")
        return [json.loads(line) if line.startswith("{") else {"message": line} for line in text.splitlines()]

    def stop(self):
        self.process.stop()


def places(route):
    upstream = route["upstream"]
    return [url.split("//")[1] for url in ([upstream] if isinstance(upstream, str) else upstream["urls"])]


def scheme(route):
    return "https" if "https:" in json.dumps(route["upstream"]) else "http"


def stand_in(gateway):
    """The command of an nginx that does what this gateway is configured to do, as far as nginx can."""
    known = json.loads(gateway.config.read_text())
    listen = known["listen"] if isinstance(known["listen"], list) else [{"address": known["listen"]}]
    servers = ""
    for one in listen:
        tls = one.get("tls")
        flags = (" ssl http2" if tls else "") + (" proxy_protocol" if one.get("proxy_protocol") else "")
        said = f"listen {one['address']}{flags}; set_real_ip_from 127.0.0.0/8;"
        for pair in tls if isinstance(tls, list) else [tls] if tls else []:
            said += f" ssl_certificate {pair['certificate']}; ssl_certificate_key {pair['key']};"
        if asked := one.get("client_certificates"):
            said += (
                f" ssl_client_certificate {asked['ca']}; ssl_verify_client {'on' if asked['required'] else 'optional'};"
            )
        if one.get("proxy_protocol"):
            said += " real_ip_header proxy_protocol;"
        said += " ssl_protocols TLSv1.2 TLSv1.3;" if tls else ""
        hosts = {}
        for number, route in enumerate(known["routes"]):
            location = f"location {route.get('path', '/')} {{ proxy_pass {scheme(route)}://upstream{number}; }} "
            hosts[route.get("host", "_")] = hosts.get(route.get("host", "_"), "") + location
        servers += "".join(
            f"server {{ {said} server_name {host}; {locations} }}\n" for host, locations in hosts.items()
        )
    origins = "".join(
        f"upstream upstream{number} {{ {' '.join(f'server {one};' for one in places(route))} keepalive 64; }}\n"
        for number, route in enumerate(known["routes"])
    )
    body = (
        f"{origins}"
        "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $http_host; client_max_body_size 0;\n"
        "proxy_set_header X-Forwarded-For $remote_addr; proxy_request_buffering off; proxy_buffering off;\n"
        f"proxy_read_timeout 2s; proxy_connect_timeout 1s; {servers}server {{ listen 127.0.0.1:{gateway.operations}; location = /healthz {{ return 200; }} }}"
    )
    return Nginx.command(gateway.folder, body, "master_process on; worker_processes 1;")


class Nginx:
    """An nginx with this `http` block; `FOLDER` in it is a folder of its own."""

    def __init__(self, body, *ports):
        self.folder = folder()
        self.process = Process(self.command(self.folder, body.replace("FOLDER", str(self.folder))))
        for port in ports:
            until("nginx listens", lambda port=port: reachable(port))

    @staticmethod
    def command(home, body, top="master_process off;"):
        temporary = " ".join(
            f"{name}_temp_path {home}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = home / "nginx.conf"
        config.write_text(
            f"daemon off; {top} pid {home}/pid; error_log {home}/error.log warn;\n"
            f"events {{ worker_connections 20000; }}\nhttp {{ access_log off; {temporary}\n{body}\n}}\n"
        )
        return ["/usr/sbin/nginx", "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)]


def memory_of(process):
    """Its memory in MiB."""
    return process.memory() / MIB


def fetch(url, timeout=20):
    """The body of a plain GET, as text; errors are raised."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read().decode()


def http_get(port, target="/", host=None, tls=None, timeout=10, address="127.0.0.1", more=""):
    """One GET in HTTP/1.1 on a connection of its own: status and body. `tls`: an SSLContext; `more`: whole header lines."""
    with socket.create_connection((address, port), timeout=timeout) as plain:
        stream = tls.wrap_socket(plain, server_hostname=host or "localhost") if tls else plain
        stream.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {host or 'localhost'}\r\nConnection: close\r\n{more}\r\n".encode()
        )
        got = b""
        while piece := stream.recv(65536):
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        raise ConnectionError(f"answered {got[:60]!r}")
    return int(head.split(b" ")[1]), body


def trusting(authority=None, certificate=None):
    """A TLS client that trusts this authority, and shows a certificate if one is given."""
    context = ssl.create_default_context(cafile=str(authority.certificate) if authority else None)
    if certificate:
        context.load_cert_chain(*map(str, certificate))
    return context


def settled(what, reading, seconds=20, pause=0.5, within=0.02):
    """A reading once two in a row differ by less than `within` of it."""
    last = [reading()]

    def same():
        now = reading()
        held, last[0] = abs(now - last[0]) <= within * max(now, 1), now
        return held

    until(what, same, seconds, pause)
    return last[0]
