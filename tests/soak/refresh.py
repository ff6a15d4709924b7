"""A long stream lives through the refresh of the tokens behind its session, and so does the session."""

import asyncio
import time

from rig import Provider, Upstream, Vestibule, run, signed_in
from wire import ask, events


def main(score):
    ttl, seconds = (20, 120) if score.full else (8, 25)
    provider, upstream = Provider(ACCESS_TOKEN_TTL=ttl), Upstream()
    vestibule = Vestibule(
        provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform"]}],
        membership={"refresh": "2s"},
    )
    alice = signed_in(vestibule, "alice")
    before = provider.admin("stats").get("/oauth/token", 0)
    times, statuses = asyncio.run(watch(vestibule, alice, seconds))
    refreshes = provider.admin("stats").get("/oauth/token", 0) - before
    gap = max((b - a for a, b in zip(times, times[1:])), default=0)
    score.check(f"a stream of {seconds} s arrives whole", len(times) == seconds, f"{len(times)} events")
    score.check("no event waits for a refresh", gap < 3, f"longest gap {gap:.2f} s")
    score.check(f"tokens of {ttl} s were refreshed under it", refreshes >= seconds // ttl - 1, f"{refreshes} refreshes")
    score.check("requests beside it never failed", set(statuses) == {200}, f"{len(statuses)} requests, {set(statuses)}")
    score.figure(f"stream of {seconds} s over {ttl} s tokens", f"whole, {refreshes} refreshes", "whole")


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
