"""Raw HTTP/1.1 and WebSocket over asyncio streams, for checks that hold many connections or need odd requests."""

import asyncio
import base64
import os


async def ask(port, target, headers, host=None):
    """Sends one GET and reads the answer's head: status, headers (lower case), reader, writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {target} HTTP/1.1", f"Host: {host or f'localhost:{port}'}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1").split("\r\n")
    fields = [line.split(":", 1) for line in head[1:] if line]
    return int(head[0].split()[1]), {name.lower(): value.strip() for name, value in fields}, reader, writer


def upgrade(origin, cookie=None):
    """The headers of a WebSocket handshake (RFC 6455, section 4.1)."""
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Origin": origin,
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), "Sec-Fetch-Mode": "websocket",
        "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin",
    }
    return {**headers, "Cookie": cookie} if cookie else headers


async def echo(reader, writer, text):
    """Sends one short text frame and returns the one that comes back."""
    mask, payload = os.urandom(4), text.encode()
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    writer.write(bytes([0x81, 0x80 | len(payload)]) + mask + masked)
    head = await asyncio.wait_for(reader.readexactly(2), 30)
    return (await asyncio.wait_for(reader.readexactly(head[1] & 0x7F), 30)).decode()


async def events(reader):
    """The data of each server-sent event of a chunked answer, until it ends or breaks."""
    try:
        while line := await reader.readline():
            if line.startswith(b"data:"):
                yield line[5:].strip().decode()
            elif line == b"0\r\n":
                return
    except ConnectionError:
        return
