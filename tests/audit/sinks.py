"""What every check of this folder needs: a proxy with sinks, load on it, its journal, and real servers to send it to.

Built upon the rig of tests/soak. Everything runs on loopback, as whoever runs it; PostgreSQL, which runs as nobody's root, as
`postgres` where that is root.
"""

import atexit
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "soak"))
from rig import CLEAN, PROGRAM, Process, Provider, Upstream, Vestibule, free_port, reachable, run, until  # noqa: E402, F401

PASSWORD = "sink-password-0123456789"


def folder():
    """A folder that ends with this process, and that everybody may enter."""
    made = Path(tempfile.mkdtemp(prefix="vestibule-audit-"))
    made.chmod(0o755)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


class Certificates:
    """An authority, and a certificate of it for `localhost`."""

    def __init__(self, name="test authority"):
        self.folder = folder()
        self.ca, self.key, self.certificate = (self.folder / one for one in ("ca.pem", "server.key", "server.pem"))
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self.openssl("req", "-x509", *curve, "-days", "3", "-subj", f"/CN={name}", "-keyout", "ca.key", "-out", "ca.pem")
        self.openssl("req", *curve, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
        (self.folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3",
                     "-extfile", "ext", "-out", "server.pem")

    def openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


class Proxy(Vestibule):
    """Vestibule before one open route, with sinks; it can be killed, started anew and given other sinks."""

    provider = upstream = None

    def __init__(self, sinks, secrets=None, start=True, **audit):
        Proxy.provider = Proxy.provider or Provider()
        Proxy.upstream = Proxy.upstream or Upstream()
        self.operations = free_port()
        self.sinks = sinks
        super().__init__(
            Proxy.provider.issuer,
            [{"name": "open", "upstream": Proxy.upstream.url, "allow": ["public"]}],
            secrets=secrets,
            wait=start,
            operations={"address": f"127.0.0.1:{self.operations}"},
            audit={"sinks": sinks, **audit},
            drain="0s",
        )
        self.ended = []

    def kill(self):
        """As the machine's out-of-memory killer would."""
        self.process.child.kill()
        self.process.child.wait()
        self.ended.append(self.process)

    def stop(self):
        """As systemd would: the seconds it took."""
        begun = time.monotonic()
        self.process.child.terminate()
        self.process.child.wait(30)
        self.ended.append(self.process)
        return time.monotonic() - begun

    def start(self, **streams):
        self.process = Process([PROGRAM, "run", "-c", str(self.config)], **streams)
        until("vestibule is ready", self.ready)

    def log(self):
        """Everything that all its processes wrote, as objects."""
        lines = []
        for process in [*self.ended, self.process]:
            process.log.seek(0)
            lines += [line for line in process.log if line.startswith("{")]
        return [json.loads(line) for line in lines]

    def logged(self, *words):
        return [line for line in self.log() if all(word in json.dumps(line) for word in words)]

    def change(self, sinks, reload=True):
        """Writes other sinks, and waits until they are taken."""
        config = json.loads(self.config.read_text())
        config["audit"]["sinks"] = sinks
        before = len(self.logged("configuration and policies reloaded"))
        self.config.write_text(json.dumps(config, indent=2))
        if reload:
            until("the sinks are taken", lambda: len(self.logged("configuration and policies reloaded")) > before, 20)

    def sink(self, name):
        """What `vestibule status --json` says of it; nothing if there is no such sink, or no process."""
        code, text = self.command("status", "--json")
        if code:
            return {}
        return next((one for one in json.loads(text)["sinks"] if one["name"] == name), {})

    def metrics(self):
        """The figures of sinks, such as `records_behind{sink="db"}`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.operations}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        prefix = "vestibule_audit_sink_"
        return {line[len(prefix):].rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(prefix)}

    def journal(self):
        """All lines of the journal."""
        lines = []
        for path in sorted((self.folder / "state/journal").glob("*.jsonl")):
            text = path.read_text()
            lines += text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
        return lines

    def settled(self, name, seconds=90):
        """Waits until the sink has everything, and says how long that took."""
        begun = time.monotonic()
        until(f"`{name}` has everything", lambda: self.sink(name).get("records_behind") == 0, seconds, 0.3)
        return time.monotonic() - begun


class Load:
    """Requests from several clients, as fast as they are answered, until it is stopped."""

    def __init__(self, proxy, clients=4):
        self.proxy, self.over = proxy, threading.Event()
        self.answered = [0] * clients
        self.begun = time.monotonic()
        self.threads = [threading.Thread(target=self.ask, args=(one,), daemon=True) for one in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self, client):
        connection, headers = None, {"Host": f"localhost:{self.proxy.port}"}
        while not self.over.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=10)
                connection.request("GET", f"/json?{client}", headers=headers)
                connection.getresponse().read()
                self.answered[client] += 1
            except (OSError, http.client.HTTPException):
                if connection:
                    connection.close()
                connection = None
                time.sleep(0.05)

    def stop(self):
        """How many were answered, and how many a second."""
        self.over.set()
        for thread in self.threads:
            thread.join()
        return sum(self.answered), sum(self.answered) / (time.monotonic() - self.begun)


def compared(journal, found):
    """What is missing, what is too much, and what is there twice."""
    missing, more = Counter(journal) - Counter(found), Counter(found) - Counter(journal)
    twice = sum(count - 1 for count in Counter(found).values() if count > 1)
    return sum(missing.values()), len(more.keys() - set(journal)), twice


def same(score, claim, journal, found, twice_allowed=False):
    """Says whether what was found is what the journal has."""
    missing, strange, twice = compared(journal, found)
    held = not missing and not strange and (twice_allowed or not twice) and len(journal) > 10
    score.check(claim, held, f"{len(journal)} lines in the journal, {len(found)} found, {missing} missing, {strange} strange, {twice} twice")


class Postgres:
    """A cluster of its own: a Unix socket, and TLS on loopback."""

    def __init__(self, certificates):
        self.home, self.port = folder(), free_port()
        bins = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self.bin = bins[-1] if bins else Path(shutil.which("postgres")).parent
        self.data = self.home / "data"
        for name in ("server.key", "server.pem"):
            shutil.copy(certificates.folder / name, self.home / name)
        (self.home / "server.key").chmod(0o600)
        self.user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self.user:
            subprocess.run(["chown", "-R", "postgres", self.home], check=True)
        self.tool("initdb", "-D", self.data, "-U", "owner", "-A", "trust", "-E", "UTF8", "--no-sync")
        settings = {
            "listen_addresses": "localhost", "port": self.port, "unix_socket_directories": self.home, "ssl": "on",
            "ssl_cert_file": self.home / "server.pem", "ssl_key_file": self.home / "server.key", "max_connections": 40,
        }
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        self.write("postgresql.auto.conf", lines)
        self.write("pg_hba.conf", "local all all trust\nhostssl all all all scram-sha-256\n")
        self.start()
        atexit.register(self.stop, "immediate")
        self.sql("CREATE DATABASE audit", database="postgres")

    def write(self, name, text):
        subprocess.run([*self.user, "tee", self.data / name], input=text, text=True, check=True, stdout=subprocess.DEVNULL)

    def tool(self, name, *words, check=True):
        done = subprocess.run([*self.user, self.bin / name, *words], cwd=self.home, capture_output=True, text=True, timeout=120)
        if check and done.returncode:
            raise RuntimeError(f"{name}: {done.stderr or done.stdout}")
        return done

    def start(self):
        # its output must not be a pipe of ours: the server keeps it open
        command = [*self.user, self.bin / "pg_ctl", "-D", self.data, "-l", self.home / "log", "-w", "-t", "60", "start"]
        subprocess.run(command, cwd=self.home, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=90)

    def stop(self, mode):
        self.tool("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop", check=False)

    def sql(self, text, database="audit", role="owner", check=True):
        """What psql prints."""
        command = [self.bin / "psql", "-h", self.home, "-p", str(self.port), "-U", role, "-d", database, "-XqAt", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)
        if check and done.returncode:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout.strip() if check else done

    def role(self, name):
        self.sql(f"SET password_encryption = 'scram-sha-256'; CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")

    def lines(self, schema, table="records"):
        """The column `line` of all rows. No line has a line feed or a backslash that is not JSON's."""
        text = self.sql(f"SELECT line FROM {schema}.{table} ORDER BY node, epoch, seq")
        return text.splitlines()
