"""Keys rotate under load, at the provider and here: no request fails, nobody is signed out.

While people sign in, refresh and ask, the provider's keys change in every form, the ring gets new keys and loses its first,
and a new assertion key is published. Every assertion that the upstream got is verified by the published key set.
"""

import base64
import http.client
import json
import subprocess
import threading
import time

from rig import CLEAN, PROGRAM, Provider, Upstream, Vestibule, run, signed_in, until

FORMS = [{}, {"keep_old": False}, {"keep_old": False, "same_kid": True}]


def main(score):
    rounds = 6 if score.full else 2
    provider, upstream = Provider(ACCESS_TOKEN_TTL=12), Upstream()
    vestibule = Vestibule(
        provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform/**"]}],
        membership={"refresh": "2s"},
    )
    people = [signed_in(vestibule, "alice") for _ in range(4)]
    work = Work(vestibule, people)
    first = keys(vestibule, "ring")[0]["name"]
    for turn in range(rounds):
        provider.admin("rotate", FORMS[turn % len(FORMS)])
        made = age(vestibule, command(vestibule, "rotate", "--kind", "ring")[0]["name"])
        until("the new key seals", lambda name=made: any(k["name"] == name and k["state"] == "seals" for k in keys(vestibule, "ring")))
        if turn == 0:
            command(vestibule, "rotate", "--kind", "assertion")
        if turn == rounds - 1:
            until("the first key goes", lambda: retired(vestibule, first), 40, 0.5)
        if turn < rounds - 1:
            time.sleep(32)  # a token may force one read of newer keys in 30 s: the next form waits for that
    asked, failed, signed_in_again = work.stop()
    score.check("requests under rotation never failed", failed == 0 and asked > 500, f"{asked} requests, {failed} failed")
    score.check("people signed in all the while", signed_in_again >= rounds, f"{signed_in_again} sign-ins")
    score.check("nobody was signed out", all(who(vestibule, person) == 200 for person in people), f"{len(people)} people")
    names = [key["name"] for key in keys(vestibule, "ring")]
    score.check("the ring's first key is gone", first not in names, f"{len(names)} keys left")
    published = {key["kid"] for key in json.loads(vestibule.get("/.well-known/vestibule/jwks.json")[2])["keys"]}
    signed = work.kids
    score.check("every assertion was signed by a published key", signed and signed <= published, f"{len(signed)} of {len(published)} keys signed")
    score.figure(f"{rounds} rotations of every kind of key under load: failed requests, sign-outs", f"{failed}, 0", "0, 0")


class Work:
    """People who ask all the time, and one who signs in again and again."""

    def __init__(self, vestibule, people):
        self.vestibule, self.going = vestibule, True
        self.asked = self.failed = self.sign_ins = 0
        self.kids = set()
        self.threads = [threading.Thread(target=self.ask, args=(person,), daemon=True) for person in people]
        self.threads.append(threading.Thread(target=self.come, daemon=True))
        for thread in self.threads:
            thread.start()

    def ask(self, person):
        while self.going:
            status, _, body = self.vestibule.get("/json", {"Cookie": person.cookie})
            self.asked += 1
            self.failed += status != 200
            if status == 200:
                token = json.loads(body)["headers"].get("vestibule-assertion")
                head = token.split(".")[0]
                self.kids.add(json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"])
            time.sleep(0.02)

    def come(self):
        while self.going:
            bob = signed_in(self.vestibule, "bob")
            self.sign_ins += 1
            leave(self.vestibule, bob)
            time.sleep(0.5)

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()
        return self.asked, self.failed, self.sign_ins


def who(vestibule, person):
    return vestibule.get("/.vestibule/session", {"Cookie": person.cookie})[0]


def leave(vestibule, person):
    connection = http.client.HTTPConnection("127.0.0.1", vestibule.port, timeout=30)
    headers = {"Host": f"localhost:{vestibule.port}", "Cookie": person.cookie, "Origin": vestibule.url, "Content-Length": "0"}
    connection.request("POST", "/.vestibule/sign-out", headers=headers)
    if connection.getresponse().status != 303:
        raise RuntimeError("could not sign out")
    connection.close()


def ask(vestibule, *arguments):
    return subprocess.run(
        [PROGRAM, "-c", str(vestibule.config), "keys", *arguments, "--json"], env=CLEAN, capture_output=True, text=True
    )


def command(vestibule, *arguments):
    done = ask(vestibule, *arguments)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def keys(vestibule, kind):
    return [key for key in command(vestibule, "list") if key["kind"] == kind]


def retired(vestibule, name):
    """Nothing stored may need it: then it goes. A sign-in of the last ten minutes might, which is why this insists."""
    if next(key for key in keys(vestibule, "ring") if key["name"] == name)["needed_by"]:
        return False
    return ask(vestibule, "retire", name, "--force").returncode == 0


def age(vestibule, name):
    """A key seals a minute after it was made, which stands in its name."""
    seconds, digits = name.rsplit("-", 1)
    ring = vestibule.folder / "keys/ring"
    older = f"{int(seconds) - 70}-{digits}"
    (ring / f"{name}.key").rename(ring / f"{older}.key")
    return older


if __name__ == "__main__":
    run(main)
