"""Bodies stream through in both directions without being held: memory does not grow with their size."""

import http.client
import json
import time

from rig import MIB, Provider, Upstream, Vestibule, run, signed_in

BOUND = 16 * MIB
CHUNK = b"v" * (256 * 1024)


def main(score):
    size = 5 * 1024 * MIB if score.full else 64 * MIB
    provider, upstream = Provider(), Upstream()
    vestibule = Vestibule(provider.issuer, [{"name": "app", "upstream": upstream.url, "allow": ["gitlab:platform"]}])
    alice = signed_in(vestibule, "alice")
    for direction, carry in (("down", download), ("up", upload)):
        carry(vestibule, alice, 8 * MIB)  # connections, buffers and caches are there before we count
        before = vestibule.process.memory()
        vestibule.process.forget_peak()
        start = time.monotonic()
        moved = carry(vestibule, alice, size)
        took = time.monotonic() - start
        growth = max(0, vestibule.process.memory("VmHWM") - before)
        said = f"{growth / MIB:.1f} MiB more at the peak, {moved / MIB / took:.0f} MiB/s"
        score.check(f"{size // MIB} MiB {direction} arrive whole", moved == size, f"{moved} bytes")
        score.check(f"{size // MIB} MiB {direction} take less than {BOUND // MIB} MiB of memory", growth < BOUND, said)
        score.figure(f"{size / MIB / 1024:g} GiB {direction}: growth of memory", f"{growth / MIB:.1f} MiB", "< 16 MiB")


def open_request(vestibule, person, method, target, length=None):
    connection = http.client.HTTPConnection("127.0.0.1", vestibule.port, timeout=120)
    connection.putrequest(method, target, skip_host=True)
    connection.putheader("Host", f"localhost:{vestibule.port}")
    connection.putheader("Cookie", person.cookie)
    if length is not None:
        connection.putheader("Origin", vestibule.url)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(length))
    connection.endheaders()
    return connection


def download(vestibule, person, size):
    connection = open_request(vestibule, person, "GET", f"/bytes?n={size}")
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"GET /bytes was answered {answer.status}")
    buffer, moved = bytearray(len(CHUNK)), 0
    while count := answer.readinto(buffer):
        moved += count
    connection.close()
    return moved


def upload(vestibule, person, size):
    connection = open_request(vestibule, person, "POST", "/sink", size)
    for _ in range(size // len(CHUNK)):
        connection.send(CHUNK)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"POST /sink was answered {answer.status}: {body[:200]}")
    return json.loads(body)["received"]


if __name__ == "__main__":
    run(main)
