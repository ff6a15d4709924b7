"""A registry in one small server: OCI blobs in chunks, a PyPI-shaped index, an npm-shaped one. Says its port, and ends
with its standard input. What it saw of credentials is at `/seen`."""

import base64
import hashlib
import io
import json
import re
import sys
import tarfile
import threading
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOBS, UPLOADS, SEEN = {}, {}, []


def wheel():
    """A wheel of the package `parcel`."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("parcel.py", "CONTENT = 'from the index'\n" + "# filler\n" * 200_000)
        about = "parcel-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", f"parcel.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return made.getvalue()


def tarball(name):
    """A package of npm."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        files = {
            "package.json": json.dumps({"name": name, "version": "1.0.0"}),
            "index.js": "module.exports = 7;\n" * 50_000,
        }
        for path, text in files.items():
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


WHEEL = wheel()
TARBALLS = {name: tarball(name) for name in ("parcel", "@acme/parcel")}


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", headers.pop("length", len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        """The request's body, in pieces."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            if not piece:
                raise ConnectionError("cut")
            left -= len(piece)
            yield piece

    # OCI distribution: start, chunks, end
    def do_POST(self):
        list(self.body())
        name = str(uuid.uuid4())
        UPLOADS[name] = bytearray()
        self.answer(202, Location=f"/v2/app/blobs/uploads/{name}?state=a%2Fb", Docker_Upload_UUID=name, Range="0-0")

    def do_PATCH(self):
        upload = UPLOADS[self.path.split("/")[-1].split("?")[0]]
        start, _, end = (self.headers.get("Content-Range") or f"{len(upload)}-").partition("-")
        if int(start) != len(upload):
            list(self.body())
            return self.answer(416, Range=f"0-{len(upload) - 1}")
        for piece in self.body():
            upload += piece
        if end and int(end) != len(upload) - 1:
            return self.answer(400)
        self.answer(202, Location=self.path, Range=f"0-{len(upload) - 1}")

    def do_PUT(self):
        upload = UPLOADS[self.path.split("/")[-1].split("?")[0]]
        for piece in self.body():
            upload += piece
        digest = re.search(r"digest=(sha256(?::|%3A)[0-9a-f]+)", self.path)[1].replace("%3A", ":")
        if digest != "sha256:" + hashlib.sha256(upload).hexdigest():
            return self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        BLOBS[digest] = bytes(upload)
        self.answer(201, Location=f"/v2/app/blobs/{digest}", Docker_Content_Digest=digest)

    def do_GET(self):
        SEEN.append([self.path, self.headers.get("Authorization")])
        path = self.path.split("?")[0]
        if path == "/seen":
            self.answer(200, json.dumps(SEEN).encode())
        elif path == "/v2/":
            challenge = (
                {}
                if self.headers.get("Authorization")
                else {"WWW_Authenticate": 'Bearer realm="http://registry/token",service="registry"'}
            )
            self.answer(
                200 if not challenge else 401, b"{}", **challenge, Docker_Distribution_API_Version="registry/2.0"
            )
        elif path.startswith("/v2/app/blobs/"):
            self.blob(BLOBS.get(path.rsplit("/", 1)[1].replace("%3A", ":")))
        elif path == "/simple/parcel/":
            text = f'<a href="../../packages/parcel-1.0-py3-none-any.whl#sha256={hashlib.sha256(WHEEL).hexdigest()}">parcel-1.0-py3-none-any.whl</a>'
            self.answer(200, text.encode(), Content_Type="text/html")
        elif path.startswith("/packages/"):
            self.blob(WHEEL)
        elif path.startswith("/npm/-/"):
            self.blob(TARBALLS["@acme/parcel" if "acme" in path else "parcel"])
        elif path in ("/npm/parcel", "/npm/@acme%2fparcel", "/npm/@acme%2Fparcel"):
            self.packument("@acme/parcel" if "acme" in path else "parcel")
        else:
            self.answer(404)

    do_HEAD = do_GET

    def blob(self, content):
        if content is None:
            return self.answer(404)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            return self.answer(
                200,
                content,
                Docker_Content_Digest="sha256:" + hashlib.sha256(content).hexdigest(),
                Accept_Ranges="bytes",
            )
        first, last = int(asked[1]), int(asked[2] or len(content) - 1)
        self.answer(206, content[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(content)}")

    def packument(self, name):
        archive = TARBALLS[name]
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
        scheme = self.headers.get("X-Forwarded-Proto", "http")
        where = f"{scheme}://{self.headers['Host']}/npm/-/{name.replace('@', '').replace('/', '-')}.tgz"
        one = {"name": name, "version": "1.0.0", "dist": {"tarball": where, "integrity": integrity}}
        said = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": one}}
        self.answer(200, json.dumps(said).encode(), Content_Type="application/json")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    sys.stdin.read()
