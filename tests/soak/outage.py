"""A provider that is down at the start stops nothing but sign-in, and sign-in recovers by itself."""

import time

from rig import NAVIGATION, Person, Provider, Upstream, Vestibule, free_port, reachable, run, signed_in, until


def main(score):
    port, upstream = free_port(), Upstream()
    routes = [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform"]},
              {"name": "status", "path": "/public/", "upstream": upstream.url, "allow": ["public"]}]
    routes = [{"host": "localhost", **route} for route in routes]
    vestibule = Vestibule(f"http://127.0.0.1:{port}", routes, wait=False)

    def listening():
        vestibule.must_run()
        return reachable(vestibule.port)

    until("vestibule listens", listening, pause=0.002)
    took = time.monotonic() - vestibule.started
    score.check("it listens within 1 s while the provider is down", took < 1, f"{took * 1000:.0f} ms")
    score.figure("start to listening, provider down", f"{took * 1000:.0f} ms", "≤ 100 ms")
    score.check("what is public is served", vestibule.get("/public/page", NAVIGATION)[0] == 200)

    status, _, headers, text = Person(vestibule, "alice").sign_in("/")
    kind = headers.get("Content-Type", "")
    score.check("sign-in answers 503 with a page", status == 503 and kind.startswith("text/html") and "<" in text,
                f"{status} {kind}")

    provider = Provider(port=port)
    start = time.monotonic()
    until("sign-in leads to the provider", vestibule.ready, seconds=60, pause=0.1)
    signed_in(vestibule, "alice")
    took = time.monotonic() - start
    score.check("sign-in recovers by itself when the provider is back", took < 35, f"after {took:.1f} s")
    score.figure("sign-in works again after the provider is back", f"{took:.1f} s", "≤ 35 s")
    provider.process.stop()


if __name__ == "__main__":
    run(main)
