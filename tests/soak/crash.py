"""Killed at random moments under load: in `required` mode whatever reached a client has its record, and the journal holds.

`kill -9` leaves what the kernel was given, so this shows that nothing is answered before it is handed over and synced in
that order; what a disk does when the power goes is not shown by it.
"""

import asyncio
import json
import os
import random
import signal

from rig import PROGRAM, Person, Process, Provider, Upstream, Vestibule, reachable, run, until

CONNECTIONS = 12
POLICIES = """
@id("public") permit (principal, action in Action::"read", resource == Route::"app") when { context.path like "/public/*" };
@id("staff") permit (principal is User in Namespace::"gitlab:platform", action in Action::"read", resource == Route::"app")
  when { context.path like "/staff/*" };
"""


def main(score):
    trials = 200 if score.full else 20
    seed = int(os.environ.get("TESTS_SEED", random.randrange(1 << 32)))
    dice = random.Random(seed)
    provider, upstream = Provider(), Upstream()
    provider.admin("user", {"user": "ada", "memberships": {"platform": "developer"}})
    vestibule = Vestibule(
        provider.issuer, [{"name": "app", "upstream": upstream.url}], policies="./policies", drain="0s", workers=2,
        audit={"mode": "required", "segment": "512KiB"}, prepare=policies,
    )
    cookie = signed_in_at(vestibule, "ada", "/staff/first")
    trail, totals = Trail(vestibule.folder / "state/journal"), {"answered": 0, "signed in": 0}
    missing, doubled = [], []
    for trial in range(trials):
        provider.admin("user", {"user": f"visitor{trial}", "memberships": {"platform": "developer"}})
        answered, visitor = asyncio.run(load(vestibule, cookie, trial, dice.uniform(0.01, 0.8)))
        vestibule.process.child.wait()
        trail.read()
        missing += [path for path in answered if path not in trail.decided]
        doubled += [path for path in answered if trail.decided.get(path, 0) > 1]
        totals["answered"] += len(answered)
        if has_session(visitor):
            totals["signed in"] += 1
            missing += [] if visitor.name in trail.signed_in else [f"sign-in of {visitor.name}"]
        vestibule.process = Process([PROGRAM, "run", "-c", str(vestibule.config)])
        until("vestibule is back", lambda: reachable(vestibule.port))
        if trial % 20 == 19 or trial == trials - 1:
            code, said = vestibule.command("audit", "verify")
            score.check(f"after {trial + 1} kills the journal verifies", code == 0, said.split("\n")[0])
    trail.read()
    told = f"{totals['answered']} answers and {totals['signed in']} sign-ins of {trials} kills (seed {seed}), {trail.recoveries} torn records cut off"
    score.check("each answer that reached a client has its record", not missing, f"{told}; missing: {missing[:5]}")
    score.check("and one only", not doubled, f"{doubled[:5]}")
    score.check("the load was one", totals["answered"] > 20 * trials and totals["signed in"] > trials / 10, told)
    score.figure("answers of `required` mode that reached a client, each with its record, `kill -9` at random moments under load",
                 f"{totals['answered'] - len(missing)} of {totals['answered']}, {trials} kills", "all, 200 kills")


def policies(folder):
    (folder / "policies").mkdir()
    (folder / "policies/app.cedar").write_text(POLICIES)


def signed_in_at(vestibule, name, target):
    """The cookie of a person who has signed in on the way to `target`."""
    person = Person(vestibule, name)
    status, url, *_ = person.sign_in(target)
    if status != 200:
        raise RuntimeError(f"{name} could not sign in: {status} at {url}")
    return person.cookie


def has_session(person):
    return any(cookie.name == f"vestibule-{person.vestibule.port}" for cookie in person.jar)


async def load(vestibule, cookie, trial, seconds):
    """Asks over many connections while somebody signs in, until the process is killed: what was answered, and who signed in."""
    answered, visitor = [], Person(vestibule, f"visitor{trial}")
    signing_in = asyncio.create_task(asyncio.to_thread(sign_in, visitor))
    asking = [asyncio.create_task(keep_asking(vestibule.port, cookie, f"{trial}-{number}", answered)) for number in range(CONNECTIONS)]
    await asyncio.sleep(seconds)
    os.killpg(vestibule.process.pid, signal.SIGKILL)
    await asyncio.gather(*asking, signing_in)
    return answered, visitor


def sign_in(visitor):
    """The way to the provider and back, as far as it goes."""
    try:
        visitor.sign_in("/staff/visit")
    except Exception:  # the process was killed meanwhile, and there are many ways to hear of that
        pass


async def keep_asking(port, cookie, name, answered):
    """One connection that asks again and again: permitted, refused by policy, without a session, and not served at all."""
    kinds = [("/public/", ""), ("/staff/", f"Cookie: {cookie}\r\n"), ("/other/", f"Cookie: {cookie}\r\n"), ("/staff/", "")]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = 0
        while True:
            folder, line = kinds[turn % len(kinds)]
            path = f"{folder}{name}-{turn}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nSec-Fetch-Mode: cors\r\n{line}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            answered.append(path)
            await body(reader, head.lower())
            turn += 1
    except (OSError, asyncio.IncompleteReadError):
        return


async def body(reader, head):
    """Reads the answer's body."""
    if b"transfer-encoding: chunked" in head:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    else:
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))


class Trail:
    """What the journal's files say, read on from where they were read last."""

    def __init__(self, folder):
        self.folder, self.read_to = folder, {}
        self.decided, self.signed_in, self.recoveries = {}, set(), 0

    def read(self):
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self.read_to.get(path, 0))
                whole = file.read().rpartition(b"\n")[0]
            if whole:
                self.read_to[path] = self.read_to.get(path, 0) + len(whole) + 1
                for line in whole.split(b"\n"):
                    self.hear(json.loads(line))

    def hear(self, record):
        event = record.get("event", {})
        if record["kind"] == "recovery":
            self.recoveries += record["recovery"]["bytes"] > 0
        elif event.get("class_uid") == 4002 and event["unmapped"]["phase"] == "decision":
            path = event["http_request"]["url"]["path"]
            self.decided[path] = self.decided.get(path, 0) + 1
        elif event.get("class_uid") == 3002 and event["activity_id"] == 1 and event["status_id"] == 1:
            self.signed_in.add(event["user"]["name"])


run(main)
