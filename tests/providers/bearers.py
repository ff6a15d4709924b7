"""Keycloak's access tokens as credentials: of people and of services, verified here or asked about, and what ends them.

A part of keycloak.py, beside what it does with sessions: the same Keycloak, in realms of its own.
"""

import json
import time
import urllib.parse

from peers import (
    HERE, SECRET, SLACK, Bearer, Guest, Vestibule, at_once, check_live, claims, free_port, live, parts, password, seconds_until, told,
)

API, ASKED, ROBOTS = (f"https://{name}.example.com" for name in ("api", "asked", "robots"))
ANSWER = 30  # seconds that an answer about a token is good for
PAUSE = 30  # seconds between two reads of keys that tokens cause
LEEWAY = 60  # seconds of clock difference that are forgiven
WITHIN = f"within {ANSWER} s (and {SLACK} s of slack)"

POLICIES = """
@id("members") permit (principal is User in Namespace::"keycloak:acme", action, resource == Route::"app");
@id("edge")
permit (principal is User in Group::"keycloak:acme/platform/Site Reliability & Edge", action, resource == Route::"edge");
@id("by-password")
permit (principal is User, action, resource == Route::"password")
when { context.amr.contains("pwd") && context has acr && context.acr == "1" };
@id("by-code") permit (principal is User, action, resource == Route::"code") when { context.amr.contains("otp") };
@id("one-robot") permit (principal == Service::"robots:ROBOT", action, resource == Route::"robot");
@id("deployers")
permit (principal is Service, action, resource == Route::"deploy")
when { principal.client_id == "robot" && principal.scopes.contains("deploy") };
"""


class Scene:
    """A realm with clients that get tokens, another like it, and a Vestibule before the first."""

    def __init__(self, keycloak, upstream):
        port = free_port()
        self.realm, self.other = (with_clients(keycloak.beside(name, f"http://localhost:{port}")) for name in ("tokens", "others"))
        self.robot = claims(self.service())["sub"]
        self.vestibule = Vestibule(
            self.realm.issuer, self.routes(upstream.url), port=port, provider={"name": "keycloak", "kind": "keycloak"},
            token_issuers=self.issuers(), policies="./policies", secrets={"inspector": SECRET, "wrong": "not it"}, prepare=self.write,
        )

    def issuers(self):
        people = {"issuer": self.realm.issuer, "provider": "keycloak", "principal": "user"}
        endpoint = f"{self.realm.issuer}/protocol/openid-connect/token/introspect"
        client = {"client_id": "inspector", "client_secret": {"file": "inspector"}}
        return [
            {**people, "name": "people", "kind": "jwt", "audiences": [API]},
            {**people, "name": "asked", "kind": "introspection", "audiences": [ASKED], "endpoint": endpoint, **client},
            {"issuer": self.realm.issuer, "principal": "service", "name": "robots", "kind": "jwt", "audiences": [ROBOTS]},
        ]

    def routes(self, upstream):
        def below(name, issuer, **more):
            return {"name": name, "host": "localhost", "path": f"/{name}/", "strip_path": True, "upstream": upstream,
                    "token_issuers": [issuer], **more}

        return [
            {"name": "app", "host": "localhost", "upstream": upstream, "token_issuers": ["people"]},
            *(below(name, "people") for name in ("edge", "password", "code")),
            *(below(name, "robots") for name in ("robot", "deploy")),
            below("asked", "asked", allow=["keycloak:acme/**"]),
        ]

    def write(self, folder):
        (folder / "policies").mkdir()
        (folder / "policies/tokens.cedar").write_text(POLICIES.replace("ROBOT", self.robot))

    def bearer(self, name, **how):
        """A person with a new access token."""
        return Bearer(self.vestibule, of_person(self.realm, name, **how)["access_token"])

    def service(self, **how):
        """A new access token of the robot's service account."""
        form = {"client_id": "robot", "client_secret": SECRET, **how}
        return granted(self.realm, grant_type="client_credentials", **form)["access_token"]


def with_clients(realm):
    """A realm with the scopes and clients of the file, whose password grant says that there was a password."""
    more = json.loads((HERE / "keycloak/clients.json").read_text().replace("change-me", SECRET))
    for scope in more["clientScopes"]:
        realm.realm("POST", "client-scopes", scope)
    for client in more["clients"]:
        realm.realm("POST", "clients", client)
    steps = realm.realm("GET", "authentication/flows/direct%20grant/executions")
    (step,) = [one["id"] for one in steps if one.get("providerId") == "direct-grant-validate-password"]
    reference = {"default.reference.value": "pwd", "default.reference.maxAge": "3600"}
    realm.realm("POST", f"authentication/executions/{step}/config", {"alias": "password", "config": reference})
    return realm


def granted(realm, **form):
    """What the token endpoint of a realm answers."""
    return realm.fetch("POST", f"/realms/{realm.name}/protocol/openid-connect/token", urllib.parse.urlencode(form).encode())


