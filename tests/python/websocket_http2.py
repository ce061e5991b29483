"""A WebSocket server and, through the edge, its clients over HTTP/2 (RFC 8441).

Says where the server listens; is told the edge's address and three tokens: one
that may have everything, one that may have less, one that may have little; says
what came of the conversations, one line each. Streams are those of the library
h2, frames of WebSocket those of the library websockets.
"""

import asyncio
import socket
import sys
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from websockets.asyncio.server import serve
from websockets.frames import Opcode
from websockets.protocol import OPEN, Protocol, Side

from websocket import echo, say


class Connection:
    """One connection; reads only when asked to."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.heads, self.data, self.ends = {}, {}, {}
        self.http2.initiate_connection()
        self.flush()
        self.read_until(lambda: self.http2.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL))

    def flush(self):
        self.socket.sendall(self.http2.data_to_send())

    def ask(self, method, fields, end):
        stream = self.http2.get_next_available_stream_id()
        self.data[stream] = b""
        self.http2.send_headers(stream, [(":method", method), *fields], end_stream=end)
        self.flush()
        return stream

    def status(self, stream):
        self.read_until(lambda: stream in self.heads or stream in self.ends)
        return self.heads.get(stream, {}).get(":status", self.ends.get(stream))

    def send(self, stream, data):
        while data:
            room = min(self.http2.local_flow_control_window(stream), self.http2.max_outbound_frame_size, len(data))
            if room == 0:
                self.read()
                continue
            self.http2.send_data(stream, data[:room])
            data = data[room:]
            self.flush()

    def read(self):
        received = self.socket.recv(65_536)
        assert received, "the edge closed the connection"
        for event in self.http2.receive_data(received):
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.data[event.stream_id] += event.data
                self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ends.setdefault(event.stream_id, "ended")
            elif isinstance(event, h2.events.StreamReset):
                self.ends.setdefault(event.stream_id, f"reset {event.error_code:d}")
        self.flush()

    def read_until(self, condition):
        while not condition():
            self.read()


class WebSocket:
    """One conversation, beside others of its connection."""

    def __init__(self, connection, token, protocol="websocket", path="/chat"):
        self.stream = connection.ask(
            "CONNECT",
            [(":protocol", protocol), (":scheme", "http"), (":authority", "edge.test"), (":path", path),
             ("sec-websocket-version", "13"), ("x-api-key", token)],
            end=False,
        )
        self.connection = connection
        self.frames = Protocol(Side.CLIENT, state=OPEN, max_size=None)
        self.heard = []

    def status(self):
        return self.connection.status(self.stream)

    def flush(self):
        for data in self.frames.data_to_send():
            self.connection.send(self.stream, data)

    def next(self):
        """The next frame; None when there is none to come."""
        while not self.heard:
            data = self.connection.data[self.stream]
            if not data and self.stream in self.connection.ends:
                self.frames.receive_eof()
                return None
            if not data:
                self.connection.read()
                continue
            self.connection.data[self.stream] = b""
            self.frames.receive_data(data)
            self.heard += self.frames.events_received()
            self.flush()
        return self.heard.pop(0)

    def message(self):
        frame = self.next()
        whole = frame.data
        while not frame.fin:
            frame = self.next()
            whole += frame.data
        return whole

    def says_back(self, message):
        if isinstance(message, str):
            message = message.encode()
            self.frames.send_text(message)
        else:
            self.frames.send_binary(message)
        self.flush()
        assert self.message() == message


def converse(connection, token):
    """Two at once, on one connection, and a request beside them."""
    one, other = WebSocket(connection, token), WebSocket(connection, token)
    say(f"opened {one.status()} {other.status()}")
    fields = connection.heads[one.stream]
    assert not {"upgrade", "connection", "sec-websocket-accept"} & set(fields), fields
    for message in ["text", b"binary", "", b"\0" * (1 << 20)]:
        one.says_back(message)
        other.says_back(b"beside")
    request = connection.ask("GET", [(":scheme", "http"), (":authority", "edge.test"), (":path", "/"), ("x-api-key", token)], end=True)
    say(f"beside them {connection.status(request)}")
    one.frames.send_ping(b"there?")
    one.flush()
    pong = one.next()
    assert (pong.opcode, pong.data) == (Opcode.PONG, b"there?"), pong
    for socket_ in (one, other):
        socket_.frames.send_close(4000, "done")
        socket_.flush()
        while socket_.next():
            pass
        say(f"closed {socket_.frames.close_code} {socket_.frames.close_reason} {connection.ends[socket_.stream]}")
        connection.http2.end_stream(socket_.stream)
        connection.flush()


def wait_for_the_end(connection, token):
    still = WebSocket(connection, token)
    still.says_back("still here")
    say("open")
    assert still.next() is None
    say(f"cut {connection.ends[still.stream]}")


def refused(connection, token, rare):
    say(f"revoked {WebSocket(connection, token).status()}")
    say(f"nobody {WebSocket(connection, 'cyk_live_nobodys').status()}")
    say(f"too often {WebSocket(connection, rare).status()} {WebSocket(connection, rare).status()}")
    say(f"another protocol {WebSocket(connection, token, 'connect-udp').status()}")


def permitted(connection, may, may_not):
    allowed = WebSocket(connection, may, path="/guarded")
    say(f"guarded {allowed.status()} {WebSocket(connection, may_not, path='/guarded').status()}")
    connection.http2.reset_stream(allowed.stream, h2.errors.ErrorCodes.CANCEL)
    connection.flush()


def server(port):
    async def run():
        async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as listening:
            port.append(listening.sockets[0].getsockname()[1])
            started.set()
            await asyncio.Future()

    started = threading.Event()
    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    started.wait()
    return port[0]


def main():
    say(server([]))
    edge, token, lesser, rare = sys.stdin.readline().split()
    connection = Connection(edge)
    say("offered")
    converse(connection, token)
    permitted(connection, token, lesser)
    wait_for_the_end(connection, token)
    refused(connection, token, rare)


main()
