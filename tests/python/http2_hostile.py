"""A server of HTTP/1.1 and, through the edge, clients of HTTP/2 that ask for much
and take nothing.

Says where the server listens; is told the edge's address and a token; says
what came of it, one line each.
"""

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)

PATIENCE = 20
LARGE = b"\0" * (8 << 20)
STREAMS = 100


def say(text):
    print(text, flush=True)


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(LARGE if self.path == "/large" else b"ok")

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # All of them are asked for at once.
    request_queue_size = STREAMS


class Client:
    def __init__(self, edge, token):
        host, port = edge.rsplit(":", 1)
        self.token = token
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, path, more=()):
        stream = self.h2.get_next_available_stream_id()
        fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "edge.test"),
            (":path", path),
            ("x-api-key", self.token),
        ]
        self.h2.send_headers(stream, [*fields, *more], end_stream=True)
        self.flush()
        return stream

    def events(self):
        """What comes next; `None` at the end, which a reset is too."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            return None
        return self.h2.receive_data(data) if data else None

    def answers(self, streams):
        """The status of each answer, in the order of `streams`."""
        status, open_streams = {}, set(streams)
        while open_streams:
            for event in self.events():
                if isinstance(event, ResponseReceived):
                    status[event.stream_id] = int(dict(event.headers)[":status"])
                elif isinstance(event, DataReceived):
                    size = event.flow_controlled_length
                    self.h2.acknowledge_received_data(size, event.stream_id)
                elif isinstance(event, StreamReset):
                    status[event.stream_id] = f"reset {event.error_code.name}"
                    open_streams.discard(event.stream_id)
                elif isinstance(event, StreamEnded):
                    open_streams.discard(event.stream_id)
            self.flush()
        return [status[stream] for stream in streams]


def fields(edge, token):
    client = Client(edge, token)
    many = client.begin("/", [(f"x-{number}", "") for number in range(300)])
    large = client.begin("/", [(f"x-{number}", "v" * 5000) for number in range(10)])
    plain = client.begin("/")
    answers = client.answers([many, large, plain])
    say("fields " + " ".join(map(str, answers)))


def flood(edge, token, what, frame):
    """Many frames that want an answer each, of which none is read."""
    client = Client(edge, token)
    client.socket.settimeout(1)
    try:
        # More than all buffers on the way have room for.
        for _ in range(400):
            client.socket.sendall(frame * 10_000)
        say(f"{what} taken")
    except OSError:
        # Cut, or not listened to any more.
        say(f"{what} held up")
    again = Client(edge, token)
    [status] = again.answers([again.begin("/")])
    say(f"others {status}")
    return client


def stall(edge, token):
    """Asks for much, and opens no window: to its pings it answers."""
    client = Client(edge, token)
    for _ in range(STREAMS):
        client.begin("/large")
    received = 0
    while received < client.h2.local_settings.initial_window_size:
        for event in client.events():
            received += getattr(event, "flow_controlled_length", 0)
        client.flush()
    say("stalled")
    while (events := client.events()) is not None:
        if any(isinstance(event, ConnectionTerminated) for event in events):
            break
        client.flush()
    say("closed")


def main():
    server = Server(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(server.server_address[1])
    edge, token = sys.stdin.readline().split()
    fields(edge, token)
    ping = b"\0\0\x08\x06\0\0\0\0\0" + b"pingpong"
    settings = b"\0\0\x06\x04\0\0\0\0\0" + b"\0\x03\0\0\0\x64"
    kept = [flood(edge, token, "pings", ping), flood(edge, token, "settings", settings)]
    stall(edge, token)
    del kept


main()
