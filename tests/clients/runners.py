"""The jobs of docs/examples, word for word, against the gateway of docs/examples: each line of `script` as a runner runs it.

Only addresses differ: a proxy in the runner's environment leads every host of the examples to the gateway, which listens on
loopback. Behind it stand `git http-backend`, `registry.py` and a small API. Jobs that are refused end with the exit codes of
docs/tokens.md.
"""

import base64
import json
import re
import shlex
import shutil
import socket
import string
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from git import Hosting, git
from gitlab import GitLab
from world import CLEAN, HERE, SECRET, Authority, Gateway, Process, fetch, folder, parts, run, until

DOCS = HERE.parents[1] / "docs"
EXAMPLES = DOCS / "examples"
CODES = {
    name: int(code) for name, code in re.findall(r"^\| `(.+)` \| (\d+) \|", (DOCS / "tokens.md").read_text(), re.M)
}
CURL, CLONE, PIP, LOGIN = (
    CODES[name] for name in ("curl --fail-with-body", "git clone", "pip install", "docker login")
)
COMMIT = "714a629c0b401fdce83e847fc9589983fc6f46bc"

PROTECTED = {"ref": "main", "ref_protected": True, "pipeline_source": "push"}
BRANCH = {"ref": "topic", "ref_protected": False, "pipeline_source": "push"}
REQUEST = {"ref": "topic", "ref_protected": False, "pipeline_source": "merge_request_event"}
FORK = {
    **REQUEST,
    "project_path": "mallory/api",
    "project_id": 666,
    "job_project_path": "acme/shop/api",
    "job_project_id": 5120,
}
STRANGER = {**PROTECTED, "project_path": "other/thing", "project_id": 77}


def main(score):
    place = Place()
    parts(
        score,
        ("jobs that may", lambda: permitted(score, place)),
        ("jobs that may not", lambda: refused(score, place)),
        ("docker", lambda: docker(score, place)),
        ("what upstreams saw", lambda: seen(score, place)),
    )
    left = set(place.jobs) - place.tried - ({"image"} if not shutil.which("docker") else set())
    score.check("every job of the examples was tried", not left, ", ".join(sorted(left)))


