"""Looks for secrets in all that Vestibule leaves behind: journals, logs, metrics, pages.

    canary.py DIRECTORY     what a suite noted and kept there (TESTS_CANARY), in `secrets.jsonl` and in folders

A secret is found as it is, percent-encoded, in hexadecimal digits or in Base64 at any of its three places, and so is every part of
one that has 19 letters or more: a token that was cut, or its signature alone. Standard library only.
"""

import base64
import json
import multiprocessing
import re
import sys
import tempfile
import urllib.parse
from pathlib import Path

PART, STEP = 16, 4
WORD = re.compile(rb"[A-Za-z0-9+/=_.~%-]{" + str(PART).encode() + rb",}")
HEX = re.compile(rb"[0-9a-f]+")
# what the suite must have noted for the search to mean anything
KINDS = {"id_token", "access_token", "refresh_token", "code", "state", "nonce", "code_verifier", "cookie", "credential",
         "password", "secret", "key", "token"}
LEFT = ("logs", "journals", "pages")
# What hands a browser on to the provider's end of the session has the ID token and a `state` in its address: that is how a provider
# is told whose session it is (OpenID Connect RP-Initiated Logout 1.0, section 2). Such a page is this address and nothing else.
# What chains a line of a journal to the one before is of our making, and most of what there is.
CHAIN = re.compile(rb'"prev":"[0-9a-f]{64}",')
HANDED_ON = re.compile(rb'\?(?:[a-z_]+=[^"&]*&(?:amp;)?)*id_token_hint=[^"]*"')


