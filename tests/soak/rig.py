"""What every soak check needs: provider, upstream and Vestibule as processes, sign-in without a browser, and a score.

Standard library only. A check is a file with `main(rig)`; it says each result in one line, and ends with
`N passed, N failed`. `--full` runs it at the size that the published figures are made at.
"""

import atexit
import base64
import http.client
import http.cookiejar
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("TESTS_PROGRAM", str(TARGET / "release/vestibule"))
FIXTURE = Path(os.environ.get("OIDC_FIXTURE", ROOT / "tests/fixtures/oidc-provider"))
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
# Vestibule refuses variables that begin like its own and that it does not know.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("VESTIBULE_")}
# where secrets and what Vestibule leaves behind are kept, for `tests/audit/canary.py`
CANARY = os.environ.get("TESTS_CANARY") and Path(os.environ["TESTS_CANARY"])
TRACE = {"VESTIBULE_LOG": "trace"} if CANARY else {}
# the service token of the fixture's API
API_TOKEN = "glpat-test-token-0123456789"
SECRET = "vestibule-test-secret-0123456789"
MIB = 1024 * 1024

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def until(what, probe, seconds=10.0, pause=0.02):
    """Asks `probe` again and again until it gives something true, and returns that."""
    end = time.monotonic() + seconds
    while not (got := probe()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)
    return got


