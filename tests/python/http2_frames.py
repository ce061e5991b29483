"""Sends requests of HTTP/2 that no library would send, and says what came of each.

Reads a line of JSON for each case: the edge's address, `head`, `data` and
`trailers`; text stands for bytes, as of Latin-1. Writes a line of JSON: `answer`
with its status, `reset`, or `closed`, and whether the connection goes on.
"""

import json
import socket
import struct
import sys

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
LARGEST = 16_384


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(fields):
    """Each field as it stands, and in no table: a number of 7 bits, the bytes, twice."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields)


def text(value):
    value = value.encode("latin-1")
    if len(value) < 127:
        return bytes([len(value)]) + value
    number, rest = [127], len(value) - 127
    while rest >= 128:
        number.append(rest % 128 + 128)
        rest //= 128
    return bytes([*number, rest]) + value


def fields(stream, listed, last):
    """A head or trailers, in as many frames as they take."""
    bytes_ = block(listed)
    pieces = [bytes_[at : at + LARGEST] for at in range(0, len(bytes_), LARGEST)] or [b""]
    frames = b""
    for number, piece in enumerate(pieces):
        flags = END_HEADERS if number == len(pieces) - 1 else 0
        if number == 0 and last:
            flags |= END_STREAM
        frames += frame(CONTINUATION if number else HEADERS, flags, stream, piece)
    return frames


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.file = self.socket.makefile("rb")
        self.decoder = hpack.Decoder()
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # What the edge said before it closed is read all the same.

    def ask(self, stream, case):
        data, trailers = case.get("data"), case.get("trailers")
        request = fields(stream, case["head"], data is None and trailers is None)
        if data is not None:
            request += frame(DATA, 0 if trailers is not None else END_STREAM, stream, data.encode("latin-1"))
        if trailers is not None:
            request += fields(stream, trailers, True)
        self.send(request)
        return self.outcome(stream)

    def outcome(self, stream):
        status, body = None, b""
        while (read := self.frame()) is not None:
            kind, flags, of, payload = read
            if kind == HEADERS:
                decoded = dict(self.decoder.decode(payload))
                if of == stream:
                    status = int(decoded[":status"])
            elif kind == DATA and of == stream:
                body += payload
            elif kind == RST_STREAM and of == stream:
                if status is None:
                    return {"reset": struct.unpack(">I", payload)[0]}
                break
            elif kind == GOAWAY and status is None and struct.unpack(">I", payload[4:8])[0]:
                return {"closed": struct.unpack(">I", payload[4:8])[0]}
            if kind in (HEADERS, DATA) and of == stream and flags & END_STREAM:
                break
        if status is None:
            return {"closed": None}
        return {"answer": status, "body": body.decode("latin-1")}

    def frame(self):
        try:
            head = self.file.read(9)
            if len(head) < 9:
                return None
            payload = self.file.read(int.from_bytes(head[:3], "big"))
        except OSError:
            return None
        kind, flags = head[3], head[4]
        if kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        return kind, flags, int.from_bytes(head[5:9], "big"), payload


def main():
    for line in sys.stdin:
        case = json.loads(line)
        connection = Connection(case["address"])
        outcome = connection.ask(1, case)
        probe = connection.ask(3, {"head": case["probe"]})
        outcome["goes_on"] = probe.get("body") == "GET /probe 0"
        print(json.dumps(outcome), flush=True)
        connection.socket.close()


main()
