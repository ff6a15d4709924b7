"""Vestibule before a real Dex: its login pages, groups of a connector, its access tokens, refresh tokens that rotate, and keys that do."""

import atexit
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from peers import (
    CLEAN, CLOCK, LIMIT, PROGRAM, SECRET, WITHIN, Bearer, Guest, Links, Login, Process, Upstream, Vestibule, asked_for, check_live, claims,
    free_port, in_time, parts, password, reachable, run, seconds_until, told, trail, until,
)

HOME = Path(os.environ["PROVIDERS_DEX"])


class Dex:
    """Dex with its database in memory, a connector with a form, for one person without groups, and one that always names one author."""

    def __init__(self, portal):
        ports = {name: f"127.0.0.1:{free_port()}" for name in ("http", "grpc", "telemetry")}
        self.issuer, self.grpc, self.telemetry = f"http://{ports['http']}/dex", ports["grpc"], ports["telemetry"]
        self.folder = Path(tempfile.mkdtemp(prefix="dex-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        config = {
            "issuer": self.issuer,
            "storage": {"type": "memory"},
            "web": {"http": ports["http"]},
            "grpc": {"addr": self.grpc},
            "telemetry": {"http": self.telemetry},
            "oauth2": {"skipApprovalScreen": True, "passwordConnector": "readers"},
            "expiry": {"signingKeys": "35s", "idTokens": "10m", "refreshTokens": {"reuseInterval": "0s"}},
            "staticClients": [
                {"id": "vestibule", "name": "Vestibule", "secret": SECRET, "redirectURIs": [f"{portal}/.vestibule/callback/dex"]},
                {"id": "tool", "name": "Tool", "secret": SECRET},
            ],
            "connectors": [
                {"type": "mockCallback", "id": "authors", "name": "Authors"},
                {"type": "mockPassword", "id": "readers", "name": "Readers", "config": {"username": "jane", "password": password("jane")}},
            ],
        }
        (self.folder / "dex.json").write_text(json.dumps(config))
        start = time.monotonic()
        self.process = Process([str(HOME / "dex"), "serve", str(self.folder / "dex.json")])
        until("dex answers", self.answers, 60, 0.1)
        self.took = time.monotonic() - start

    def answers(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(f"dex ended: {self.process.tail()}")
        return all(reachable(int(one.rsplit(":", 1)[1])) for one in (self.grpc, urllib.parse.urlsplit(self.issuer).netloc))

    def revoke(self, subject):
        """What an administrator does by Dex's gRPC API."""
        words = [str(HOME / "directory"), self.grpc, "revoke", subject, "vestibule"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"directory: {done.stderr.strip()}")

    def granted(self, client):
        """All tokens of one password grant of jane's."""
        form = {"grant_type": "password", "client_id": client, "client_secret": SECRET, "username": "jane", "password": password("jane"),
                "scope": "openid"}
        with urllib.request.urlopen(f"{self.issuer}/token", urllib.parse.urlencode(form).encode(), timeout=10) as answer:
            return json.load(answer)

    def keys(self):
        with urllib.request.urlopen(f"{self.issuer}/keys", timeout=10) as answer:
            return [one["kid"] for one in json.load(answer)["keys"]]

    def token_answers(self):
        """How often its token endpoint was asked, by status."""
        with urllib.request.urlopen(f"http://{self.telemetry}/metrics", timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith("http_requests_total") and '/token"' in line]
        counted = {}
        for line in lines:
            code = re.search(r'code="(\d+)"', line)[1]
            counted[code] = counted.get(code, 0) + int(float(line.rsplit(" ", 1)[1]))
        return counted


class Reader(Guest):
    """A person at Dex, who chooses the connector `by` first."""

    def __init__(self, vestibule, name, by):
        super().__init__(vestibule, name, names="login")
        self.by = by

    def arrive(self, target="/json"):
        answer = super().arrive(target)
        on = [link for link in Links(answer[3]).to if f"/auth/{self.by}" in link]
        return self.visit(urllib.parse.urljoin(answer[1], on[0])) if on else answer


def main(score):
    port = free_port()
    dex, upstream = Dex(f"http://localhost:{port}"), Upstream()
    routes = [
        {"name": "app", "host": "localhost", "upstream": upstream.url, "allow": ["dex:authors"]},
        {"name": "any", "host": "localhost", "path": "/any/", "strip_path": True, "upstream": upstream.url, "allow": ["signed-in"]},
        {"name": "tool", "host": "localhost", "path": "/tool/", "strip_path": True, "upstream": upstream.url, "allow": ["signed-in"],
         "token_issuers": ["tool"]},
    ]
    issuer = {"name": "tool", "kind": "jwt", "issuer": dex.issuer, "provider": "dex", "principal": "user", "audiences": ["tool"]}
    provider = {"name": "dex", "kind": "oidc", "title": "Dex", "scopes": ["openid", "profile", "email", "groups", "offline_access"]}
    vestibule = Vestibule(dex.issuer, routes, port=port, provider=provider, membership={"refresh": f"{CLOCK}s"},
                          token_issuers=[issuer])
    score.check("Dex starts", True, f"{dex.took:.1f} s")
    check_live(score, vestibule, but="it shows a page of its own before it looks at the client")
    parts(score, dex, vestibule, sign_in, access_tokens, rotation, keys, browsers, revoked)


def kilgore(vestibule):
    return Reader(vestibule, "kilgore", "authors")


def jane(vestibule):
    return Reader(vestibule, "jane", "readers")


def sign_in(score, dex, vestibule):
    """Dex's pages, and the groups of its connector."""
    author = kilgore(vestibule)
    status, url, _, text = author.sign_in("/json?a=1")
    headers = json.loads(text).get("headers", {}) if status == 200 else {}
    score.check("an author, by the connector that says so, comes in and is where they wanted to go",
                status == 200 and url.endswith("/json?a=1"), f"{status}")
    score.check("the upstream is told who it is",
                headers.get("x-forwarded-email") == "kilgore@kilgore.trout", headers.get("x-forwarded-email"))
    reader = jane(vestibule)
    status, _, _, text = reader.sign_in("/any/json")
    score.check("jane, by a login form of Dex's, comes in where everybody may", status == 200 and reader.asked == 1, f"{status}")
    status = reader.get("/json")
    score.check("and not where only authors may: Dex names no groups for her", status in (403, 503), f"{status}")
    wrong = jane(vestibule)
    answer = wrong.arrive("/any/json")
    form = Login(answer[3])
    answer = wrong.visit(urllib.parse.urljoin(answer[1], form.action), {**form.fields, "login": "jane", "password": "not hers"})
    score.check("a wrong password leads nowhere", answer[1].startswith(dex.issuer), f"{answer[0]}, still at Dex")


def access_tokens(score, dex, vestibule):
    """Dex's access tokens are ID tokens by another name, for the client that got them."""
    tokens = dex.granted("tool")
    one, other = claims(tokens["access_token"]), claims(tokens["id_token"])
    status, said = Bearer(vestibule, tokens["access_token"]).ask("/tool/json")
    score.check("an access token of Dex's, which has all that an ID token has and no more, is refused as one",
                set(one) == set(other) and status == 401 and "the ID token of a sign-in" in said, f"aud {one['aud']}: {status}, {said}")
    config = json.loads(vestibule.config.read_text())
    config["token_issuers"][0]["audiences"] = [claims(dex.granted("vestibule")["access_token"])["aud"]]
    wrong = vestibule.folder / "wrong.yaml"
    wrong.write_text(json.dumps(config, indent=2))
    done = subprocess.run([PROGRAM, "check", "-c", str(wrong)], capture_output=True, text=True, env=CLEAN, timeout=60, check=False)
    said = done.stdout + done.stderr
    score.check("a configuration that would take what our own client gets is a mistake",
                done.returncode and all(part in said for part in ("is `vestibule`", "an audience that is no client id", "the client id at `dex`")),
                said.splitlines()[0])


def rotation(score, dex, vestibule):
    """Refresh tokens that are good for once."""
    people = [kilgore(vestibule).signed_in()]
    before = dex.token_answers()
    statuses = asked_for(2.5 * CLOCK, people)
    after = dex.token_answers()
    refreshes = after.get("200", 0) - before.get("200", 0)
    failures = sum(after.values()) - sum(before.values()) - refreshes
    score.check("refresh tokens that work once are used once, and nobody notices",
                set(statuses) == {200} and refreshes >= 2 and failures == 0,
                f"{refreshes} refreshes, {failures} rejected, {len(statuses)} requests, {set(statuses)}")


def keys(score, dex, vestibule):
    """Dex signs with another key."""
    author, before = kilgore(vestibule).signed_in(), dex.keys()
    began, statuses = time.monotonic(), []
    while dex.keys()[0] == before[0] and time.monotonic() - began < 75:  # it looks every 30 s whether its key is old
        statuses.append(author.get())
        time.sleep(0.2)
    after = dex.keys()
    status = jane(vestibule).sign_in("/any/json")[0]
    score.check("a sign-in right after Dex's key changed works", after[0] != before[0] and status == 200, f"{status}, {len(after)} keys")
    refreshes = dex.token_answers()["200"]
    statuses += asked_for(CLOCK + 2, [author])
    refreshes = dex.token_answers()["200"] - refreshes
    score.check("who was signed in goes on, with tokens of the new key", set(statuses) == {200} and refreshes >= 1,
                f"{refreshes} refreshes, {len(statuses)} requests, {set(statuses)}")


def browsers(score, dex, vestibule):
    """Dex keeps one refresh token for a person and a client: the next sign-in takes the place of the one before."""
    first, second = kilgore(vestibule).signed_in(), kilgore(vestibule).signed_in()
    out = seconds_until(401, first, LIMIT)
    score.check(f"a sign-in in another browser ends the first session {WITHIN}, since Dex keeps one", in_time(out), told(out))
    score.check("and the second goes on", second.get() == 200, "")


def revoked(score, dex, vestibule):
    """An administrator takes back what a person was given."""
    author = kilgore(vestibule).signed_in()
    subject = json.loads(vestibule.get("/.vestibule/session", {"Cookie": author.cookie})[2])["subject"]
    dex.revoke(subject)
    out = seconds_until(401, author, LIMIT)
    score.check(f"a revoked refresh token ends the session {WITHIN}", in_time(out), told(out))
    score.check("because the refresh was answered as no outage is", '"refresh_invalid"' in trail(vestibule), "")


if __name__ == "__main__":
    run(main)
