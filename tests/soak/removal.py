"""A member removed at the provider is out within the membership clock, and so are the streams they hold."""

import asyncio
import time

from rig import Provider, Upstream, Vestibule, run, signed_in
from wire import ask, events

SLACK = 5  # one shared read of at most 2 s, the pause between two requests, and a busy machine


def main(score):
    clock = 60 if score.full else 2
    provider, upstream = Provider(), Upstream()
    vestibule = Vestibule(
        provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform"]}],
        membership={"refresh": f"{clock}s"},
    )
    alice = signed_in(vestibule, "alice")
    provider.admin("user", {"user": "bystander", "memberships": {"platform": "developer"}})
    bystander = signed_in(vestibule, "bystander")
    out, ended = asyncio.run(remove(provider, vestibule, alice, clock))
    score.check(f"a removed member is out within the clock of {clock} s (and {SLACK} s of slack)", out is not None and out <= clock + SLACK,
                "never" if out is None else f"after {out:.1f} s")
    score.check("the stream they held is closed", ended is not None and ended <= clock + SLACK,
                "it went on" if ended is None else f"after {ended:.1f} s")
    status = vestibule.get("/json", {"Cookie": bystander.cookie})[0]
    score.check("the others in the group are not touched", status == 200, f"{status}")
    score.figure("member removed, no hook: out after", "never" if out is None else f"{out:.1f} s", f"≤ {clock} s")


async def remove(provider, vestibule, person, clock):
    """Seconds until a request was refused, and until the stream ended; None where it never happened."""
    cookie = {"Cookie": person.cookie}
    status, _, reader, writer = await ask(vestibule.port, "/events?n=1000&ms=200", {**cookie, "Accept": "text/event-stream"})
    if status != 200:
        raise RuntimeError(f"the stream was answered {status}")
    provider.admin("user", {"user": person.name, "memberships": {}})
    start, limit = time.monotonic(), 2 * clock + SLACK

    async def follow():
        async for _ in events(reader):
            pass
        return time.monotonic() - start

    async def work():
        while (await asyncio.to_thread(vestibule.get, "/json", cookie))[0] == 200:
            await asyncio.sleep(0.2)
        return time.monotonic() - start

    results = await asyncio.gather(*(asyncio.wait_for(one(), limit) for one in (work, follow)), return_exceptions=True)
    writer.close()
    return [None if isinstance(result, Exception) else result for result in results]


if __name__ == "__main__":
    run(main)
