"""A long stream lives through the refresh of the tokens behind its session, and so does the session, however slow that is."""

import asyncio
import time

from rig import Provider, Upstream, Vestibule, run, signed_in, until
from wire import ask, events

SLOW = 30


def main(score):
    stream(score)
    slow(score)


def stream(score):
    """Tokens are refreshed again and again under a stream."""
    ttl, seconds = (20, 120) if score.full else (8, 25)
    provider, upstream = Provider(ACCESS_TOKEN_TTL=ttl), Upstream()
    vestibule = Vestibule(
        provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform"]}],
        membership={"refresh": "2s"},
    )
    alice = signed_in(vestibule, "alice")
    before = grants(provider)
    times, statuses = asyncio.run(watch(vestibule, alice, seconds))
    refreshes = grants(provider) - before
    gap = max((b - a for a, b in zip(times, times[1:])), default=0)
    score.check(f"a stream of {seconds} s arrives whole", len(times) == seconds, f"{len(times)} events")
    score.check("no event waits for a refresh", gap < 3, f"longest gap {gap:.2f} s")
    score.check(f"tokens of {ttl} s were refreshed under it", refreshes >= seconds // ttl - 1, f"{refreshes} refreshes")
    score.check("requests beside it never failed", set(statuses) == {200}, f"{len(statuses)} requests, {set(statuses)}")
    score.figure(f"stream of {seconds} s over {ttl} s tokens", f"whole, {refreshes} refreshes", "whole")


def slow(score):
    """The token endpoint takes 30 s, and the access token is over long before."""
    provider, upstream = Provider(ACCESS_TOKEN_TTL=8), Upstream()
    vestibule = Vestibule(
        provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform"]}],
        membership={"refresh": "2s"},
    )
    alice = signed_in(vestibule, "alice")
    provider.admin("lives", {"access_token": 7200})
    provider.admin("fault", {"path": "/oauth/token", "delay_ms": SLOW * 1000})
    before, answers = grants(provider), []

    def used():
        start = time.monotonic()
        status = vestibule.get("/json", {"Cookie": alice.cookie})[0]
        answers.append((status, time.monotonic() - start))
        return status == 200

    until("the tokens are refreshed", lambda: not used() or grants(provider) > before, seconds=20, pause=0.1)
    start, reads = time.monotonic(), 0
    while time.monotonic() < start + SLOW - 1:
        used()
        reads = provider.admin("stats")["/oauth/userinfo"]
        time.sleep(0.1)
    until("the groups are read anew", lambda: used() and provider.admin("stats")["/oauth/userinfo"] > reads + 3, pause=0.1)
    statuses, waits = {status for status, _ in answers}, sorted(wait for _, wait in answers)
    score.check(f"slow: a refresh that takes {SLOW} s refuses nobody", statuses == {200}, f"{len(answers)} requests, {statuses}")
    score.check("slow: one request waits for it, and not for long", waits[-1] < 3 and waits[-2] < 1,
                f"longest {waits[-1]:.2f} s, next {waits[-2]:.2f} s")
    score.check("slow: the provider is asked once", grants(provider) - before == 1, f"{grants(provider) - before} token requests")
    score.figure(f"token endpoint takes {SLOW} s: longest wait, token requests", f"{waits[-1]:.1f} s, {grants(provider) - before}", "≤ 3 s, 1")


def grants(provider):
    """How many token requests the provider has seen."""
    return provider.admin("stats").get("/oauth/token", 0)


async def watch(vestibule, person, seconds):
    """When each event arrived, and how requests made meanwhile were answered."""
    headers = {"Cookie": person.cookie, "Accept": "text/event-stream"}
    status, _, reader, writer = await ask(vestibule.port, f"/events?n={seconds}&ms=1000", headers)
    if status != 200:
        raise RuntimeError(f"the stream was answered {status}")
    statuses = []

    async def work():
        while True:
            statuses.append((await asyncio.to_thread(vestibule.get, "/json", {"Cookie": person.cookie}))[0])
            await asyncio.sleep(1)

    beside = asyncio.create_task(work())
    times = [time.monotonic() async for _ in events(reader)]
    beside.cancel()
    writer.close()
    return times, statuses


if __name__ == "__main__":
    run(main)
