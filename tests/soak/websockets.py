"""A thousand WebSockets are held open, idle, and each still carries a message."""

import asyncio

from rig import Provider, Upstream, Vestibule, run, signed_in
from wire import ask, echo, upgrade

SOCKETS, PEOPLE, HOLD = 1000, 20, 5
BOUND = 64 * 1024


def main(score):
    provider, upstream = Provider(), Upstream()
    vestibule = Vestibule(provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform"]}])
    cookies = []
    for i in range(PEOPLE):
        provider.admin("user", {"user": f"soak-{i}", "memberships": {"platform": "developer"}})
        cookies.append(signed_in(vestibule, f"soak-{i}").cookie)
    asyncio.run(hold(score, vestibule, cookies))


async def hold(score, vestibule, cookies):
    async def connect(i):
        status, _, reader, writer = await ask(vestibule.port, "/ws", upgrade(vestibule.url, cookies[i % len(cookies)]))
        return status, reader, writer

    warm = [await connect(i) for i in range(len(cookies))]
    for status, _, writer in warm:
        writer.close()
    await asyncio.sleep(0.5)
    before = vestibule.process.memory()
    sockets = []
    for start in range(0, SOCKETS, 50):
        sockets += await asyncio.gather(*(connect(i) for i in range(start, start + 50)))
    opened = sum(status == 101 for status, _, _ in sockets)
    score.check(f"{SOCKETS} WebSockets are open", opened == SOCKETS, f"{opened} answered 101")
    await asyncio.sleep(HOLD)
    each = max(0, vestibule.process.memory() - before) / SOCKETS
    score.check(f"an idle WebSocket takes less than {BOUND // 1024} KiB", each < BOUND, f"{each / 1024:.1f} KiB each")
    score.figure(f"{SOCKETS} idle WebSockets: memory each", f"{each / 1024:.1f} KiB", f"< {BOUND // 1024} KiB")

    live = [(reader, writer) for status, reader, writer in sockets if status == 101]
    answers = await asyncio.gather(
        *(echo(reader, writer, f"message {i}") for i, (reader, writer) in enumerate(live)), return_exceptions=True
    )
    right = sum(answer == f"message {i}" for i, answer in enumerate(answers))
    score.check(f"after {HOLD} s each of them carries a message", right == SOCKETS, f"{right} came back")
    for _, writer in live:
        writer.close()


if __name__ == "__main__":
    run(main)