def reachable(port):
    """True if somebody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


NOTED = set()


def note(kind, value):
    """Notes a secret, once."""
    if CANARY and len(value) >= 8 and value not in NOTED:
        NOTED.add(value)
        value = value if isinstance(value, bytes) else value.encode("latin-1")
        line = json.dumps({"kind": kind, "value": base64.b64encode(value).decode()})
        with open(CANARY / "secrets.jsonl", "a", encoding="ascii") as out:
            out.write(line + "\n")


def note_headers(pairs):
    """Notes the credentials among the headers of a request or an answer."""
    for name, value in pairs:
        name = name.lower()
        if name in ("authorization", "private-token", "job-token", "x-gitlab-token"):
            note("credential", value.split(" ")[-1])
        if name in ("cookie", "set-cookie"):
            for pair in value.split(";")[: 1 if name == "set-cookie" else None]:
                if len(cookie := pair.partition("=")[2]) >= 16:
                    note("cookie", cookie)


if CANARY:  # what every client of these checks sends and gets
    begin, put = http.client.HTTPResponse.begin, http.client.HTTPConnection.putheader

    def begun(answer):
        begin(answer)
        note_headers(answer.headers.items())

    def putting(connection, name, *values):
        text = ["; ".join(str(value, "latin-1") if isinstance(value, bytes) else str(value) for value in values)]
        note_headers([(name if isinstance(name, str) else str(name, "latin-1"), *text)])
        put(connection, name, *values)

    http.client.HTTPResponse.begin, http.client.HTTPConnection.putheader = begun, putting


def leave(log, folder):
    """Keeps what a Vestibule leaves behind, and notes its keys and secrets."""
    if not CANARY:
        return
    name = f"{Path(sys.argv[0]).stem}-{os.getpid()}-{time.monotonic_ns()}"
    for kind in ("logs", "journals"):
        (CANARY / kind).mkdir(exist_ok=True)
    if log and Path(log).exists():
        shutil.copyfile(log, CANARY / "logs" / name)
    for segment in folder.rglob("journal/*.jsonl"):
        shutil.copyfile(segment, CANARY / "journals" / f"{name}-{segment.name}")
    for key in folder.rglob("keys/**/*"):
        if key.is_file() and key.suffix != ".pub":
            note("key", key.read_bytes())


class Process:
    """A process that ends with this one, and those that it has started with it."""

    def __init__(self, command, first_line=False, **env):
        self.log = tempfile.NamedTemporaryFile(prefix="vestibule-log-", mode="w+", delete=True)
        self.command = command
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE if first_line else self.log, stderr=self.log,
            env={**CLEAN, **{name: str(value) for name, value in env.items()}},
            start_new_session=True,
        )
        atexit.register(self.stop)

    @property
    def pid(self):
        return self.child.pid

    def first_line(self):
        """The first line it writes, as JSON."""
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.command[0]} wrote nothing: {self.tail()}")
        return json.loads(line)

    def tail(self):
        self.log.seek(0)
        return "".join(self.log.readlines()[-20:])

    def memory(self, field="VmRSS"):
        """Memory in bytes, as the kernel counts it."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.M)[1]) * 1024

    def forget_peak(self):
        """Lets the peak (`VmHWM`) start again from what is in use now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def stop(self):
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()


class Provider:
    """The provider fixture, shaped like GitLab."""

    def __init__(self, port=0, **settings):
        usual = {"PROFILE": "gitlab", "REDIRECT_URIS": "http://localhost/.vestibule/callback/gitlab"}
        self.process = Process(
            ["node", str(FIXTURE / "server.mjs")], first_line=True, EXIT_WITH_STDIN=1, PORT=port, **{**usual, **settings},
        )
        self.issuer = self.process.first_line()["issuer"]

    def admin(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.issuer}/admin/{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


class Upstream:
    """The upstream that the browser tests use too."""

    def __init__(self):
        self.process = Process(["node", str(ROOT / "tests/browser/upstream.mjs")], first_line=True)
        self.url = self.process.first_line()["url"]


class Vestibule:
    """A running Vestibule with one provider and the routes given. The provider is `gitlab`, or as `provider` says."""

    def __init__(self, issuer, routes, wrap=(), membership=None, wait=True, kind="gitlab", secrets=None, port=None,
                 prepare=None, provider=None, serve=lambda config: [PROGRAM, "run", "-c", config], **settings):
        self.port = port or free_port()
        self.url = f"http://localhost:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="vestibule-soak-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        for name, text in {"secret": SECRET, **(secrets or {})}.items():
            secret = self.folder / name
            secret.touch(mode=0o600)
            secret.write_text(text)
            note("secret", text)
        provider = {"name": "gitlab", "kind": kind, "issuer": issuer, "client_id": "vestibule",
                    "client_secret": {"file": "secret"}, **(provider or {})}
        self.begin = f"/.vestibule/sign-in/{provider['name']}"
        if membership:
            provider["membership"] = membership
        config = {"public_url": self.url, "listen": f"127.0.0.1:{self.port}", "state": "./state", "keys": "./keys",
                  "providers": [provider], "routes": routes, **settings}
        self.config = self.folder / "vestibule.yaml"
        self.config.write_text(json.dumps(config, indent=2))
        if prepare:
            prepare(self.folder)
        self.started = time.monotonic()
        self.process = Process([*wrap, *serve(str(self.config))], **TRACE)
        atexit.register(leave, self.process.log.name, self.folder)
        if wait:
            until("vestibule is ready", self.ready)

    def ready(self):
        """True once it answers and has discovered the provider."""
        self.must_run()
        return reachable(self.port) and self.get(self.begin, NAVIGATION)[0] < 500

    def command(self, *words):
        """Runs `vestibule WORDS...` about this process: exit code and what it wrote."""
        done = subprocess.run([PROGRAM, *words, "-c", str(self.config)], env=CLEAN, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def must_run(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(f"vestibule ended: {self.process.tail()}")

    def get(self, target, headers=None, timeout=30, method="GET"):
        """One request on a connection of its own; redirects are not followed. Status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, target, headers={"Host": f"localhost:{self.port}", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def status(self, target, headers=None):
        """The status of one request; 0 where the session ended while the answer was on its way, which cuts it off, with its head or after."""
        try:
            return self.get(target, headers)[0]
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            return 0

    def post(self, target, headers=None):
        """A POST of one of this site's own pages, without a body."""
        own = {"Origin": self.url, "Sec-Fetch-Site": "same-origin", "Content-Length": "0"}
        return self.get(target, {**own, **(headers or {})}, method="POST")


class Onward(HTMLParser):
    """The link or form by which a page of ours leads on to the provider, to `begin`."""

    def __init__(self, begin):
        super().__init__()
        self.begin = begin
        self.link, self.form, self.fields, self.open = None, None, {}, False

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "a" and self.begin in attributes.get("href", ""):
            self.link = self.link or attributes["href"]
        elif tag == "form":
            self.open = self.begin in attributes.get("action", "")
            if self.open:
                self.form = (attributes["action"], attributes.get("method", "get").lower())
        elif tag == "input" and self.open and "name" in attributes:
            self.fields[attributes["name"]] = attributes.get("value", "")

    def handle_endtag(self, tag):
        self.open = self.open and tag != "form"


class Person:
    """A person with a browser's patience: keeps cookies, follows redirects, fills in the provider's form."""

    def __init__(self, vestibule, name):
        self.vestibule, self.name = vestibule, name
        self.jar = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(strict_ns_domain=0))
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar), Quiet())
        self.opener.addheaders = list(NAVIGATION.items())

    def visit(self, url, form=None):
        """Follows redirects to the last answer: status, address, headers, text."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        with self.opener.open(url, data, timeout=30) as answer:
            return answer.status, answer.url, answer.headers, answer.read().decode(errors="replace")

    def sign_in(self, target="/json"):
        """Goes from a page to the provider and back. The last answer, whatever it is."""
        answer = self.visit(self.vestibule.url + target)
        if "/.vestibule/sign-in" in answer[1] and answer[0] == 200:
            answer = self.go_on(answer)
        if "/interaction/" in answer[1]:
            answer = self.visit(answer[1], {"user": self.name})
        return answer

    def go_on(self, answer):
        page = Onward(self.vestibule.begin)
        page.feed(answer[3])
        if page.form:
            action, method = page.form
            url = urllib.parse.urljoin(answer[1], action)
            if method == "post":
                return self.visit(url, page.fields)
            return self.visit(f"{url}?{urllib.parse.urlencode(page.fields)}" if page.fields else url)
        return self.visit(urllib.parse.urljoin(answer[1], page.link or page.begin))

    @property
    def cookie(self):
        """The `Cookie` header that this person sends to Vestibule."""
        own = [cookie for cookie in self.jar if cookie.name == f"vestibule-{self.vestibule.port}"]
        if not own:
            raise RuntimeError(f"{self.name} has no session; the jar holds {[c.name for c in self.jar]}")
        return f"{own[0].name}={own[0].value}"


class Quiet(urllib.request.HTTPErrorProcessor):
    """Gives answers of 400 and above to the caller, as it gives all others."""

    def http_response(self, request, response):
        if 300 <= response.status < 400:
            return super().http_response(request, response)
        return response

    https_response = http_response


def signed_in(vestibule, name):
    """A person who has signed in and may see the application."""
    person = Person(vestibule, name)
    status, url, _, text = person.sign_in()
    if status != 200 or not url.startswith(vestibule.url):
        raise RuntimeError(f"{name} could not sign in: {status} at {url}: {text[:300]}")
    return person


class Score:
    """Counts what held and what did not, and keeps the figures for the table."""

    def __init__(self):
        self.passed = self.failed = 0
        self.out = sys.stdout
        self.full = "--full" in sys.argv[1:]

    def check(self, claim, held, figure=""):
        """Says whether `claim` held, with the figure that shows it."""
        self.passed, self.failed = self.passed + bool(held), self.failed + (not held)
        figure = "" if figure is None else " ".join(str(figure).split())  # one line a claim
        print(f"{'ok  ' if held else 'FAIL'} {claim}{': ' if figure else ''}{figure}", file=self.out, flush=True)

    def figure(self, name, value, must=""):
        """Keeps a figure for the published table; only full runs are published."""
        path = os.environ.get("TESTS_FIGURES")
        if path and self.full:
            with open(path, "a", encoding="utf-8") as out:
                out.write(json.dumps({"figure": name, "value": value, "must": must}) + "\n")


def run(main):
    """Runs one check file: its claims, then the closing line. Exits 1 if anything failed."""
    score = Score()
    try:
        main(score)
    except Exception as fault:  # a check that cannot run has failed, and says so like any other
        score.check(f"{Path(sys.argv[0]).stem} ran to its end", False, f"{type(fault).__name__}: {fault}")
    print(f"{score.passed} passed, {score.failed} failed", flush=True)
    sys.exit(1 if score.failed else 0)
