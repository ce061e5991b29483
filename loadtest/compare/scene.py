"""What all experiments share: binaries, the upstream, keys, and who is running."""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

from . import certificate
from .peers.edge import PASSWORD
from .peers.forwarders import Upstream

# What the peers can hold; the edge has stores of more.
KEYS = 10_000

# Requests a minute of a key: more than anybody sends, and one.
UNLIMITED = 600_000_000
ONE = 1


class Store:
    """An embedded key store with so many keys, kept for the next run."""

    def __init__(self, scene, keys, rate_limit):
        kept = pathlib.Path(os.environ["LOADTEST_STORES"])
        self.directory = kept / f"{keys}-keys-{rate_limit}-a-minute"
        self.tokens = self.directory / "tokens"
        if not self.tokens.exists():
            self.seed(scene, keys, rate_limit)

    def seed(self, scene, keys, rate_limit):
        print(f"making {keys:,} sealed keys, once", flush=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        # In memory, where a commit is cheap, then moved in one piece.
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(dir=memory) as making:
            config = pathlib.Path(making) / "seed.toml"
            config.write_text(
                f'[data]\ndir = "{making}/data"\n[keys]\nstore = "embedded"\n[usage]\nsink = "sqlite"\n'
                '[upstreams.app]\ntarget = "http://127.0.0.1:1"\n[[routes]]\nname = "all"\nupstream = "app"\n'
            )
            subprocess.run(
                [scene.tool, "seed", "--config", config, "--keys", str(keys),
                 "--rate-limit", str(rate_limit), "--tokens", f"{making}/tokens"],
                check=True, env={**os.environ, "PQ_ENCRYPTION_PASSWORD": PASSWORD},
            )
            unfinished = self.directory.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(making, unfinished)
            unfinished.rename(self.directory)

    def copy(self, data):
        """A data directory of its own for one edge."""
        if not data.exists():
            data.mkdir(mode=0o700)
            for file in (self.directory / "data").glob("keys.db*"):
                shutil.copy(file, data)
        return data


class Scene:
    def __init__(self, directory):
        binaries = pathlib.Path(os.environ["LOADTEST_BINARIES"])
        self.directory = directory
        self.tool = binaries / "cypheron-loadtest"
        self.edge = binaries / "cypheron-edge"
        self.is_root = os.geteuid() == 0
        self.upstream = Upstream(self.tool, directory)
        self._stores = {}
        self._peers = {}

    @functools.cached_property
    def certificate(self):
        return certificate.make(self.directory)

    def stored(self, keys, rate_limit=UNLIMITED):
        if (keys, rate_limit) not in self._stores:
            self._stores[keys, rate_limit] = Store(self, keys, rate_limit)
        return self._stores[keys, rate_limit]

    @property
    def store(self):
        return self.stored(KEYS)

    @property
    def tokens(self):
        return self.store.tokens

    def read_tokens(self):
        return self.tokens.read_text().split()

    def peer(self, kind, *arguments):
        """The running one of this kind."""
        key = (kind, arguments)
        if key not in self._peers:
            self._peers[key] = kind(self, *arguments)
        peer = self._peers[key]
        peer.start()
        return peer

    def forget(self, kind, *arguments):
        """Stops it: its memory and its polls are nobody else's."""
        peer = self._peers.pop((kind, arguments), None)
        if peer:
            peer.stop()
