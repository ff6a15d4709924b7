"""Without a session only a top-level navigation is redirected; every other kind of request gets 401."""

import asyncio

from rig import NAVIGATION, Provider, Upstream, Vestibule, run
from wire import ask, upgrade


def fetched(mode, dest, accept="*/*", **more):
    return {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest, "Accept": accept, **more}


REQUESTS = {
    "fetch": fetched("cors", "empty"),
    "fetch that would like a page": fetched("cors", "empty", "text/html"),
    "XMLHttpRequest without fetch metadata": {"X-Requested-With": "XMLHttpRequest", "Accept": "application/json"},
    "EventSource": fetched("cors", "empty", "text/event-stream"),
    "EventSource without fetch metadata": {"Accept": "text/event-stream"},
    "script": fetched("no-cors", "script"),
    "module script": fetched("cors", "script"),
    "style sheet": fetched("no-cors", "style", "text/css,*/*;q=0.1"),
    "image": fetched("no-cors", "image", "image/avif,image/webp,*/*;q=0.8"),
    "font": fetched("cors", "font"),
    "frame": fetched("navigate", "iframe", "text/html"),
    "worker": fetched("same-origin", "worker"),
    "prefetch of a page": fetched("no-cors", "empty", "text/html", Purpose="prefetch"),
    "curl": {"Accept": "*/*"},
    "gRPC": {"Content-Type": "application/grpc", "TE": "trailers"},
    "a cookie that names no session": fetched("cors", "empty", Cookie="vestibule-{port}=" + "A" * 43),
}

FIELDS = ("location", "www-authenticate", "cache-control", "content-type")


def main(score):
    provider, upstream = Provider(), Upstream()
    vestibule = Vestibule(provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform"]}])
    asyncio.run(check(score, vestibule))


async def check(score, vestibule):
    port = vestibule.port
    for name, headers in REQUESTS.items():
        headers = {key: value.format(port=port) for key, value in headers.items()}
        await refused(score, port, name, headers)
    await refused(score, port, "WebSocket", upgrade(vestibule.url))

    status, answer, _, writer = await ask(port, "/deep?x=1", {**NAVIGATION, "Sec-Fetch-Site": "none"})
    writer.close()
    to = answer.get("location", "")
    score.check("a navigation is led to sign-in", status in (302, 303) and "/.vestibule/sign-in" in to, f"{status} {to}")


async def refused(score, port, name, headers):
    status, answer, _, writer = await ask(port, "/deep?x=1", headers)
    writer.close()
    quiet = "no-store" in answer.get("cache-control", "") and "www-authenticate" in answer
    held = status == 401 and quiet and "location" not in answer
    if name == "gRPC":  # its errors are in a trailers-only answer: 200 and the code UNAUTHENTICATED (16)
        held = held or (answer.get("grpc-status") == "16" and "location" not in answer)
    said = ", ".join([str(status), *(f"{field}: {answer[field]}" for field in FIELDS if field in answer)])
    score.check(f"{name} without a session: 401, a challenge, not stored, no redirect", held, said)


if __name__ == "__main__":
    run(main)
