"""What the checks against real providers need: their processes, people who fill in a login form, and stopwatches.

Built upon the rig of tests/soak. Everything runs on loopback. PROVIDERS_KEYCLOAK and PROVIDERS_DEX name the folders that
tests/run installs into.
"""

import asyncio
import base64
import http.cookiejar
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "soak"))
from rig import (  # noqa: E402, F401
    CLEAN, NAVIGATION, PROGRAM, SECRET, Person, Process, Score, Upstream, Vestibule, free_port, reachable, run, until,
)
from wire import ask, events  # noqa: E402

CLOCK = 5  # membership.refresh, in seconds
SLACK = 3  # one shared read of at most 2 s, the pause between two requests, and a busy machine
LIMIT = 2 * CLOCK + SLACK  # how long something is waited for that should come within the clock
WITHIN = f"within {CLOCK} s (and {SLACK} s of slack)"


class Login(HTMLParser):
    """The form of a page that asks for a password."""

    def __init__(self, text):
        super().__init__()
        self.action, self.fields, self.asks = None, {}, False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form" and not self.asks:
            self.action, self.fields = attributes.get("action", ""), {}
        elif tag == "input" and "name" in attributes:
            self.fields[attributes["name"]] = attributes.get("value") or ""
            self.asks = self.asks or attributes.get("type") == "password"


class Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self, text):
        super().__init__()
        self.to = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.to += [value for name, value in attributes if tag == "a" and name == "href" and value]


