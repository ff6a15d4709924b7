"""Three upstreams behind one route, one of which is killed, hangs, is slow, or says that it is sick: under load.

What may fail is counted until the gateway has turned to the others; after that nothing that can be sent again may fail.
"""

import os
import signal
import time

from world import Authority, Gateway, Load, Peer, parts, run, told, until

NAMES = ("one", "two", "three")
EJECTED = 15  # seconds that turning away may take at most, of which the first byte's timeout is 2


def main(score):
    authority = Authority()
    every = {"killed": killed, "hung": hung, "slow": slow, "sick": sick, "none left": none_left, "TLS": over_tls}
    parts(score, *((name, lambda part=part: part(score, authority)) for name, part in every.items()))


class Three:
    """Three upstreams, and a gateway that asks `/healthz` of each."""

    def __init__(self, **more):
        self.peers = {name: Peer(name) for name in NAMES}
        upstream = {"urls": [peer.url for peer in self.peers.values()], "health": "/healthz", **more}
        timeouts = {"connect": "1s", "first_byte": "2s"}
        self.gateway = Gateway(
            routes=[{"name": "app", "upstream": upstream, "allow": ["public"], "timeouts": timeouts}]
        )
        until("all three serve", lambda: set(self.answering()) == set(NAMES), 20)

    def answering(self, requests=30, timeout=5):
        """Who answers a few requests at once, and how often."""
        return Load(self.gateway.url, workers=6, requests=requests, timeout=timeout).result()["upstreams"]

    def quiet(self):
        """True if many requests are all answered at once: nobody waits for an upstream that does not answer."""
        counted = Load(self.gateway.url, workers=6, requests=90, timeout=5).result()
        return counted["failed"] == 0 and counted["max"] < 1000


def trouble(score, what, three, deed, undo, must=None):
    """Makes trouble under load, and counts failures until the gateway has turned away from it, and after."""
    load = Load(three.gateway.url, workers=8, rate=300, timeout=10)
    posts = Load(three.gateway.url, workers=4, rate=50, timeout=10, method="POST", body=2000)
    begun = time.monotonic()
    time.sleep(1)  # so long all is well
    at = time.monotonic() - begun
    deed(three.peers["two"])
    until(f"{what}: the gateway has turned away", three.quiet, EJECTED + 10, 0)
    took = time.monotonic() - begun - at
    after = Load(three.gateway.url, workers=8, rate=300, timeout=10, seconds=3).result()
    counted, posted = load.stop(), posts.stop()
    early = sum(failure["at"] < at for failure in counted["failures"])
    score.check(
        f"an upstream that {what}: the others serve alone within {EJECTED} s",
        took < EJECTED and "two" not in after["upstreams"],
        f"after {took:.1f} s; {counted['failed']} of {counted['requests']} GETs and {posted['failed']} of {posted['requests']} POSTs failed before",
    )
    score.check(
        f"an upstream that {what}: nothing fails after that",
        after["failed"] == 0 and after["requests"] > 300 and not early,
        told(after),
    )
    if must is not None:
        score.check(
            f"an upstream that {what}: at most {must} requests that can be sent again fail at all",
            counted["failed"] <= must,
            told(counted),
        )
    score.figure(
        f"an upstream that {what}, among three: GETs failed, until it is left out",
        f"{counted['failed']}, {took:.1f} s",
        f"≤ {EJECTED} s",
    )
    undo(three.peers["two"])
    back = time.monotonic()
    until(f"{what}: it serves again once it is well", lambda: "two" in three.answering(), 40, 0.3)
    score.check(
        f"an upstream that {what}: it serves again once it is well", True, f"after {time.monotonic() - back:.1f} s"
    )


def killed(score, _):
    three = Three()

    def again(peer):
        three.peers["two"] = Peer("two", port=peer.port)

    trouble(score, "is killed", three, lambda peer: peer.process.stop(), again, must=0)


def hung(score, _):
    """Its kernel accepts connections, and nobody answers: only a clock finds out."""
    three = Three()
    trouble(
        score,
        "hangs",
        three,
        lambda peer: os.kill(peer.process.pid, signal.SIGSTOP),
        lambda peer: os.kill(peer.process.pid, signal.SIGCONT),
    )


def slow(score, _):
    """Every answer of it takes 4 s, the health check's too: longer than the first byte may take."""
    three = Three()
    trouble(score, "is slow", three, lambda peer: peer.admin("slow=4000"), lambda peer: peer.admin("slow=0"))


def sick(score, _):
    """It answers well, and its health check says 503: it is left out before anything fails."""
    three = Three()

    def until_left_out(peer):
        peer.admin("sick=1")
        until("the sick one is left out", lambda: "two" not in three.answering(60), EJECTED, 0.2)

    trouble(score, "says that it is sick", three, until_left_out, lambda peer: peer.admin("sick=0"), must=0)


def none_left(score, _):
    """All of them gone: an answer that says so, at once, and service as soon as one is back."""
    three = Three()
    ports = {name: peer.port for name, peer in three.peers.items()}
    for peer in three.peers.values():
        peer.process.stop()
    counted = Load(three.gateway.url, workers=4, requests=40, timeout=5, want="^50[234]$").result()
    score.check(
        "no upstream left: 502, 503 or 504, and soon", counted["failed"] == 0 and counted["max"] < 3000, told(counted)
    )
    three.peers["one"] = Peer("one", port=ports["one"])
    start = time.monotonic()
    until("it serves again", lambda: Load(three.gateway.url, workers=1, requests=5).result()["failed"] == 0, 30, 0.2)
    score.check("one of them is back: it serves", True, f"after {time.monotonic() - start:.1f} s")


def over_tls(score, authority):
    """Upstreams over TLS are verified (S-107), by name and by authority; what does not verify is never asked."""
    other = Authority("another authority")
    wrong = {
        "another name": Peer("wrong", authority.issue("elsewhere.example")),
        "another authority": Peer("wrong", other.issue("localhost")),
    }
    right = Peer("right", authority.issue("localhost"))
    for h2 in (False, True):
        said = {
            "urls": [f"https://localhost:{right.port}"],
            "tls": {"ca": str(authority.certificate)},
            **({"http2": True} if h2 else {}),
        }
        gateway = Gateway(said)
        counted = Load(gateway.url, workers=8, requests=400).result()
        score.check(
            f"s107: an upstream over TLS{', HTTP/2' if h2 else ''}, is spoken to",
            counted["failed"] == 0 and counted["upstreams"] == {"right": 400},
            told(counted),
        )
    for name, peer in wrong.items():
        gateway = Gateway({"urls": [f"https://localhost:{peer.port}"], "tls": {"ca": str(authority.certificate)}})
        counted = Load(gateway.url, workers=2, requests=10, want="^502$").result()
        score.check(
            f"s107: an upstream whose certificate is of {name} is not spoken to",
            counted["failed"] == 0 and set(counted["upstreams"]) == {""},
            told(counted),
        )


if __name__ == "__main__":
    run(main)
