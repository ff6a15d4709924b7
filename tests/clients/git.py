"""What runners and developers move: git over HTTP, image layers, wheels and packages, each by its own client.

git talks to `git http-backend` behind nginx and fcgiwrap; pip and npm, and an OCI client in the words of the
distribution specification, to `registry.py`. Then jobs come, with their token as password.
"""

import base64
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.parse

from gitlab import GitLab
from world import (
    CLEAN,
    HERE,
    MIB,
    SECRET,
    Authority,
    Gateway,
    Nginx,
    Process,
    fetch,
    folder,
    free_port,
    parts,
    run,
    until,
)

ENV = {
    **CLEAN,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.com",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.com",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


def main(score):
    hosting = Hosting()
    registry = Process([sys.executable, str(HERE / "registry.py")], first_line=True)
    routes = [
        {"name": "git", "path": "/git/", "upstream": hosting.url, "allow": ["public"]},
        {
            "name": "registry",
            "path": "/",
            "upstream": f"http://127.0.0.1:{registry.first_line()['port']}",
            "allow": ["public"],
            "encoded_slash": True,
        },
    ]
    for route in routes:
        route["host"] = "localhost"
    gateway = Gateway(routes=routes)
    memory = gateway.process.memory()
    parts(
        score,
        ("git over HTTP/1.1", lambda: repository(score, hosting, gateway.url, "HTTP/1.1", 50)),
        ("layers", lambda: blobs(score, gateway.port, 400 if score.full else 100)),
        ("pip", lambda: pip(score, gateway)),
        ("npm", lambda: npm(score, gateway)),
    )
    grown = (gateway.process.memory("VmHWM") - memory) / MIB
    score.check("all this is streamed: memory grows by less than 32 MiB", grown < 32, f"{grown:.1f} MiB at most")
    parts(
        score,
        ("git over HTTP/2", lambda: over_tls(score, hosting, routes)),
        ("jobs", lambda: jobs(score, hosting, routes[1]["upstream"])),
    )


def over_tls(score, hosting, routes):
    authority = Authority()
    certificate, key = authority.issue("localhost")
    listen = [{"address": "127.0.0.1:PORT", "tls": {"certificate": str(certificate), "key": str(key)}}]
    safe = Gateway(routes=routes, scheme="https", listen=listen)
    ENV["GIT_SSL_CAINFO"] = str(authority.certificate)
    repository(score, hosting, safe.url, "HTTP/2 over TLS", 50 if score.full else 10)


AUDIENCE = "https://git.example.com"

POLICIES = """
@id("pushed-from-protected-refs")
permit (principal is Job in Project::"gitlab:acme/shop/api", action, resource)
when { principal.ref_protected };

@id("fetched-by-acme")
permit (principal is Job in Namespace::"gitlab:acme", action in [Action::"GET", Action::"POST"], resource == Route::"git")
when { (context.path like "*/info/refs" && context.query == "service=git-upload-pack") || context.path like "*/git-upload-pack" };
"""


def jobs(score, hosting, registry):
    """Jobs whose token is the password of Basic, as these clients send it."""
    gitlab, policies = GitLab(), folder()
    (policies / "jobs.cedar").write_text(POLICIES)
    taken = {"host": "localhost", "token_issuers": ["ci"], "basic": True}
    own = {"basic": {"user": "gateway", "password": {"file": "secret"}}}
    routes = [
        {"name": "git", "path": "/git/", "upstream": hosting.url, **taken},
        {"name": "registry", "path": "/v2/", "upstream": registry, "credential": own, **taken},
    ]
    gateway = Gateway(routes=routes, policies=str(policies), **gitlab.settings(AUDIENCE))
    hosting.log.write_text("")
    token = gitlab.token(AUDIENCE)
    parts(
        score,
        ("git by jobs", lambda: repository(score, hosting, signed(gateway.url, token), "HTTP by jobs", 50)),
        ("git of a job that may fetch", lambda: fetching(score, hosting, gateway, gitlab)),
        ("docker", lambda: docker(score, gateway, gitlab, registry)),
    )
    asked = [line.split(" ") for line in hosting.seen().splitlines()]
    bare = [line for line in asked if line[3] != "-" or not line[4].startswith("ey")]
    score.check(
        "git's upstream sees no token, and who asks in every request", asked and not bare, f"{len(asked)} requests"
    )


def signed(url, token):
    return url.replace("://", f"://gitlab-ci-token:{token}@")


def fetching(score, hosting, gateway, gitlab):
    """What a job on an unprotected branch may do, and what happens to those who may not."""
    hosting.bare("small.git")
    url, work, copy = f"{gateway.url}/git/small.git", folder() / "work", folder() / "copy"
    git("init", "-q", "-b", "main", work)
    commit(work, hosting.folder / "small.git", "one")
    token = gitlab.token(AUDIENCE, ref="topic", ref_protected=False)
    helper = f"credential.helper=!f() {{ echo username=job; echo password={token}; }}; f"
    mine = ("-c", "credential.helper=", "-c", helper)
    git(*mine, "clone", "-q", url, copy)
    commit(work, hosting.folder / "small.git", "two")
    git(*mine, "-C", copy, "fetch", "-q", "origin")
    same = git("-C", copy, "rev-parse", "origin/main") == git("-C", work, "rev-parse", "main")
    score.check("git with a credential helper clones and fetches", same)
    said = complaint(*mine, "-C", copy, "push", "-q", "origin", "HEAD:refs/heads/mine")
    heads = git("-C", hosting.folder / "small.git", "branch", "--list")
    score.check("git: a push that no policy permits is refused", "403" in said and heads == "* main", said)
    start = time.monotonic()
    said = complaint("-c", "credential.helper=", "clone", url, folder() / "none")
    took = time.monotonic() - start
    score.check(
        "git without a token is asked for one, and does not wait",
        "Username" in said and took < 5,
        f"{took:.1f} s, {said}",
    )
    for what, other in (
        ("that is over", gitlab.token(AUDIENCE, ttl=-100)),
        ("for another service", gitlab.token("https://deploy.example.com")),
    ):
        said = complaint("clone", signed(url, other), folder() / "none")
        score.check(f"git with a token {what} fails", "Authentication failed" in said and other not in said, said)
    stranger = gitlab.token(AUDIENCE, project_path="other/thing", project_id=77)
    said = complaint("clone", signed(url, stranger), folder() / "none")
    score.check("git of a job of another group is refused", "403" in said, said[-60:])


def commit(work, bare, text):
    (work / "file").write_text(text)
    git("-C", work, "add", ".")
    git("-C", work, "commit", "-qm", text)
    git("-C", work, "push", "-q", bare, "main")


def complaint(*words):
    """What git says when it fails; it has to."""
    try:
        git(*words)
    except RuntimeError as fault:
        return str(fault)
    raise RuntimeError(f"git {words[0]} succeeded")


def docker(score, gateway, gitlab, registry):
    """What `docker login` and `docker push` ask for. A `Bearer` would send them to a token server that is not there."""

    def ask(method, target, token=None):
        wire = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        pair = base64.b64encode(f"job:{token}".encode()).decode()
        wire.request(
            method,
            target,
            headers={"Host": f"localhost:{gateway.port}", **({"Authorization": f"Basic {pair}"} if token else {})},
        )
        answer = wire.getresponse()
        answer.read()
        return answer.status, answer.headers

    status, headers = ask("GET", "/v2/")
    challenges = headers.get_all("WWW-Authenticate")
    schemes = {challenge.split(" ")[0] for challenge in challenges}
    score.check(
        "docker is asked for Basic and for no Bearer",
        status == 401 and "Basic" in schemes and "Bearer" not in schemes,
        challenges,
    )
    main, topic = gitlab.token(AUDIENCE), gitlab.token(AUDIENCE, ref="topic", ref_protected=False)
    status, headers = ask("GET", "/v2/", main)
    score.check(
        "docker logs in with a job's token",
        (status, headers["Docker-Distribution-API-Version"]) == (200, "registry/2.0"),
    )
    pushed, refused = ask("POST", "/v2/app/blobs/uploads/", main)[0], ask("POST", "/v2/app/blobs/uploads/", topic)[0]
    score.check("docker: who may push is a policy's word", (pushed, refused) == (202, 403), f"{pushed}, {refused}")
    credentials = {credential for path, credential in json.loads(fetch(f"{registry}/seen")) if path == "/v2/"}
    own = "Basic " + base64.b64encode(f"gateway:{SECRET}".encode()).decode()
    score.check("the registry gets the gateway's own password", own in credentials and len(credentials) == 2)


class Hosting:
    """Bare repositories below `path` that anybody may push to."""

    def __init__(self, path="/git"):
        self.folder, port = folder(), free_port()
        self.log = self.folder / "asked"
        socket = self.folder / "fcgi.sock"
        self.wrap = Process(["/usr/sbin/fcgiwrap", "-c", "2", "-s", f"unix:{socket}"], HOME=str(self.folder))
        until("fcgiwrap listens", socket.exists)
        self.nginx = Nginx(
            "log_format asked '$request_method $request_uri $status $http_authorization $http_vestibule_assertion';"
            f"server {{ listen 127.0.0.1:{port}; client_max_body_size 0; access_log {self.log} asked;"
            f" location ~ ^{path}(/.*)$ {{ gzip off;"
            " fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend; fastcgi_param GIT_HTTP_EXPORT_ALL 1;"
            f" fastcgi_param GIT_PROJECT_ROOT {self.folder}; fastcgi_param PATH_INFO $1; fastcgi_param REMOTE_USER someone;"
            " fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;"
            " fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;"
            " fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding; fastcgi_param HTTP_GIT_PROTOCOL $http_git_protocol;"
            f" fastcgi_pass unix:{socket}; }} }}",
            port,
        )
        self.url = f"http://127.0.0.1:{port}"

    def seen(self):
        """What was asked, a line each: method, target, status, `Authorization`, `Vestibule-Assertion`."""
        return self.log.read_text()

    def bare(self, name):
        git("init", "-q", "--bare", "-b", "main", self.folder / name)
        git("-C", self.folder / name, "config", "http.receivepack", "true")
        git("-C", self.folder / name, "config", "core.bigFileThreshold", "1m")


def git(*words, cwd=None):
    """What git says; its complaint as an error."""
    said = subprocess.run(["git", *map(str, words)], cwd=cwd, env=ENV, capture_output=True, text=True, timeout=300)
    if said.returncode:
        raise RuntimeError(f"git {words[0]}: {said.stderr.strip()[-300:]}")
    return said.stdout.strip()


def repository(score, hosting, base, how, size):
    """Pushes a repository of so many MiB, clones it, and goes on with both."""
    name = f"{how.replace('/', '-').replace(' ', '-')}.git"
    hosting.bare(name)
    work, url = folder() / "work", f"{base}/git/{name}"
    git("init", "-q", "-b", "main", work)
    git("-C", work, "config", "core.bigFileThreshold", "1m")  # random bytes: nothing to compress or to compare
    for number in range(size // 5):
        (work / f"file-{number}").write_bytes(os.urandom(5 * MIB))
    git("-C", work, "add", ".")
    git("-C", work, "-c", "core.compression=0", "commit", "-qm", "all")
    start = time.monotonic()
    try:
        git("-C", work, "push", "-q", url, "main")
        pushed = time.monotonic()
        copy = folder() / "copy"
        git("clone", "-q", url, copy)
        cloned = time.monotonic()
        head = git("-C", work, "rev-parse", "HEAD")
        git("-C", copy, "fsck", "--strict")
        score.check(
            f"git over {how}: {size} MiB pushed, and cloned again",
            git("-C", copy, "rev-parse", "HEAD") == head,
            f"{pushed - start:.1f} s up, {cloned - pushed:.1f} s down",
        )
        (copy / "more").write_text("more\n")
        git("-C", copy, "add", ".")
        git("-C", copy, "commit", "-qm", "more")
        git("-C", copy, "push", "-q", "origin", "main")
        git("-C", work, "pull", "-q", "--ff-only", url, "main")
        score.check(
            f"git over {how}: a small push, and a pull of it",
            git("-C", work, "rev-parse", "HEAD") == git("-C", copy, "rev-parse", "HEAD"),
        )
        git("-C", work, "push", "-q", url, "main:refs/heads/topic/one", "HEAD:refs/tags/v1")
        listed = git("ls-remote", url)
        git("clone", "-q", "--depth", "1", url, folder() / "shallow")
        score.check(
            f"git over {how}: branches and tags are listed, a shallow clone works",
            "refs/heads/topic/one" in listed and "refs/tags/v1" in listed,
        )
    except RuntimeError as fault:
        score.check(f"git over {how}: {size} MiB pushed, and cloned again", False, str(fault))


def blobs(score, port, size):
    """A layer pushed in chunks, as the OCI distribution specification (1.1, section "Pushing a blob in chunks") says."""
    content = os.urandom(MIB) * size
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(method, target, body=None, **headers):
        wire.request(
            method,
            target,
            body,
            {
                "Host": f"localhost:{port}",
                "Authorization": "Bearer theirs",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        answer = wire.getresponse()
        return answer.status, answer.headers, answer.read()

    wire.request("GET", "/v2/", headers={"Host": f"localhost:{port}"})
    answer = wire.getresponse()
    answer.read()
    score.check(
        "a registry's own challenge reaches its client",
        answer.status == 401 and "realm=" in (answer.headers["WWW-Authenticate"] or ""),
        f"{answer.status} {answer.headers['WWW-Authenticate']}",
    )
    start = time.monotonic()
    status, headers, _ = ask("POST", "/v2/app/blobs/uploads/", b"")
    where, chunk, steps = headers["Location"], 25 * MIB, []
    for first in range(0, len(content), chunk):
        piece = content[first : first + chunk]
        status, headers, _ = ask(
            "PATCH",
            where,
            piece,
            Content_Type="application/octet-stream",
            Content_Range=f"{first}-{first + len(piece) - 1}",
        )
        steps.append((status, headers["Range"]))
        where = headers["Location"] or where
    status, headers, said = ask("PUT", f"{where}&digest={urllib.parse.quote(digest)}", b"")
    took = time.monotonic() - start
    right = steps[-1] == (202, f"0-{len(content) - 1}") and all(step[0] == 202 for step in steps)
    score.check(
        f"a layer of {size} MiB in chunks of 25 MiB arrives whole",
        right and status == 201 and headers["Docker-Content-Digest"] == digest,
        f"{status}, {size / took:.0f} MiB/s, where it lies: {headers['Location']}",
    )
    status, headers, _ = ask("HEAD", f"/v2/app/blobs/{digest}")
    score.check(
        "HEAD tells its length and digest",
        (status, headers["Content-Length"], headers["Docker-Content-Digest"]) == (200, str(len(content)), digest),
        f"{status}, {headers['Content-Length']} bytes",
    )
    status, headers, piece = ask("GET", f"/v2/app/blobs/{digest}", Range=f"bytes={10 * MIB}-{11 * MIB - 1}")
    score.check(
        "a range of it is that range", status == 206 and piece == content[10 * MIB : 11 * MIB], headers["Content-Range"]
    )
    status, _, whole = ask("GET", f"/v2/app/blobs/{digest}")
    score.check(
        "all of it comes back", status == 200 and hashlib.sha256(whole).hexdigest() == digest[7:], f"{len(whole)} bytes"
    )
    status, _, _ = ask("PATCH", where, b"late", Content_Range="5-8")
    score.check("a chunk out of order gets the registry's own 416", status == 416, status)
    wire.request(
        "POST", "/v2/app/blobs/uploads/", iter([b"a", b"b"]), {"Host": f"localhost:{port}"}, encode_chunked=True
    )
    answer = wire.getresponse()
    status, _ = answer.status, answer.read()
    score.check("the connection served all of it", status == 202, status)


def pip(score, gateway):
    into = folder()
    said = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--isolated",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "-q",
            "--index-url",
            f"{gateway.url}/simple/",
            "--dest",
            str(into),
            "parcel",
        ],
        env={**CLEAN, "HOME": str(into)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    score.check(
        "pip downloads a wheel, and its digest is right",
        said.returncode == 0 and len(list(into.glob("parcel-1.0*"))) == 1,
        said.stderr.strip()[-200:],
    )


def npm(score, gateway):
    home = folder()
    (home / "package.json").write_text('{"name": "user", "version": "1.0.0"}')
    registry = f"{gateway.url}/npm/"
    (home / ".npmrc").write_text(f"registry={registry}\n{registry.removeprefix('http:')}:_authToken=theirs\n")
    said = subprocess.run(
        [
            "npm",
            "install",
            "--cache",
            str(home / "cache"),
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "parcel",
            "@acme/parcel",
        ],
        cwd=home,
        env={
            **{name: value for name, value in CLEAN.items() if not name.lower().startswith("npm_")},
            "HOME": str(home),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    there = [(home / "node_modules" / name / "index.js").exists() for name in ("parcel", "@acme/parcel")]
    score.check("npm installs a package, and one in a scope (its name has %2f)", all(there), said.stderr.strip()[-300:])
    seen = json.loads(fetch(f"{gateway.url}/seen"))
    credentials = {credential for path, credential in seen if path.startswith("/npm/")}
    score.check("npm's token reaches the registry as it was", credentials == {"Bearer theirs"}, credentials)


if __name__ == "__main__":
    run(main)
