"""HAProxy: a map, a stick table, a log line a request to a socket."""

import socket

from .. import machine
from .peer import Peer

CONFIGURATION = """
global
    maxconn 4096
    nbthread 1
    log 127.0.0.1:{log} len 1024 local0 info
    stats socket {directory}/socket
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    http-reuse always
frontend edge
    bind 127.0.0.1:{port}{secure}
    stick-table type string len 32 size 200k expire 2m store http_req_rate(60s)
    http-request set-var(txn.key) http_auth_bearer,map_str({directory}/keys)
    http-request deny deny_status 401 unless {{ var(txn.key) -m found }}
    http-request track-sc0 var(txn.key)
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {limit} }}
    http-request del-header authorization
    http-request set-header X-Key-Id %[var(txn.key)]
    http-request set-header X-Forwarded-For %[src]
    default_backend app
backend app
    server app 127.0.0.1:{upstream}
"""


class HAProxy(Peer):
    name = "HAProxy"
    tool = "haproxy"
    limit = 100_000_000

    def launch(self):
        # A receiver that does not read: what does not fit is dropped, and costs
        # the sender the same.
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.bind(("127.0.0.1", 0))
        with open(self.directory / "keys", "w", encoding="ascii") as keys:
            for number, token in enumerate(self.scene.read_tokens()):
                keys.write(f"{token} key-{number}\n")
        (self.directory / "haproxy.cfg").write_text(CONFIGURATION.format(
            directory=self.directory, port=self.port, upstream=self.scene.upstream.port,
            log=self.receiver.getsockname()[1], limit=self.limit, secure=self.bind(),
        ))
        return self.run([machine.found("haproxy"), "-db", "-f", self.directory / "haproxy.cfg"])

    def bind(self):
        return ""

    def version(self):
        return machine.first_line(machine.found("haproxy"), "-v")


class HAProxyTls(HAProxy):
    name = "HAProxy, TLS"
    secure = True

    def bind(self):
        return f" ssl crt {self.scene.certificate[2]} alpn h2,http/1.1"


class HAProxyLimited(HAProxy):
    """Every key has had its one request of the minute."""

    name = "HAProxy limited"
    limit = 1