class Place:
    """The gateway of the examples, with what stands behind it and before it."""

    def __init__(self):
        self.jobs = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())
        del self.jobs["stages"]
        self.gitlab, self.api, self.hosting = GitLab(), Api(), Hosting(path="")
        self.registry = Process([sys.executable, str(HERE / "registry.py")], first_line=True)
        self.registry_url = f"http://127.0.0.1:{self.registry.first_line()['port']}"
        self.repository()
        self.authority = Authority()
        self.gateway = self.started()
        self.proxy = Proxy(self.gateway.port)
        self.tokens, self.tried = [], set()

    def repository(self):
        self.hosting.bare("acme/shop/api.git")
        work = folder() / "work"
        git("init", "-q", "-b", "main", work)
        (work / "code").write_text("code\n")
        git("-C", work, "add", ".")
        git("-C", work, "commit", "-qm", "the commit that is cloned")
        git("-C", work, "push", "-q", self.hosting.folder / "acme/shop/api.git", "main")

    def started(self):
        """The configuration of the examples, with other addresses and files."""
        known = yaml.safe_load((EXAMPLES / "vestibule.yaml").read_text())
        upstreams = {
            "deploy-api": self.api.url,
            "git": self.hosting.url,
            "packages": self.registry_url,
            "registry": self.registry_url,
            "backstage-jobs": self.api.url,
        }
        for route in known["routes"]:
            route["upstream"] = upstreams[route["name"]]
        certificate, key = self.authority.issue(*(route["host"] for route in known["routes"]))
        (provider,) = known["providers"]
        provider.update(issuer=self.gitlab.issuer, client_secret={"file": "secret"})
        provider["membership"].update(refresh="1s", api={"token": {"file": "secret"}})
        known["listen"] = [{"address": "127.0.0.1:PORT", "tls": {"certificate": str(certificate), "key": str(key)}}]
        known["policies"] = str(EXAMPLES / "policies")
        del known["operations"]
        registry = next(route for route in known["routes"] if route["name"] == "registry")
        registry["credential"]["basic"]["password"] = {"file": "secret"}
        return Gateway(**known)

    def run(self, name, claims, lines=None, expired=False):
        """Runs a job as a runner does: exit code, and all that it said."""
        job, home = self.jobs[name], folder()
        self.tried.add(name)
        environment = self.environment(job, claims, home)
        for variable, about in job["id_tokens"].items():
            life = {"ttl": -100} if expired else {}
            environment[variable] = self.gitlab.token(about["aud"], **claims, **self.place_of(job, environment), **life)
            self.tokens.append(environment[variable])
        lines = lines or job["script"]
        script = "".join(f"echo {shlex.quote('$ ' + line.splitlines()[0])}\n{line}\n" for line in lines)
        (home / "script").write_text(script)
        done = subprocess.run(
            ["bash", "-eo", "pipefail", str(home / "script")],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, home

    def environment(self, job, claims, home):
        known = {name: value for name, value in CLEAN.items() if not name.lower().startswith(("npm_", "pip_", "git_"))}
        branch = {} if claims["pipeline_source"] == "merge_request_event" else {"CI_COMMIT_BRANCH": claims["ref"]}
        return {
            **known,
            **branch,
            "CI": "true",
            "CI_COMMIT_REF_NAME": claims["ref"],
            "CI_COMMIT_REF_SLUG": claims["ref"],
            "CI_COMMIT_SHA": COMMIT,
            "CI_DEFAULT_BRANCH": "main",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_PIPELINE_SOURCE": claims["pipeline_source"],
            "CI_PROJECT_PATH": claims.get("job_project_path", "acme/shop/api"),
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{known['PATH']}",
            "HTTPS_PROXY": self.proxy.url,
            "https_proxy": self.proxy.url,
            "DOCKER_HOST": "tcp://127.0.0.1:9",  # where there is no daemon, its client logs in by itself
            "GIT_TERMINAL_PROMPT": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_CACHE_DIR": "1",
            "npm_config_cache": str(home / "cache"),
            "npm_config_update_notifier": "false",
            **{name: str(self.authority.certificate) for name in TRUST},
        }

    @staticmethod
    def place_of(job, environment):
        """The claim `environment`, where the job has one."""
        written = job.get("environment")
        name = written["name"] if isinstance(written, dict) else written
        return {"environment": string.Template(name).substitute(environment)} if name else {}


# How each client is told whom to trust.
TRUST = (
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "npm_config_cafile",
)


def permitted(score, place):
    for name, claims, proof in (
        ("deploy", PROTECTED, lambda said, _: "deployed 714a629c" in said),
        ("review", REQUEST, lambda said, _: "review 7" in said),
        ("clone", BRANCH, lambda said, _: "the commit that is cloned" in said),
        ("packages", BRANCH, lambda _, home: all((home / one).exists() for one in INSTALLED)),
        ("catalog", BRANCH, lambda said, _: "component:default/api" in said),
    ):
        code, said, home = place.run(name, claims)
        score.check(
            f"the job `{name}` of the examples runs to its end", code == 0 and proof(said, home), told(code, said)
        )


INSTALLED = ("deps/parcel.py", "node_modules/parcel/index.js", "node_modules/@acme/parcel/index.js")


def refused(score, place):
    before = len(place.api.requests)
    for what, name, claims, expected, words in (
        (
            "on an unprotected branch",
            "deploy",
            BRANCH,
            CURL,
            ("not_permitted", "protected branch main of acme/shop/api"),
        ),
        ("in the merge request of a fork", "deploy", FORK, CURL, ("not_permitted",)),
        ("in the merge request of a fork", "review", FORK, CURL, ("not_permitted",)),
        ("by somebody of no group", "deploy", {**PROTECTED, "user": "bob"}, CURL, ("not_permitted", "acme/release")),
        ("of another group", "clone", STRANGER, CLONE, ("403",)),
        ("of another group", "packages", STRANGER, PIP, ("No matching distribution",)),
        ("of another group", "catalog", STRANGER, CURL, ("not_permitted",)),
    ):
        code, said, _ = place.run(name, claims)
        held = code == expected and all(word in said for word in words)
        score.check(f"the job `{name}` {what} ends with {expected}", held, told(code, said))
    code, said, _ = place.run("deploy", PROTECTED, expired=True)
    score.check(
        f"the job `deploy` with a token that is over ends with {CURL}",
        code == CURL and "invalid_token" in said and "it ended" in said,
        told(code, said),
    )
    lines = [line for line in place.jobs["packages"]["script"] if "pip install" not in line]
    code, said, _ = place.run("packages", STRANGER, lines=lines)
    score.check(
        f"npm of a job of another group ends with {CODES['npm install']}",
        code == CODES["npm install"] and "E403" in said,
        told(code, said),
    )
    code, said, _ = place.run("clone", BRANCH, expired=True)
    score.check(f"the job `clone` with a token that is over ends with {CLONE}", code == CLONE, told(code, said))
    came = place.api.requests[before:]
    score.check("nothing of a job that is refused comes through", not came, came)
    place.gitlab.provider.admin("block", {"user": "ines"})
    # the groups may be read again before the person is: refused is refused, and then it is said why
    until("the person is out", lambda: "person_inactive" in place.run("deploy", PROTECTED)[1], pause=0.3)
    code, said, _ = place.run("deploy", PROTECTED)
    score.check(
        f"the job `deploy` of somebody who was blocked ends with {CURL}",
        code == CURL and "person_inactive" in said,
        told(code, said),
    )
    place.gitlab.provider.admin("block", {"user": "ines", "blocked": False})
    until("the person is in again", lambda: place.run("deploy", PROTECTED)[0] == 0, pause=0.3)


def docker(score, place):
    lines = place.jobs["image"]["script"]
    score.check("the job `image` begins with a login", "docker login" in lines[0] and "--password-stdin" in lines[0])
    if not shutil.which("docker"):
        return  # what it asks for is tried in git.py, in the words of the specification
    for what, claims, expected in (("of acme logs in", PROTECTED, 0), ("of another group does not", STRANGER, LOGIN)):
        code, said, _ = place.run("image", claims, lines=lines[:1])
        score.check(f"docker: a job {what}", code == expected, told(code, said))


def seen(score, place):
    """No upstream had a token of a job; all of them were told who asks."""
    requests = json.dumps(place.api.requests)
    credentials = {credential for _, credential in json.loads(fetch(f"{place.registry_url}/seen"))}
    own = "Basic " + base64.b64encode(f"gateway:{SECRET}".encode()).decode()
    score.check(
        "packages are asked for without a credential, images with the gateway's own", credentials <= {None, own}
    )
    everything = requests + place.hosting.seen() + str(credentials)
    leaked = [token for token in place.tokens if token in everything]
    score.check(f"none of {len(place.tokens)} tokens reached an upstream", place.tokens and not leaked)
    assertions = [headers.get("vestibule-assertion") for _, headers in place.api.requests]
    subjects = {claims(assertion)["sub"] for assertion in assertions if assertion}
    expected = {"job:ci-deploy:302", "job:ci-portal:302"}
    score.check("the API is told which job asks", None not in assertions and subjects == expected, subjects)


class Api:
    """What is deployed to, and a catalog that believes assertions as Backstage does. It remembers what it was asked."""

    def __init__(self):
        requests = self.requests = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                requests.append([self.path, {name.lower(): value for name, value in self.headers.items()}])
                status, said = said_to(self.path, body, self.headers.get("Authorization"))
                said = said.encode()
                self.send_response(status)
                self.send_header("Content-Length", len(said))
                self.end_headers()
                self.wfile.write(said)

            do_POST = do_PUT = do_GET

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()


def said_to(path, body, credential):
    if path.startswith("/deployments/"):
        return 201, f"deployed {body.removeprefix('sha=')}\n"
    if path.startswith("/reviews/"):
        return 200, f"review {path.rsplit('/', 1)[1]}\n"
    try:
        about = claims((credential or "").removeprefix("Bearer "))
    except (ValueError, IndexError):
        return 401, "Illegal token"
    fits = about["iss"] == "https://deploy.example.com" and about["aud"] == "backstage-jobs"
    return (200, "component:default/api\n") if fits else (401, "Illegal token")


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


class Proxy:
    """Leads every CONNECT to one port of loopback, whatever host it names."""

    def __init__(self, port):
        self.port, self.listener = port, socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(4096)
            if not piece:
                return client.close()
            head += piece
        if not head.startswith(b"CONNECT "):
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return client.close()
        gateway = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=pour, args=(client, gateway), daemon=True).start()
        pour(gateway, client)


def pour(source, sink):
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one end is gone, and the other will notice


def told(code, said):
    return f"{code}, {said.strip()[-240:]}"


if __name__ == "__main__":
    run(main)
