"""Vestibule before a real Keycloak: its login form, its groups, its sessions, its tokens, its keys, and what its administrators do."""

import contextlib
import copy
import json
import os
import signal
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import bearers
from peers import (
    CLOCK, HERE, LIMIT, SECRET, WITHIN, Guest, Login, Process, Upstream, Vestibule, asked_for, at_once, beside, check_live, ended,
    free_port, in_order, in_time, parts, reachable, run, seconds_until, spelled, told, trail, until,
)

HOME = Path(os.environ["PROVIDERS_KEYCLOAK"])
PORTAL = "https://portal.example.com"  # what Vestibule is called in the realm's file


class Java(Process):
    """A program that a shell script starts, and does not become."""

    def stop(self):
        try:
            below = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except FileNotFoundError:
            below = []
        super().stop()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


class Keycloak:
    """Keycloak in development mode, its database in memory, with the realm of the file."""

    def __init__(self, portal):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.token, self.until = None, 0
        start = time.monotonic()
        self.process = Java(
            [str(HOME / "bin/kc.sh"), "start-dev", "--db=dev-mem", "--http-host=127.0.0.1", f"--http-port={self.port}"],
            KC_BOOTSTRAP_ADMIN_USERNAME="admin", KC_BOOTSTRAP_ADMIN_PASSWORD="admin", JAVA_OPTS_KC_HEAP="-Xms64m -Xmx640m",
        )
        until("keycloak answers", self.answers, 180, 0.1)
        self.make("acme", portal)
        self.took = time.monotonic() - start

    def make(self, name, portal):
        """The realm of the file, by this name."""
        realm = (HERE / "keycloak/realm.json").read_text().replace(PORTAL, portal).replace("change-me", SECRET)
        self.call("POST", "/admin/realms", {**json.loads(realm), "realm": name})
        self.name, self.issuer = name, f"http://{self.address}/realms/{name}"

    def beside(self, name, portal):
        """The same server, and another realm: nothing that happens in the one is seen in the other."""
        other = copy.copy(self)
        other.make(name, portal)
        return other

    def answers(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(f"keycloak ended: {self.process.tail()}")
        try:
            return reachable(self.port) and self.fetch("GET", "/realms/master") is not None
        except (urllib.error.URLError, ConnectionError):
            return False

    def fetch(self, method, path, body=None, headers=None):
        request = urllib.request.Request(f"http://{self.address}{path}", body, headers or {}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def authority(self):
        """The administrator's access token."""
        if time.monotonic() > self.until:
            form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
            said = self.fetch("POST", "/realms/master/protocol/openid-connect/token", urllib.parse.urlencode(form).encode())
            self.token, self.until = said["access_token"], time.monotonic() + said["expires_in"] - 15
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

    def call(self, method, path, body=None):
        """One call of the admin REST API."""
        return self.fetch(method, path, None if body is None else json.dumps(body).encode(), self.authority())

    def realm(self, method, path, body=None):
        return self.call(method, f"/admin/realms/{self.name}/{path}", body)

    def user(self, name):
        return self.realm("GET", f"users?exact=true&username={name}")[0]["id"]

    def group(self, path):
        return self.realm("GET", f"group-by-path/{urllib.parse.quote(path)}")["id"]

    def sessions(self, name):
        return [one["id"] for one in self.realm("GET", f"users/{self.user(name)}/sessions")]

    def joined(self, vestibule, name):
        """Somebody who signs in with another browser, and the session that they get at Keycloak."""
        before = set(self.sessions(name))
        guest = Guest(vestibule, name).signed_in()
        (new,) = set(self.sessions(name)) - before
        return guest, new

    def events(self, kind):
        return len(self.realm("GET", f"events?max=1000&type={kind}"))

    def change(self, name, **what):
        user = self.realm("GET", f"users/{self.user(name)}")
        self.realm("PUT", f"users/{user['id']}", {**user, **what})

    def required(self, on):
        """"Backchannel logout session required" of the client."""
        client = self.realm("GET", "clients?clientId=vestibule")[0]
        client["attributes"]["backchannel.logout.session.required"] = "true" if on else "false"
        self.realm("PUT", f"clients/{client['id']}", client)

    def keys(self):
        """The key ids that sign with RS256, the one in use first."""
        said = self.realm("GET", "keys")
        now = said["active"]["RS256"]
        return [now, *(one["kid"] for one in said["keys"] if one.get("use") == "SIG" and one["algorithm"] == "RS256" and one["kid"] != now)]

    def rotate(self, name, priority):
        """A new key that signs from now on."""
        self.realm("POST", "components", {
            "name": name, "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": [str(priority)], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"], "keySize": ["2048"]},
        })

    def drop_keys(self, before):
        """The signing keys of lower priority are gone at once, published no more."""
        for one in self.realm("GET", "components?type=org.keycloak.keys.KeyProvider"):
            if one["providerId"] == "rsa-generated" and int(one["config"].get("priority", ["0"])[0]) < before:
                self.realm("DELETE", f"components/{one['id']}")


def main(score):
    port = free_port()
    keycloak, upstream = Keycloak(f"http://localhost:{port}"), Upstream()
    vestibule = Vestibule(
        keycloak.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["keycloak:acme/**"]}], port=port,
        provider={"name": "keycloak", "kind": "keycloak"}, membership={"refresh": f"{CLOCK}s"},
    )
    score.check("Keycloak starts with the realm of the file",
                True, f"{keycloak.call('GET', '/admin/serverinfo')['systemInfo']['version']}, {keycloak.took:.0f} s")
    check_live(score, vestibule)
    works = (sign_in, tokens, groups, sign_out, back_channel, disabled, keys)
    beside(score, lambda score: parts(score, keycloak, vestibule, *works), lambda score: bearers.main(score, keycloak, upstream))


