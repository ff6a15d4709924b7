"""HTTP/2 written frame by frame (RFC 9113), for what no client library lets through."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind, flags, stream, payload=b""):
    """One frame (section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def string(text):
    """A string of HPACK without Huffman coding (RFC 7541, section 5.2)."""
    raw = text.encode("latin-1")
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    left, length = len(raw) - 127, b"\x7f"
    while left >= 128:
        length, left = length + bytes([left % 128 + 128]), left // 128
    return length + bytes([left]) + raw


def block(*fields):
    """A header block of literals that are not indexed (RFC 7541, section 6.2.2)."""
    return b"".join(b"\0" + string(name) + string(value) for name, value in fields)


def request(path="/", authority="localhost", method="GET", *more):
    """The header block of a request."""
    return block((":method", method), (":scheme", "http"), (":path", path), (":authority", authority), *more)


class Wire:
    """A connection in clear text that has sent its preface; nothing is read unless asked for."""

    def __init__(self, port, settings=b"", timeout=10, address="127.0.0.1"):
        self.socket = socket.create_connection((address, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got = b""
        self.send(PREFACE, frame(SETTINGS, 0, 0, settings))

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def read(self):
        """The next frame: kind, flags, stream, payload. None at the end of the connection."""
        while len(self.got) < 9 or len(self.got) < 9 + int.from_bytes(self.got[:3], "big"):
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                return None
            self.got += piece
        length = int.from_bytes(self.got[:3], "big")
        kind, flags, stream = self.got[3], self.got[4], int.from_bytes(self.got[5:9], "big") & 0x7FFFFFFF
        payload, self.got = self.got[9 : 9 + length], self.got[9 + length :]
        return kind, flags, stream, payload

    def until(self, *kinds):
        """The next frame of one of these kinds; None if the connection ends before. Settings are acknowledged."""
        while got := self.read():
            if got[0] == SETTINGS and not got[1] & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            if got[0] in kinds:
                return got
        return None

    def close(self):
        self.socket.close()
