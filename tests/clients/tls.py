"""TLS as a scanner, an operator and a client with a certificate see it.

sslyze against Mozilla's profiles; several certificates; certificates that change under load, by rename and as
Kubernetes swaps them; a pair that does not fit; client certificates.
"""

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings

from world import Authority, Gateway, Load, Peer, http_get, parts, run, told, trusting, until

warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is spoken here to be refused


def main(score):
    upstream, authority = Peer(), Authority()
    parts(
        score,
        *(
            (name, lambda part=part: part(score, upstream, authority))
            for name, part in {
                "sslyze": profiles,
                "several names": names,
                "changed certificates": swapped,
                "a bad pair": unfit,
                "client certificates": client_certificates,
            }.items()
        ),
    )


def listener(tls, **more):
    return [{"address": "127.0.0.1:PORT", "tls": tls, **more}]


def pair(files, **more):
    return {"certificate": str(files[0]), "key": str(files[1]), **more}


def serial(port, name="localhost"):
    """The serial number of the certificate that is shown for this name."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as wire,
    ):
        return fingerprint(wire.getpeercert(True))


def fingerprint(der):
    return hashlib.sha256(der).hexdigest()[:16]


def of_file(chain):
    """The same of a file's first certificate."""
    text = chain.read_text()
    return fingerprint(
        ssl.PEM_cert_to_DER_cert(text[: text.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n")
    )


def profiles(score, upstream, authority):
    """S-106: TLS 1.2 with AEAD and ECDHE, and 1.3, and nothing else; sslyze compares with Mozilla's profiles."""
    files = authority.issue("localhost")
    for profile, more in (("intermediate", {}), ("modern", {"minimum": "1.3"})):
        gateway = Gateway(upstream.url, scheme="https", listen=listener(pair(files, **more)))
        said = subprocess.run(
            [
                sys.executable,
                "-m",
                "sslyze",
                "--mozilla_config",
                profile,
                "--certinfo_ca_file",
                str(authority.certificate),
                f"localhost:{gateway.port}",
            ],
            capture_output=True,
            text=True,
            timeout=240,
        )
        held = said.returncode == 0 and "OK - Compliant" in said.stdout
        score.check(
            f"s106: sslyze finds Mozilla's profile `{profile}` kept",
            held,
            "" if held else said.stdout[said.stdout.find("COMPLIANCE AGAINST") :][:1500] + said.stderr[-300:],
        )
        gateway.stop()
    gateway = Gateway(upstream.url, scheme="https", listen=listener(pair(files)))
    for version, offered in (("1.3", True), ("1.2", True), ("1.1", False)):
        context = trusting(authority)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, f"TLSv{version.replace('.', '_')}")
        score.check(
            f"s106: TLS {version} is {'spoken' if offered else 'not spoken'}", answers(gateway.port, context) == offered
        )


def answers(port, context, host="localhost"):
    """True for 200, False if the connection ended before an answer."""
    try:
        return http_get(port, "/", host, context)[0] == 200
    except (ssl.SSLError, ConnectionError):
        return False


def names(score, upstream, authority):
    """Several certificates on one listener: the name that the client asks for (SNI) chooses."""
    files = {name: authority.issue(name) for name in ("localhost", "b.localhost", "*.c.localhost")}
    routes = [
        {"name": f"route-{number}", "host": name.replace("*", "x"), "upstream": upstream.url, "allow": ["public"]}
        for number, name in enumerate(files)
    ]
    gateway = Gateway(
        routes=routes, scheme="https", listen=listener({"certificates": [pair(one) for one in files.values()]})
    )
    for asked, want in (
        ("localhost", "localhost"),
        ("b.localhost", "b.localhost"),
        ("x.c.localhost", "*.c.localhost"),
        ("B.LOCALHOST", "b.localhost"),
    ):
        got = serial(gateway.port, asked)
        score.check(f"for {asked} the certificate of {want} is shown", got == of_file(files[want][0]), got)
        if asked == asked.lower():
            score.check(f"and {asked} is served", answers(gateway.port, trusting(authority), asked))
    context = trusting(authority)
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="b.localhost") as wire,
    ):
        before = upstream.asked()
        wire.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = wire.recv(65536).split(b" ")[1]
        score.check(
            "s32: a Host that its connection's name does not cover is misdirected",
            status == b"421" and upstream.asked() == before,
            status.decode(),
        )