def sign_in(score, keycloak, vestibule):
    """Keycloak's login form, and groups in a policy."""
    ada = Guest(vestibule, "ada")
    status, url, _, text = ada.sign_in("/json?a=1&b=%2F")
    headers = json.loads(text).get("headers", {}) if status == 200 else {}
    score.check("ada, in a group below `acme`, signs in by Keycloak's form and is where she wanted to go",
                status == 200 and ada.asked == 1 and url.endswith("/json?a=1&b=%2F"), f"{status}, {ada.asked} password")
    named = {name: headers.get(f"x-forwarded-{name}") for name in ("user", "preferred-username", "email")}
    score.check("the upstream is told who she is",
                named == {"user": keycloak.user('ada'), "preferred-username": "ada", "email": "ada@example.com"}, named)
    said = json.loads(vestibule.get("/.vestibule/session", {"Cookie": ada.cookie})[2])
    score.check("and so is the page", (said["login"], said["name"]) == ("ada", "Ada Adeyemi"), f"{said['login']}, {said['name']}")
    ben = Guest(vestibule, "ben")
    score.check("ben, in another group below it, too", ben.sign_in()[0] == 200, "")
    cleo = Guest(vestibule, "cleo")
    status, url, _, text = cleo.sign_in()
    score.check("cleo, in `acme-guests`, is refused by the policy", status == 403 and cleo.asked == 1, f"{status}")
    dora = Guest(vestibule, "dora")
    status, url, _, text = dora.sign_in()
    score.check("dora, in no group, too", status == 403 and dora.asked == 1, f"{status}")
    wrong = Guest(vestibule, "ada")
    answer = wrong.arrive()
    form = Login(answer[3])
    answer = wrong.visit(form.action, {**form.fields, "username": "ada", "password": "not hers"})
    score.check("a wrong password leads nowhere",
                Login(answer[3]).asks and answer[1].startswith(keycloak.issuer), f"{answer[0]}, still at Keycloak")


def tokens(score, keycloak, vestibule):
    """Refresh tokens that are good for once; ada has two browsers, and ben joins a group that changes nothing for him."""
    people = [Guest(vestibule, name).signed_in() for name in ("ada", "ada", "ben")]
    keycloak.realm("PUT", f"users/{keycloak.user('ben')}/groups/{keycloak.group('acme-guests')}")
    before, wrong = keycloak.events("REFRESH_TOKEN"), keycloak.events("REFRESH_TOKEN_ERROR")
    statuses = asked_for(2.5 * CLOCK, people)
    refreshes, failures = keycloak.events("REFRESH_TOKEN") - before, keycloak.events("REFRESH_TOKEN_ERROR") - wrong
    score.check("refresh tokens that work once are used once, and nobody notices",
                set(statuses) == {200} and refreshes >= 4 and failures == 0,
                f"{refreshes} refreshes, {failures} rejected, {len(statuses)} requests, {set(statuses)}")


def groups(score, keycloak, vestibule):
    """A group taken and given by an administrator."""
    cases = [("ben", "acme/portal", "one of his two groups"), ("ada", "acme/platform/Site Reliability & Edge", "her only group")]
    people = {name: Guest(vestibule, name).tried() for name in ("ada", "ben", "cleo")}
    places = {name: f"users/{keycloak.user(name)}/groups/{keycloak.group(path)}" for name, path, _ in cases}
    for change, status in (("DELETE", 403), ("PUT", 200)):
        moved = [name for name in places if people[name].get() != status]  # nobody comes back who never went
        for place in places.values():
            keycloak.realm(change, place)
        took = at_once({name: lambda name=name: seconds_until(status, people[name], LIMIT) for name in moved})
        for name, _, what in cases:
            claim = f"taken out of {what}, is refused" if change == "DELETE" else "put back, gets in"
            score.check(f"{name}, {claim} {WITHIN}", in_time(took.get(name)), told(took.get(name)))
    score.check("cleo is refused all the time", people["cleo"].get() == 403, "")


