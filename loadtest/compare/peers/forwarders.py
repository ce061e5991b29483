"""What only forwards: the floors that an edge stands on."""

from .. import machine
from .peer import Peer


class Direct(Peer):
    """The upstream itself, with nothing in front of it."""

    name = "direct"

    def launch(self):
        self.port = self.scene.upstream.port
        return self.scene.upstream.process

    def stop(self):
        self.process = None

    def version(self):
        return "the upstream of this load test"


class Floor(Peer):
    name = "kernel floor"
    command = "floor"

    def launch(self):
        return self.run([
            self.scene.tool, self.command, f"127.0.0.1:{self.port}",
            "--upstream", f"127.0.0.1:{self.scene.upstream.port}",
        ])

    def version(self):
        return "tokio and httparse: forwards bodies with a Content-Length, and nothing else"


class Bare(Floor):
    name = "bare hyper"
    command = "bare"

    def version(self):
        return "hyper on both sides, a pool for each thread: forwards, and nothing else"


class Upstream:
    """The service behind everybody."""

    def __init__(self, tool, directory):
        self.port = machine.free_port()
        self.process = machine.start(
            [tool, "upstream", f"127.0.0.1:{self.port}"], machine.LOAD_CORE, directory / "upstream.log"
        )
        machine.wait_until_listening(self.process, self.port)
