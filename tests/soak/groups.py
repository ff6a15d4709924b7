"""A person in 5,000 groups costs at each request what a person in five costs."""

import http.client
import statistics
from pathlib import Path

from rig import SECRET, Provider, Upstream, Vestibule, run, signed_in

MANY, FEW = 5000, 5
MUST = 1.2


def path(number):
    """Group number `number`, whose path has 120 characters."""
    return f"tower/{number:0>114}"


def main(score):
    upstream = Upstream()
    gitlab = Provider()
    compare(score, gitlab, upstream, "by userinfo", kind="gitlab", role="developer")
    plain = Provider(PROFILE="full", ID_TOKEN_CLAIMS="all")
    plain.admin("client", {
        "client_id": "vestibule", "client_secret": SECRET, "grant_types": ["authorization_code"],
        "redirect_uris": ["http://localhost/.vestibule/callback/gitlab"],
    })
    compare(score, plain, upstream, "by ID token, without refresh token", kind="oidc", role="guest")


def compare(score, provider, upstream, how, kind, role):
    """Requests of both people in turns on two connections, and what the process used for each."""
    vestibule = Vestibule(
        provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": [f"gitlab:{path(3)}"]}], kind=kind,
        membership={"refresh": "5m"},
    )
    people = {}
    for name, number in (("few", FEW), ("many", MANY)):
        provider.admin("user", {"user": name, "memberships": {path(at): role for at in range(number)}})
        people[name] = Client(vestibule, signed_in(vestibule, name).cookie)
    used = in_turns(vestibule, people, 60 if score.full else 24)
    few, many = used["few"], used["many"]
    ratio = many / few
    score.check(f"a person in {MANY} groups costs what one in {FEW} does, {how}", ratio <= MUST,
                f"{ratio:.2f} times: {many / 1000:.0f} µs and {few / 1000:.0f} µs of CPU per request")
    score.figure(f"CPU per request, person in {MANY} groups of 120 characters, against {FEW}, {how}", f"{ratio:.2f}", f"≤ {MUST:.2f}")


def in_turns(vestibule, clients, blocks):
    """Lets clients ask in turns, and says what the process used for a request of each: nanoseconds, the median of all blocks."""
    used = {name: [] for name in clients}
    for client in clients.values():
        client.ask(500)  # what is made once is made
    for block in range(blocks):
        for name, client in sorted(clients.items(), reverse=block % 2 == 1):
            before = cpu(vestibule.process.pid)
            client.ask(200)
            used[name].append(cpu(vestibule.process.pid) - before)
    return {name: statistics.median(each) / 200 for name, each in used.items()}


class Client:
    """One connection that is kept open."""

    def __init__(self, vestibule, cookie):
        self.connection = http.client.HTTPConnection("127.0.0.1", vestibule.port, timeout=30)
        self.headers = {"Host": f"localhost:{vestibule.port}", "Cookie": cookie}

    def ask(self, times):
        for _ in range(times):
            self.connection.request("GET", "/sink", headers=self.headers)
            answer = self.connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}")


def cpu(pid):
    """Nanoseconds that all threads of a process have run for."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))


if __name__ == "__main__":
    run(main)
