"""A job's token that was seen before costs what a session does, and made-up tokens make nobody fetch keys."""

import http.client
import time

from groups import Client, in_turns
from rig import API_TOKEN, Provider, Upstream, Vestibule, run, signed_in

AUDIENCE = "https://deploy.example.test"
MUST = 1.15
BOGUS = 10_000
FETCHES = 2
KEYS = "/oauth/discovery/keys"

POLICIES = """
@id("jobs")
permit (principal is Job in Project::"gitlab:acme/shop/api", action, resource)
when { principal.ref_protected && principal.user in Group::"gitlab:acme/release" };
@id("people")
permit (principal is User in Group::"gitlab:acme/release", action, resource);
"""


def main(score):
    provider, upstream = Provider(), Upstream()
    provider.admin("user", {"user": "ines", "memberships": {"acme/release": "developer"}})

    def policies(folder):
        (folder / "policies").mkdir()
        (folder / "policies" / "app.cedar").write_text(POLICIES)

    vestibule = Vestibule(
        provider.issuer, [{"name": "app", "upstream": upstream.url, "token_issuers": ["ci"]}],
        membership={"refresh": "5m", "api": {"token": {"file": "api"}}}, secrets={"api": API_TOKEN}, prepare=policies,
        policies="./policies",
        token_issuers=[{"name": "ci", "kind": "gitlab_ci", "provider": "gitlab", "audiences": [AUDIENCE]}],
    )
    asked = {"aud": AUDIENCE, "project_path": "acme/shop/api", "project_id": 5120, "user": "ines"}
    token = provider.admin("ci-token", asked)["token"]
    compare(score, vestibule, token)
    made_up(score, provider, vestibule, provider.admin("ci-token", {**asked, "header": {"kid": "nobody-knows"}})["token"], token)


def compare(score, vestibule, token):
    """Requests with a session and with a token in turns on two connections."""
    clients = {"session": Client(vestibule, signed_in(vestibule, "ines").cookie), "token": Client(vestibule, "")}
    clients["token"].headers = {"Host": f"localhost:{vestibule.port}", "Authorization": f"Bearer {token}"}
    used = in_turns(vestibule, clients, 80 if score.full else 30)
    session, job = used["session"], used["token"]
    ratio = job / session
    score.check("a job's token that was seen before costs what a session does", ratio <= MUST,
                f"{ratio:.2f} times: {job / 1000:.0f} µs and {session / 1000:.0f} µs of CPU per request")
    score.figure("CPU per request, job token seen before, against session", f"{ratio:.2f}", f"≤ {MUST:.2f}")


def made_up(score, provider, vestibule, bad, good):
    """As many made-up tokens as one minute takes or less, each of another text; good ones are served in between."""
    fetched = lambda: provider.admin("stats").get(KEYS, 0)  # noqa: E731
    before, begun, refused, served = fetched(), time.monotonic(), 0, 0
    connection = http.client.HTTPConnection("127.0.0.1", vestibule.port, timeout=30)
    head, body, signature = bad.split(".")
    for number in range(BOGUS):
        text = f"{head}.{body}.{number:08}{signature[8:]}"
        connection.request("GET", "/sink", headers={"Host": f"localhost:{vestibule.port}", "Authorization": f"Bearer {text}"})
        answer = connection.getresponse()
        answer.read()
        refused += answer.status == 401
        if number % 1000 == 0:
            served += vestibule.get("/sink", {"Authorization": f"Bearer {good}"})[0] == 200
    seconds = time.monotonic() - begun
    caused = fetched() - before
    minutes = max(1, seconds / 60)
    score.check(f"{BOGUS} made-up tokens are refused", refused == BOGUS, f"{refused} in {seconds:.0f} s")
    score.check("a good token is served meanwhile", served == BOGUS // 1000, f"{served} times")
    score.check(f"they cause at most {FETCHES} fetches of keys a minute", caused / minutes <= FETCHES, f"{caused} in {seconds:.0f} s")
    score.figure(f"fetches of keys that {BOGUS} made-up tokens cause in a minute", f"{caused / minutes:.0f}", f"≤ {FETCHES}")


if __name__ == "__main__":
    run(main)