class Guest(Person):
    """A person at a provider whose login form asks for a name and a password."""

    def __init__(self, vestibule, name, names="username"):
        super().__init__(vestibule, name)
        # browsers send `Secure` cookies to loopback in clear text too
        self.jar.set_policy(http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https"), strict_ns_domain=0))
        self.names, self.asked = names, 0  # the form's field for the name; how often a password was asked for

    def sign_in(self, target="/json"):
        return self.fill_in(self.arrive(target))

    def arrive(self, target="/json"):
        """Goes to a page, and on to the provider where that is needed, up to its form if it has one."""
        answer = self.visit(self.vestibule.url + target)
        return self.go_on(answer) if "/.vestibule/sign-in" in answer[1] and answer[0] == 200 else answer

    def fill_in(self, answer):
        form = Login(answer[3])
        if not form.asks:
            return answer
        self.asked += 1
        fields = {**form.fields, self.names: self.name, "password": password(self.name)}
        return self.visit(urllib.parse.urljoin(answer[1], form.action), fields)

    def signed_in(self, target="/json"):
        """Signs in, and insists on the application."""
        status, url, _, text = self.sign_in(target)
        if status != 200 or not url.startswith(self.vestibule.url):
            raise RuntimeError(f"{self.name} could not sign in: {status} at {url}: {text[-600:]}")
        return self

    def tried(self):
        """Signs in, whatever comes of it."""
        self.sign_in()
        return self

    def forgets(self):
        """Loses what it has of Vestibule, and keeps what it has of the provider."""
        for cookie in list(self.jar):
            if cookie.name.startswith("vestibule"):
                self.jar.clear(cookie.domain, cookie.path, cookie.name)

    def sign_out(self):
        """Presses the button, and follows the page that leads on to the provider. The last answer."""
        answer = self.post("/.vestibule/sign-out")
        on = [link for link in Links(answer[3]).to if not link.startswith("/")]
        return self.visit(on[0]) if on else answer

    def post(self, target):
        request = urllib.request.Request(self.vestibule.url + target, b"", {"Origin": self.vestibule.url}, method="POST")
        with self.opener.open(request, timeout=30) as answer:
            return answer.status, answer.url, answer.headers, answer.read().decode(errors="replace")

    def get(self, target="/json"):
        """One call, as a page would make it: the status; 0 if the session ended meanwhile."""
        return self.vestibule.status(target, {"Cookie": self.cookie})


class Bearer:
    """Somebody who has a token and nothing else."""

    def __init__(self, vestibule, token):
        self.vestibule, self.token = vestibule, token

    def ask(self, target="/json"):
        """One call: its status, and what is wrong with the token."""
        status, headers, _ = self.vestibule.get(target, {"Authorization": f"Bearer {self.token}"})
        said = re.search('error_description="(.*?)"', headers.get("WWW-Authenticate", ""))
        return status, said[1] if said else ""

    def get(self, target="/json"):
        return self.ask(target)[0]


def claims(token):
    """What a token says. Nothing is verified."""
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def password(name):
    """The password that everybody has in the folders beside this file."""
    return f"{name.split('@')[0]}'s password"


def seconds_until(status, guest, limit, pause=0.1, target="/json"):
    """Seconds until this person's calls are answered so, or None if they are not within `limit`."""
    start = time.monotonic()
    while (took := time.monotonic() - start) <= limit:
        if guest.get(target) == status:
            return time.monotonic() - start
        time.sleep(pause)
    return None


def at_once(works):
    """Runs what is named side by side: what came of each, by its name."""
    with ThreadPoolExecutor(max(1, len(works))) as pool:
        began = {name: pool.submit(work) for name, work in works.items()}
        return {name: one.result() for name, one in began.items()}


def asked_for(seconds, people, target="/json"):
    """How these people's calls were answered in that time."""
    end, statuses = time.monotonic() + seconds, []
    while time.monotonic() < end:
        statuses += [guest.get(target) for guest in people]
        time.sleep(0.1)
    return statuses


def in_time(seconds):
    """It came, within the clock of membership."""
    return seconds is not None and seconds <= CLOCK + SLACK


def told(seconds):
    """A time, or that it never came."""
    return "never" if seconds is None else f"after {seconds:.1f} s" if seconds >= 1 else f"after {1000 * seconds:.0f} ms"


def ended(act, guest, limit=5):
    """Does `act` beside an open event stream. Milliseconds from its start: its own end, the first call refused and the
    stream closed; None for what did not happen within `limit` seconds."""
    return asyncio.run(watch(act, guest, limit))


async def watch(act, guest, limit):
    cookie = {"Cookie": guest.cookie}
    status, _, reader, writer = await ask(guest.vestibule.port, "/events?n=1000&ms=50", {**cookie, "Accept": "text/event-stream"})
    if status != 200:
        raise RuntimeError(f"the stream was answered {status}")
    start = time.monotonic()

    async def acting():
        await asyncio.to_thread(act)

    async def calling():
        while (await asyncio.to_thread(guest.get)) in (0, 200):
            await asyncio.sleep(0.005)

    async def following():
        async for _ in events(reader):
            pass

    async def timed(work):
        try:
            await asyncio.wait_for(work(), limit)
        except TimeoutError:
            return None
        return 1000 * (time.monotonic() - start)

    took = await asyncio.gather(*(timed(work) for work in (acting, calling, following)))
    writer.close()
    return took


def in_order(took, most):
    """What `ended` measured is there, and within `most` milliseconds."""
    return all(one is not None and one <= most for one in took[1:])


def spelled(took):
    names = ("the administrator's call returned", "the next request refused", "the stream closed")
    return ", ".join(f"{name} {'never' if one is None else f'after {one:.0f} ms'}" for name, one in zip(names, took))


def parts(score, provider, vestibule, *works):
    """Runs one part after the other: what cannot run has failed, and does not hide the rest."""
    for part in works:
        try:
            part(score, provider, vestibule)
        except Exception as fault:  # whatever it is, it is this part's
            score.check(f"{part.__name__} could be tried", False, f"{type(fault).__name__}: {fault}"[:900])


def beside(score, work, other):
    """Runs `other` while `work` runs. What it checks is counted with the rest, and its lines stand together after those of `work`."""
    apart = Score()
    apart.out = io.StringIO()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(other, apart)
        work(score)
        fault = running.exception()
    print(apart.out.getvalue(), end="", file=score.out, flush=True)
    score.passed, score.failed = score.passed + apart.passed, score.failed + apart.failed
    if fault:
        raise fault


def trail(vestibule):
    """All records of the audit trail, as text."""
    search = [PROGRAM, "audit", "search", "--json", "-c", str(vestibule.config)]
    return subprocess.run(search, capture_output=True, text=True, env=CLEAN, timeout=60, check=False).stdout


def check_live(score, vestibule, but="nothing", about="provider"):
    """What `vestibule check --live` says of the provider: nothing bad, but for lines that have the text `but`."""
    lines = live(vestibule.config, about)
    bad = [line for line in lines if line.startswith(("FAIL", "warning")) and but not in line]
    score.check(f"`check --live` finds nothing to say against the {about}", lines and not bad,
                f"{len(lines)} lines about it" if not bad else " / ".join(bad))


def live(config, about):
    """The lines of `vestibule check --live` about what is called so."""
    told = subprocess.run([PROGRAM, "check", "--live", "-c", str(config)], capture_output=True, text=True, env=CLEAN,
                          timeout=60, check=False)
    return [line for line in told.stdout.splitlines() if f"{about} `" in line]
