"""An HTTP/1.1 server and, through the edge, a client of HTTP/2 by the library h2.

Says where the server listens; is told the edge's address and a token; says
what came of the requests, one line each.
"""

import hashlib
import http.server
import socket
import sys
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

LARGE = bytes(range(256)) * 4096
WINDOW = 65_535


def say(text):
    print(text, flush=True)


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(LARGE if self.path == "/large" else b"small")

    def do_POST(self):
        digest = hashlib.sha256()
        while size := int(self.rfile.readline(), 16):
            digest.update(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        self.answer(digest.hexdigest().encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Client:
    """Reads only when asked to, and opens no window by itself."""

    def __init__(self, address, token):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.token = token
        self.bodies, self.status, self.ended = {}, {}, set()
        self.others = []
        self.http2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.http2.data_to_send())

    def ask(self, path, method="GET", end=True):
        stream = self.http2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "edge.test"), (":path", path),
                ("x-api-key", self.token)]
        self.http2.send_headers(stream, head, end_stream=end)
        self.bodies[stream] = b""
        self.flush()
        return stream

    def read(self):
        data = self.socket.recv(65_536)
        assert data, "the edge closed the connection"
        for event in self.http2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.status[event.stream_id] = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] += event.data
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            else:
                self.others.append(event)
        self.flush()

    def read_until(self, condition):
        while not condition():
            self.read()

    def saw(self, kind):
        return any(isinstance(event, kind) for event in self.others)


def stalled_stream(client):
    """One stream's window is full; it holds up no other, and goes on when it is opened."""
    large = client.ask("/large")
    client.read_until(lambda: len(client.bodies[large]) == WINDOW)
    client.http2.increment_flow_control_window(1 << 20)
    small = [client.ask("/small") for _ in range(20)]
    client.read_until(lambda: client.ended.issuperset(small))
    assert all(client.bodies[stream] == b"small" and client.status[stream] == "200" for stream in small)
    assert len(client.bodies[large]) == WINDOW, "more came than there was room for"
    client.http2.increment_flow_control_window(2 << 20)
    client.http2.increment_flow_control_window(2 << 20, large)
    client.flush()
    client.read_until(lambda: large in client.ended)
    assert client.bodies[large] == LARGE
    say("flow control")


def upload(client):
    """A body as large as the edge's windows are small, and trailers after it."""
    stream = client.ask("/", "POST", end=False)
    left = LARGE
    while left:
        room = min(client.http2.local_flow_control_window(stream), client.http2.max_outbound_frame_size, len(left))
        if room == 0:
            client.read()
            continue
        client.http2.send_data(stream, left[:room])
        left = left[room:]
        client.flush()
    client.http2.send_headers(stream, [("sum", "1")], end_stream=True)
    client.flush()
    client.read_until(lambda: stream in client.ended)
    assert client.bodies[stream] == hashlib.sha256(LARGE).hexdigest().encode()
    say("upload")


def pings_and_settings(client):
    client.http2.ping(b"12345678")
    client.http2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    client.flush()
    client.read_until(lambda: client.saw(h2.events.PingAckReceived) and client.saw(h2.events.SettingsAcknowledged))
    stream = client.ask("/large")
    client.read_until(lambda: len(client.bodies[stream]) == 10)
    client.http2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    client.http2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
    small = client.ask("/small")
    client.read_until(lambda: small in client.ended)
    say("ping and settings")


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(server.server_address[1])
    client = Client(*sys.stdin.readline().split())
    stalled_stream(client)
    upload(client)
    pings_and_settings(client)
    client.token = "cyk_live_nobodys"
    refused = client.ask("/small")
    client.read_until(lambda: refused in client.ended)
    assert client.status[refused] == "401", client.status
    say("refused")


main()
