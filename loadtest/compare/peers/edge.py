"""The edge: sealed keys, a limit with its fields, a durable event a request."""

from .. import machine
from .peer import Peer

CONFIGURATION = """
[log]
level = "warn"
[data]
dir = "{data}"
[server]
listen = "127.0.0.1:{port}"
workers = {workers}
[health]
listen = "127.0.0.1:{health}"
[keys]
store = "embedded"
[auth]
# The brake counts, and never stands in the way: peers have none.
failures_per_minute = 4294967295
[directory]
warm_up = "{warm_up}"
warm_up_rate = 1000000
[usage.journal]
max_bytes = "8GiB"
[upstreams.app]
target = "http://127.0.0.1:{upstream}"
max_idle = 1024
[[routes]]
name = "all"
path = "/"
upstream = "app"
permission = "load:test"
{more}
"""

PASSWORD = "the password of a load test, which protects nothing"


class Edge(Peer):
    """Events stay in the journal: the database is not there."""

    name = "edge"
    workers = 1
    cores = machine.PROXY_CORE
    warm_up = "off"
    environment = {}

    def __init__(self, scene, store=None):
        super().__init__(scene)
        self.store = store or scene.store
        self.health = machine.free_port()

    def keys(self):
        return self.store.tokens

    def launch(self):
        data = self.store.copy(self.directory / "data")
        config = self.directory / "edge.toml"
        config.write_text(CONFIGURATION.format(
            data=data, port=self.port, health=self.health, workers=self.workers,
            upstream=self.scene.upstream.port, warm_up=self.warm_up, more=self.more(),
        ))
        return self.run(
            [self.scene.edge, "--config", config, "serve"], core=self.cores,
            env={"PQ_ENCRYPTION_PASSWORD": PASSWORD, **self.sink(), **self.environment},
        )

    def more(self):
        return ""

    def sink(self):
        # Nobody listens there.
        return {"DB_HOST": "127.0.0.1", "DB_PORT": "1", "DB_USER": "none", "DB_NAME": "none"}

    def wait(self):
        machine.wait_until_ok(self.process, f"http://127.0.0.1:{self.health}/readyz", 600)

    def version(self):
        return machine.first_line(self.scene.edge, "--version")


class EdgeShipping(Edge):
    """Events are stored as well: in SQLite, by the same process."""

    name = "edge, shipping"

    def sink(self):
        return {"CYPHERON_EDGE__USAGE__SINK": "sqlite"}


class EdgeTls(Edge):
    name = "edge, TLS"
    secure = True

    def more(self):
        chain, key, _ = self.scene.certificate
        return f'[server.tls]\ncertificates = [{{ chain = "{chain}", key = "{key}" }}]\n'


class EdgeTwoWorkers(Edge):
    name = "edge, two workers"
    workers = 2
    cores = f"{machine.PROXY_CORE},{machine.LOAD_CORE}"


class EdgeManyKeys(Edge):
    """Holds all keys of its store before it is ready."""

    name = "edge, many keys"
    warm_up = "before_ready"