def sign_out(score, keycloak, vestibule):
    """RP-initiated logout ends Keycloak's session too."""
    ada = Guest(vestibule, "ada").signed_in()
    ada.forgets()
    ada.signed_in()
    score.check("while Keycloak has a session, nobody asks for the password again", ada.asked == 1, f"asked {ada.asked} time")
    old, mine = ada.cookie, set(keycloak.sessions("ada"))
    status, url, _, text = ada.sign_out()
    left = mine - set(keycloak.sessions("ada"))
    score.check("sign-out goes by Keycloak, which asks nothing, and comes back to say so",
                status == 200 and url.startswith(f"{vestibule.url}/.vestibule/sign-out?") and "was told to end its own" in text,
                f"{status} at {url.split('?')[0]}")
    score.check("Keycloak's session is over", len(left) == 1, f"{len(left)} of {len(mine)} ended")
    score.check("so is ours", vestibule.get("/json", {"Cookie": old})[0] == 401, "")
    answer = ada.arrive()
    score.check("the next sign-in asks for the password", Login(answer[3]).asks, f"{answer[0]}")
    score.check("and works", ada.fill_in(answer)[0] == 200, "")


def back_channel(score, keycloak, vestibule):
    """An administrator ends sessions, and Keycloak says so."""
    ben = keycloak.user("ben")
    everywhere = lambda: keycloak.realm("POST", f"users/{ben}/logout")  # noqa: E731
    everywhere()
    (first, one), (second, two) = (keycloak.joined(vestibule, "ben") for _ in range(2))
    took = ended(lambda: keycloak.realm("DELETE", f"sessions/{one}"), first)
    score.check("a session that an administrator ends is over within a second", in_order(took, 1000), spelled(took))
    score.check("and no other of the same person", second.get() == 200 and keycloak.sessions("ben") == [two], "")
    # With "session required", Keycloak 26 tells of one session of them (keycloak/keycloak#22914): the others end by their refresh.
    third = Guest(vestibule, "ben").signed_in()
    waits = {name: lambda guest=guest: seconds_until(401, guest, LIMIT, 0.01) for name, guest in (("second", second), ("third", third))}
    took = at_once({"act": everywhere, **waits})
    one, two = sorted((took[name] for name in waits), key=lambda one: one or LIMIT)
    score.check("of all sessions of a person, ended together, one is over within a second", one is not None and one <= 1, told(one))
    score.check(f"and the other {WITHIN}", in_time(two), told(two))
    keycloak.required(False)
    pair = [Guest(vestibule, "ben").signed_in() for _ in range(2)]
    took = ended(everywhere, pair[0])
    score.check("without \"session required\" all of them are", in_order(took, 1000) and pair[1].get() == 401, spelled(took))
    keycloak.required(True)
    guest = Guest(vestibule, "ben").signed_in()
    keycloak.realm("POST", "logout-all")
    out = seconds_until(401, guest, LIMIT)
    score.check(f"all sessions of the realm, ended together, are over {WITHIN}", in_time(out), told(out))
    text = trail(vestibule)
    said = sum('"Logoff"' in line and '"provider_signed_out"' in line for line in text.splitlines())
    refused = text.count("sign_out_refused")
    score.check("the trail has what Keycloak said",
                said >= 4 and refused == 0, f"{said} sessions ended by Keycloak's word, {refused} tokens refused")


def disabled(score, keycloak, vestibule):
    """An account that is switched off."""
    ben = Guest(vestibule, "ben").signed_in()
    keycloak.change("ben", enabled=False)
    out = seconds_until(401, ben, LIMIT)
    score.check(f"a disabled person's session is over {WITHIN}", in_time(out), told(out))
    score.check("because the refresh was rejected", "refresh_rejected" in trail(vestibule), "")
    answer = Guest(vestibule, "ben").sign_in()
    score.check("and there is no other", answer[1].startswith(keycloak.issuer), f"{answer[0]}, still at Keycloak")
    keycloak.change("ben", enabled=True)
    score.check("enabled again, a sign-in works", Guest(vestibule, "ben").sign_in()[0] == 200, "")


def keys(score, keycloak, vestibule):
    """Keycloak signs with another key."""
    ada = Guest(vestibule, "ada").signed_in()
    old = keycloak.keys()[0]
    start = time.monotonic()
    keycloak.rotate("second", 200)
    new = keycloak.keys()[0]
    status = Guest(vestibule, "ada").sign_in()[0]
    score.check("a sign-in right after Keycloak's key changed works",
                old != new and status == 200, f"{status}, {time.monotonic() - start:.1f} s after")
    keycloak.drop_keys(200)
    score.check("and when the old key is gone",
                old not in keycloak.keys() and Guest(vestibule, "ada").sign_in()[0] == 200, f"{len(keycloak.keys())} key")
    before, errors = keycloak.events("REFRESH_TOKEN"), keycloak.events("REFRESH_TOKEN_ERROR")
    statuses = asked_for(CLOCK + 2, [ada])
    refreshes = keycloak.events("REFRESH_TOKEN") - before
    score.check("who was signed in goes on, with tokens of the new key",
                set(statuses) == {200} and refreshes >= 1 and keycloak.events("REFRESH_TOKEN_ERROR") == errors,
                f"{refreshes} refresh, {len(statuses)} requests, {set(statuses)}")
    other, session = keycloak.joined(vestibule, "ben")
    took = ended(lambda: keycloak.realm("DELETE", f"sessions/{session}"), other)
    score.check("a logout token of the new key is believed", in_order(took, 1000), spelled(took))


if __name__ == "__main__":
    run(main)
