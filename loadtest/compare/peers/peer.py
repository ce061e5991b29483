"""What every peer is to the experiments."""

import pathlib
import re

from .. import machine


class Peer:
    """A server in front of the upstream, started when it is first needed."""

    name = "?"
    tool = None
    secure = False
    """Speaks TLS, with the scene's certificate."""
    left_out = None
    """Why it cannot be measured here, if so."""

    def __init__(self, scene):
        self.scene = scene
        self.port = machine.free_port()
        self.directory = scene.directory / f"{type(self).__name__}-{self.port}"
        self.directory.mkdir()
        self.process = None

    @property
    def url(self):
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    def keys(self):
        """The file of tokens that it admits."""
        return self.scene.tokens

    def start(self):
        if self.process is None:
            self.process = self.launch()
            self.wait()

    def wait(self):
        machine.wait_until_listening(self.process, self.port)

    def launch(self):
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def pids(self):
        return [self.process.pid]

    def anonymous_kib(self):
        """Resident memory that is no file's: the pages of a mapped journal are the kernel's
        to take back, and grow with what was recorded."""
        held = 0
        for pid in self.pids():
            status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            held += int(re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)[1])
        return held

    def stop(self):
        if self.process is not None:
            machine.stop(self.process)
            self.process = None

    def run(self, command, core=machine.PROXY_CORE, **options):
        return machine.start(command, core, self.directory / "log", **options)
