"""Envoy: api_key_auth, local_ratelimit, a file log."""

import json

from .. import machine
from .peer import Peer


def typed(name, **fields):
    return {"@type": f"type.googleapis.com/envoy.extensions.{name}", **fields}


class Envoy(Peer):
    name = "Envoy"
    tool = "envoy"

    def launch(self):
        (self.directory / "envoy.json").write_text(json.dumps(self.configuration()))
        return self.run([
            machine.found("envoy"), "-c", self.directory / "envoy.json", "--concurrency", "1",
            "--log-level", "warning", "--disable-hot-restart",
        ])

    def version(self):
        return machine.first_line(machine.found("envoy"), "--version")

    def configuration(self):
        credentials = [
            {"key": token, "client": f"key-{number}"}
            for number, token in enumerate(self.scene.read_tokens())
        ]
        filters = [
            {
                "name": "envoy.filters.http.api_key_auth",
                "typed_config": typed(
                    "filters.http.api_key_auth.v3.ApiKeyAuth",
                    credentials=credentials, key_sources=[{"header": "Authorization"}],
                    forwarding={"header": "X-Key-Id", "hide_credentials": True},
                ),
            },
            {
                # One bucket for all: one for each of so many keys would cost it more.
                "name": "envoy.filters.http.local_ratelimit",
                "typed_config": typed(
                    "filters.http.local_ratelimit.v3.LocalRateLimit",
                    stat_prefix="limit",
                    token_bucket={"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"},
                    filter_enabled={"default_value": {"numerator": 100}},
                    filter_enforced={"default_value": {"numerator": 100}},
                ),
            },
            {"name": "envoy.filters.http.router", "typed_config": typed("filters.http.router.v3.Router")},
        ]
        manager = typed(
            "filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="edge", http_filters=filters,
            access_log=[{
                "name": "envoy.access_loggers.file",
                "typed_config": typed("access_loggers.file.v3.FileAccessLog", path=str(self.directory / "access.log")),
            }],
            route_config={"virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}],
            }]},
        )
        return {"static_resources": {
            "listeners": [{
                "name": "edge", "address": address(self.port),
                "filter_chains": [{
                    "filters": [{
                        "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
                    }],
                    **self.transport(),
                }],
            }],
            "clusters": [{
                "name": "app", "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": address(self.scene.upstream.port)}},
                ]}]},
            }],
        }}

    def transport(self):
        return {}


class EnvoyTls(Envoy):
    name = "Envoy, TLS"
    secure = True

    def transport(self):
        chain, key, _ = self.scene.certificate
        context = typed(
            "transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context={
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}},
                ],
            },
        )
        return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