def forms(secret):
    """A secret in all the ways in which it may be written."""
    yield secret
    yield urllib.parse.quote_from_bytes(secret, safe="").encode()
    yield secret.hex().encode()
    for lead in range(3):
        # letters at both ends depend on what stands beside them
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * lead + secret).rstrip(b"=")[-(-lead * 8 // 6):-1]


def parts(form):
    """Every part that means something: of a text of one letter none does. Texts are looked at letter by letter, those of hexadecimal
    digits alone in steps: one of both has to take every letter."""
    for at in range(0, len(form) - PART + 1, 1 if HEX.fullmatch(form) else STEP):
        part = form[at:at + PART]
        if len(set(part)) >= 6:
            yield part


def secrets(directory):
    """What was noted, by kind."""
    noted = {}
    for line in (directory / "secrets.jsonl").read_text("utf-8").splitlines():
        one = json.loads(line)
        noted.setdefault(base64.b64decode(one["value"]).strip(), one["kind"])
    return noted


def public(secret):
    """What every token of one issuer begins with is no secret: its header, and the claims that name issuer and audience."""
    pieces = secret.split(b".")
    return pieces[-1] if len(pieces) == 3 and secret.startswith(b"eyJ") else secret


def is_binary(secret):
    return not all(0x20 <= byte < 0x7F for byte in secret)


def needles(noted):
    """Parts of secrets, and short ones as they are, each with the kind of its secret."""
    long, short = {}, {}
    for secret, kind in noted.items():
        whole = public(secret)
        lines = [whole]
        if b"-----BEGIN" in secret:
            lines = [line for line in secret.splitlines() if b"-----" not in line]
        for line in lines:
            if len(line) >= PART:
                for form in forms(line):
                    for part in parts(form):
                        long[part] = kind
            elif len(line) >= 8:
                short[line] = kind
            if is_binary(line):  # as `Debug` writes bytes
                short[", ".join(str(byte) for byte in line[:8]).encode()] = kind
    return long, short


def look(text, long, short):
    """The kinds of secrets in a text, each with where it stands."""
    for word in set(WORD.findall(text)):
        # hashes and ids are most of what a journal has: a whole secret in hexadecimal digits is longer than one step
        step = 8 if HEX.fullmatch(word) else 1
        for at in range(0, len(word) - PART + 1, step):
            kind = long.get(word[at:at + PART])
            if kind:
                yield kind, word[max(0, at - 8):at + PART + 8]
                break
    for secret, kind in short.items():
        if secret in text:
            yield kind, secret


# set before processes are forked: parts of secrets take more memory than what is looked at
NEEDLES = ({}, {})


def scan_file(task):
    """How large one file is, and what was found in it."""
    kind, path = task
    text = path.read_bytes()
    size = len(text)
    if kind == "pages" and b"<title>Signing out" in text:
        text = HANDED_ON.sub(b'"', text)
    if kind == "journals":
        text = CHAIN.sub(b"", text)
    found = []
    for what, where in look(text, *NEEDLES):
        line = next((line for line in text.splitlines() if where in line), where)
        found.append((kind, what, path.name, where, line))
    return kind, size, found


def scan(directory):
    """How much was looked at, and what was found."""
    looked, found = {}, []
    tasks = [(kind, path) for kind in LEFT for path in (directory / kind).glob("*")]
    tasks.sort(key=lambda task: -task[1].stat().st_size)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for kind, size, some in pool.imap_unordered(scan_file, tasks):
            looked[kind] = looked.get(kind, 0) + size
            found += some
    return looked, sorted(found)


def finds_what_is_planted(directory, noted):
    """Each kind of secret, planted in each form, is found."""
    missed = []
    example = {kind: secret for secret, kind in noted.items() if len(public(secret)) >= 2 * PART}
    long, short = NEEDLES
    for kind, secret in example.items():
        if b"-----BEGIN" in secret:
            secret = next(line for line in secret.splitlines() if b"-----" not in line)
        whole = public(secret)
        cut = whole[3:3 + PART + STEP - 1]
        plants = [str(list(secret)).encode() if is_binary(secret) else secret, urllib.parse.quote_from_bytes(secret, safe="").encode(), whole.hex().encode()]
        plants += [] if is_binary(secret) else [cut]
        plants += [base64.b64encode(b"x" * lead + whole) for lead in range(3)]
        for plant in plants:
            if not list(look(b'{"message":"a ' + plant + b' b"}', long, short)):
                missed.append((kind, plant))
    with tempfile.TemporaryDirectory() as other:
        planted = Path(other) / "logs"
        planted.mkdir()
        (planted / "one").write_bytes(b"nothing\n" + next(iter(example.values())).hex().encode() + b"\n")
        if not scan(Path(other))[1]:
            missed.append(("file", b""))
    return sorted(example), missed


def main():
    global NEEDLES
    directory = Path(sys.argv[1])
    noted = secrets(directory)
    NEEDLES = needles(noted)
    kinds = {}
    for kind in noted.values():
        kinds[kind] = kinds.get(kind, 0) + 1
    passed = failed = 0

    def check(claim, held, figure=""):
        nonlocal passed, failed
        passed, failed = passed + bool(held), failed + (not held)
        print(f"{'ok  ' if held else 'FAIL'} {claim}: {figure}", flush=True)

    check("secrets of every kind were noted", KINDS <= set(kinds),
          ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) + f"; missing: {sorted(KINDS - set(kinds))}")
    planted, missed = finds_what_is_planted(directory, noted)
    check("a secret that is planted is found, in every form", planted and not missed, f"{len(planted)} kinds, {missed[:3]}")
    looked, found = scan(directory)
    check("logs, journals and pages were kept", set(looked) == set(LEFT) and min(looked.values()) > 0,
          ", ".join(f"{size / 1e6:.1f} MB of {kind}" for kind, size in looked.items()))
    metrics = any(b"requests_refused" in path.read_bytes() for path in (directory / "pages").glob("*"))
    check("pages of metrics are among them", metrics)
    check("no secret is in any of them", not found, f"{len(found)} found")
    for kind, what, name, where, line in found[:40]:
        print(f"     {what} in {kind}/{name}: {where.decode(errors='replace')}\n       {line[:600].decode(errors='replace')}")
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