def of_person(realm, name, client="cli"):
    """All tokens of one password grant."""
    return granted(realm, grant_type="password", client_id=client, username=name, password=password(name), scope="openid")


def main(score, keycloak, upstream):
    scene = Scene(keycloak, upstream)
    parts(score, scene, scene.vestibule, checked, people, others, asked, services, new_key, ended, old_keys, expired)


def checked(score, scene, vestibule):
    """`check --live` about token issuers."""
    check_live(score, vestibule, about="token issuer")
    config = json.loads(vestibule.config.read_text())
    config["token_issuers"][1]["client_secret"] = {"file": "wrong"}
    other = vestibule.folder / "wrong.yaml"
    other.write_text(json.dumps(config))
    bad = [line for line in live(other, "token issuer") if not line.startswith("ok ")]
    named = len(bad) == 1 and all(part in bad[0] for part in ("FAIL", "`asked`, introspection", "401", "`client_secret`"))
    score.check("and names the fault where the secret of the client that asks about tokens is wrong", named,
                " / ".join(line[line.find("token issuer"):] for line in bad))


def people(score, scene, vestibule):
    """A person's access token, beside the same person's session."""
    ada, guest = scene.bearer("ada"), Guest(vestibule, "ada").signed_in()
    by_token, by_session = (told_upstream(vestibule, who) for who in ({"Authorization": f"Bearer {ada.token}"}, {"Cookie": guest.cookie}))
    score.check("by her access token ada is who she is by her session, and the upstream does not get it",
                by_token == by_session and by_token["x-forwarded-user"] == claims(ada.token)["sub"], by_token)
    bearers = {name: scene.bearer(name) for name in ("ada", "ben", "cleo")}
    statuses = {name: (one.get(), one.get("/edge/json")) for name, one in bearers.items()}
    score.check("rules about a group, and about one and all below it, hold for tokens that list full paths",
                statuses == {"ada": (200, 200), "ben": (200, 403), "cleo": (403, 403)}, statuses)
    status = scene.bearer("dora").get()
    score.check("dora, of whose groups her token says nothing, is not let in", status in (403, 503), f"{status}")
    statuses = ada.get("/password/json"), ada.get("/code/json")
    score.check("policies see by what somebody proved who they are", statuses == (200, 403),
                f"`amr` {claims(ada.token)['amr']}, `acr` {claims(ada.token)['acr']}: {statuses}")


def told_upstream(vestibule, who):
    """What the upstream is told of somebody."""
    names = ("authorization", "cookie", *(f"x-forwarded-{name}" for name in ("user", "preferred-username", "email")))
    headers = json.loads(vestibule.get("/json", who)[2])["headers"]
    return {name: headers[name] for name in names if name in headers}


def others(score, scene, vestibule):
    """What else Keycloak signs, or signs for others."""
    tokens = of_person(scene.realm, "ada")
    refused(score, vestibule, "/json", {
        "the ID token of ada's grant": (tokens["id_token"], "its claim 'typ' is 'ID', expected 'Bearer'"),
        "its refresh token": (tokens["refresh_token"], "its algorithm is 'HS512'"),
        "an access token without the audience": (scene.bearer("ada", client="other").token, f"it is for nobody, expected '{API}'"),
        "a service account's access token": (scene.service(), f"it is for '{ROBOTS}', expected '{API}'"),
        "ada's access token of another realm": (of_person(scene.other, "ada")["access_token"], "of nobody who is known here"),
    })


def refused(score, vestibule, target, cases):
    """Each of these tokens is refused there, for this cause."""
    where = {"/asked/json": "where Keycloak is asked, ", "/robot/json": "where services come in, "}.get(target, "")
    for what, (token, cause) in cases.items():
        status, said = Bearer(vestibule, token).ask(target)
        score.check(f"{where}{what} is refused", status == 401 and cause in said, f"{status}, {said}")


def asked(score, scene, vestibule):
    """Tokens that Keycloak is asked about. It says of all its own that they are active, ID tokens and refresh tokens too."""
    light = scene.bearer("ada", client="light")
    statuses = {"ada": scene.bearer("ada").get("/asked/json"), "cleo": scene.bearer("cleo").get("/asked/json")}
    score.check("Keycloak is asked about tokens that are told by their `iss`, and rules about groups hold",
                statuses == {"ada": 200, "cleo": 403}, statuses)
    score.check("a lightweight token, which does not say whose it is, is ada's where Keycloak is asked, and nobody's where not",
                (light.get("/asked/json"), light.get()) == (200, 401), f"claims {', '.join(claims(light.token))}")
    tokens = of_person(scene.realm, "ada")
    refused(score, vestibule, "/asked/json", {
        "the ID token of ada's grant": (tokens["id_token"], "ID"),
        "its refresh token": (tokens["refresh_token"], "Refresh"),
        "an access token without the audience": (scene.bearer("ada", client="other").token, f"it is for nobody, expected '{ASKED}'"),
        "ada's access token of another realm": (of_person(scene.other, "ada")["access_token"], "of nobody who is known here"),
    })