def swapped(score, upstream, authority):
    """Certificates change under load, in the two ways that people change them, and nobody notices."""
    home = authority.folder / "live"
    authority.issue("localhost", to=home)
    kube = authority.folder / "kube"
    authority.issue("localhost", to=kube / "..first" if kube.mkdir() is None else None)
    (kube / "..data").symlink_to("..first")
    for name in ("tls.crt", "tls.key"):
        (kube / name).symlink_to(f"..data/{name}")
    turns = 10 if score.full else 3
    for how, where, change in (("renamed into place", home, by_rename), ("swapped by a symbolic link", kube, by_link)):
        gateway = Gateway(upstream.url, scheme="https", listen=listener(pair((where / "tls.crt", where / "tls.key"))))
        loads = {
            "new connections": Load(gateway.url, workers=2, fresh=True, rate=100),
            "HTTP/1.1": Load(gateway.url, workers=4, rate=200),
            "HTTP/2": Load(gateway.url, workers=8, h2=True, rate=200),
        }
        times = []
        for turn in range(turns):
            new = authority.issue("localhost")
            want = of_file(new[0])
            change(where, new, turn)
            start = time.monotonic()
            until(f"certificate {turn + 1} is shown", lambda want=want: serial(gateway.port) == want, 15, 0.1)
            times.append(time.monotonic() - start)
        score.check(
            f"{turns} certificates {how} are shown within 3 s each",
            max(times) < 3,
            f"the slowest after {max(times):.1f} s",
        )
        for name, load in loads.items():
            counted = load.stop()
            score.check(
                f"certificates {how} under load, {name}: no request fails",
                counted["failed"] == 0 and counted["requests"] > 50,
                told(counted),
            )
        gateway.stop()


def by_rename(where, new, _):
    for file in reversed(new):  # the key first: for a moment the two do not fit
        other = where / f"{file.name}.new"
        shutil.copy(file, other)
        other.rename(where / file.name)


def by_link(where, new, turn):
    made = where / f"..turn{turn}"
    made.mkdir()
    for file in new:
        shutil.copy(file, made / file.name)
    (where / "..next").symlink_to(made.name)
    os.rename(where / "..next", where / "..data")


def unfit(score, upstream, authority):
    """A key that does not fit, or half a file, leaves the old pair in force and is said; the next good pair is taken."""
    home = authority.folder / "unfit"
    chain, key = authority.issue("localhost", to=home)
    gateway = Gateway(upstream.url, scheme="https", listen=listener(pair((chain, key))))
    load, old = Load(gateway.url, workers=2, fresh=True, rate=50), of_file(chain)
    good = key.read_text()
    for name, deed in (
        ("a key of another certificate", lambda: key.write_text(authority.issue("localhost")[1].read_text())),
        ("half a key", lambda: key.write_text(good[:100])),
        ("no key", key.unlink),
    ):
        # only lines about these files count; what is logged otherwise is of no concern here
        said = lambda: [
            line
            for line in gateway.log()
            if line.get("level") in ("ERROR", "WARN") and ("tls." in str(line) or "certificate" in str(line))
        ]  # noqa: E731
        before = len(said())
        deed()
        until(f"{name} is said", lambda before=before: len(said()) > before, 15)
        score.check(
            f"{name}: the old certificate is shown on", serial(gateway.port) == old, said()[-1].get("message", "")[:200]
        )
    new = authority.issue("localhost")
    by_rename(home, new, 0)
    until("the next good pair is shown", lambda: serial(gateway.port) == of_file(new[0]), 15, 0.1)
    counted = load.stop()
    score.check(
        "a bad pair under load: no request fails, and the next good pair is taken",
        counted["failed"] == 0 and counted["requests"] > 50,
        told(counted),
    )
    refused = Gateway(
        upstream.url, scheme="https", listen=listener(pair((chain, authority.issue("localhost")[1]))), wait=False
    )
    until("a start with a bad pair ends", lambda: refused.process.child.poll() is not None, 15)
    score.check(
        "a start with a key that does not fit is refused",
        refused.process.child.returncode != 0,
        refused.process.tail().strip()[-300:],
    )


def client_certificates(score, upstream, authority):
    """Clients that show a certificate of the right authority, of another one, or none."""
    other = Authority("another authority")
    mine, theirs, server = (
        authority.issue("runner", client=True),
        other.issue("runner", client=True),
        authority.issue("localhost"),
    )
    wrong_use = authority.issue("server.example")
    shown = {"none": None, "one of another authority": theirs, "one for servers": wrong_use, "the right one": mine}
    for required in (True, False):
        asked = {"ca": str(authority.certificate), "required": required}
        gateway = Gateway(upstream.url, scheme="https", listen=listener(pair(server), client_certificates=asked))
        before = upstream.asked()
        for name, certificate in shown.items():
            want = name == "the right one" or name == "none" and not required
            got = answers(gateway.port, trusting(authority, certificate))
            score.check(
                f"client certificates {'required' if required else 'asked for'}, {name}: {'served' if want else 'refused'}",
                got == want,
            )
        served = 1 if required else 2
        score.check(
            "of the refused ones the upstream saw nothing",
            upstream.asked() == before + served,
            upstream.asked() - before,
        )


if __name__ == "__main__":
    run(main)