def services(score, scene, vestibule):
    """A service account's access token."""
    plain, deploys = Bearer(vestibule, scene.service()), Bearer(vestibule, scene.service(scope="deploy"))
    statuses = plain.get("/robot/json"), deploys.get("/robot/json")
    score.check("a service account is known by its id at Keycloak", statuses == (200, 200), f"robots:{scene.robot}, {statuses}")
    statuses = {"without": plain.get("/deploy/json"), "with": deploys.get("/deploy/json")}
    score.check("policies see its client and its scopes", statuses == {"without": 403, "with": 200}, f"scope `deploy`: {statuses}")
    refused(score, vestibule, "/robot/json", {"a person's token": (scene.bearer("ada").token, f"expected '{ROBOTS}'")})


def new_key(score, scene, vestibule):
    """Keycloak signs with another key, and soon with a third, which nobody here has seen yet."""
    realm, old = scene.realm, scene.bearer("ada")
    first, before = realm.keys()[0], old.get()
    realm.rotate("second", 200)
    new = scene.bearer("ada")
    second, status = realm.keys()[0], new.get()
    scene.read = time.monotonic()
    score.check("right after Keycloak's key changed, a token of the new one is served", second != first and status == 200, f"{status}")
    score.check("and one of the old one, which is published still", (before, old.get()) == (200, 200), "")
    realm.rotate("third", 300)
    switch_off(realm, first)
    realm.realm("DELETE", f"components/{component(realm, second)}")
    scene.old = {"switched off": (first, old), "removed": (second, new)}


def ended(score, scene, vestibule):
    """What an administrator does to people whose tokens have not ended. All at once: each takes as long as an answer is good."""
    realm, place = scene.realm, f"users/{scene.realm.user('cleo')}/groups/{scene.realm.group('acme/portal')}"
    realm.realm("PUT", place)
    people = {name: scene.bearer(name) for name in ("ada", "ben", "cleo")}
    scene.ended, scene.brief = people, scene.bearer("ben", client="brief")
    session = claims(people["ada"].token)["sid"]
    cases = {
        "ada": ("whose session is ended", 401, lambda: realm.realm("DELETE", f"sessions/{session}")),
        "ben": ("who is disabled", 401, lambda: realm.change("ben", enabled=False)),
        "cleo": ("who is taken out of a group", 403, lambda: realm.realm("DELETE", place)),
    }
    before = {name: one.get("/asked/json") for name, one in people.items()}
    took = at_once({name: lambda name=name: stopped(people[name], *cases[name][1:]) for name in cases})
    for name, (what, _, _) in cases.items():
        score.check(f"where Keycloak is asked, the token of {name}, {what}, is refused {WITHIN}",
                    before[name] == 200 and took[name] is not None, told(took[name]))


def stopped(bearer, status, act):
    """Seconds from what an administrator does until this token is answered so."""
    start = time.monotonic()
    act()
    done = seconds_until(status, bearer, ANSWER + SLACK, target="/asked/json")
    return done and time.monotonic() - start


def old_keys(score, scene, vestibule):
    """Keys that are published no more go with the next read: after 9 min, or for a token whose key is not known."""
    time.sleep(max(0, scene.read + PAUSE + 1 - time.monotonic()))
    status, there = scene.bearer("ada").get(), published(scene.realm)
    score.check("a token of a third key is served", status == 200, f"{status}")
    for what, (kid, bearer) in scene.old.items():
        status, said = bearer.ask()
        score.check(f"from then on a token of a key that was {what} is refused",
                    kid not in there and status == 401 and "no key of the provider" in said, f"{status}, {said}")


def component(realm, kid):
    """What gives the realm this key."""
    return next(one["providerId"] for one in realm.realm("GET", "keys")["keys"] if one["kid"] == kid)


def switch_off(realm, kid):
    there = realm.realm("GET", f"components/{component(realm, kid)}")
    there["config"] = {**there["config"], "enabled": ["false"], "active": ["false"]}
    realm.realm("PUT", f"components/{there['id']}", there)


def published(realm):
    return {one["kid"] for one in realm.fetch("GET", f"/realms/{realm.name}/protocol/openid-connect/certs")["keys"]}


def expired(score, scene, vestibule):
    """Where Keycloak is not asked, nobody hears of what was done in `ended`."""
    statuses = {name: one.get() for name, one in scene.ended.items()}
    score.check("where Keycloak is not asked, the tokens of all three are served on", set(statuses.values()) == {200}, statuses)
    ends = claims(scene.brief.token)["exp"]
    before = scene.brief.get()
    seconds_until(401, scene.brief, ends + LEEWAY + SLACK - time.time())
    after, (status, said) = time.time() - ends, scene.brief.ask()
    score.check(f"until `exp` and {LEEWAY} s of clock difference: then another token of ben, who is disabled all the time, is refused",
                (before, status) == (200, 401) and "it ended" in said and abs(after - LEEWAY) <= 2, f"{after:.0f} s after `exp`")
