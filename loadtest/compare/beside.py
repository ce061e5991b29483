"""What is measured beside something else that goes on."""

import pathlib
import sys

from . import machine
from .columns import CPU, P50, P99, RESIDENT
from .measure import Figure, Rounds, load
from .peers import present, running
from .peers.edge import Edge
from .peers.forwarders import Floor
from .peers.haproxy import HAProxy
from .peers.nginx import Nginx
from .report import Budget, Section


def disk(run):
    """Open loop with the journal's disk saturated by another writer, against idle. The kernel floor,
    which writes nothing, shows what the writer costs anybody."""
    scene = run.scene
    # What saturates the disk uses the CPU as well: only the idle half can be told to be calm.
    rounds = Rounds(excused=lambda name: name.endswith(SATURATED))
    written = []
    for number in range(run.rounds):
        options = {"rate": run.half_saturation(), "seconds": run.seconds * 2, "warm_up": run.warm_up,
                   "distinct": 1000, "seed": number + 1}
        results = {}
        for peer in running(run, [Edge, Nginx, Floor]):
            results[peer.name] = load(scene, peer, **options)
            with Writer(scene.directory) as writer:
                results[saturated(peer.name)] = load(scene, peer, beside={"writer": writer.process}, **options)
            written.append(writer.mib_per_second)
        rounds.add(results)
    section = Section("A saturated disk", disk.__doc__, rounds, [P50, P99, CPU])
    for name in [name for name in rounds.names if not name.endswith(SATURATED)]:
        section.note(f"{name}: p99 beside the writer, of idle: {rounds.ratio(saturated(name), name, P99[1]).show()}.")
    section.note(f"The writer, which runs only where the core would idle, wrote {Figure(written).show(0)} MiB/s.")
    section.budget(Budget(
        "admitted p99, disk saturated, of idle", rounds.ratio(saturated("edge"), "edge", P99[1]), 1.2))
    return section


def slow(run):
    """Open loop at half saturation, beside 1,000 clients that are slow on purpose, against none: a third
    with their heads, a third with their bodies, a third with taking their answers of 1 MiB."""
    scene = run.scene
    kinds = present([Edge, Nginx, HAProxy])
    rounds = Rounds()
    kernel = 0
    for number in range(run.rounds):
        options = {"rate": run.half_saturation(), "seconds": run.seconds * 2, "warm_up": run.warm_up,
                   "distinct": 1000, "seed": number + 1}
        results = {}
        for kind in kinds:
            # A new one each time: what it kept of the last thousand is not there.
            scene.forget(kind)
            peer = scene.peer(kind)
            results[peer.name] = load(scene, peer, **options)
            with Slow(scene, peer) as clients:
                beside = results[beside_slow(peer.name)] = load(
                    scene, peer, beside={"slow": clients.process}, **options)
                beside.held = machine.connections(peer.port)
                kernel = max(kernel, machine.tcp_memory_mib()[0])
            scene.forget(kind)
        rounds.add(results)
    section = Section("Slow clients", slow.__doc__, rounds, [P50, P99, CPU, RESIDENT])
    for name in [kind.name for kind in kinds]:
        beside = beside_slow(name)
        grown = rounds.difference(beside, name, lambda result: result.resident_kib)
        section.note(
            f"{name}: p99 beside them, of p99 without: {rounds.ratio(beside, name, P99[1]).show()}; "
            f"{(rounds.figure(beside, lambda result: result.held)).show(0)} of them were held, "
            f"for {grown.median / SLOW:.1f} KiB of its memory each.")
    share = Figure([
        result.service("slow")["cpu_seconds"] / (run.seconds * 2)
        for one in rounds.rounds for name, result in one.items() if name == beside_slow("edge")])
    section.note(
        f"The slow clients used {share.show(3)} of a core. The kernel held at most {kernel:,.0f} MiB for sockets, "
        f"and begins to save at {machine.tcp_memory_mib()[1]:,.0f}.")
    return section


SLOW = 1000


def beside_slow(name):
    return f"{name}, beside {SLOW:,} slow"


class Slow:
    """So many slow clients of a peer, all of them there."""

    def __init__(self, scene, peer):
        self.scene = scene
        self.peer = peer

    def __enter__(self):
        self.process = machine.start(
            [self.scene.tool, "slow", f"127.0.0.1:{self.peer.port}", "--keys", self.scene.tokens,
             "--connections", SLOW],
            machine.LOAD_CORE, self.peer.directory / "slow.log")
        machine.wait_until(self.process, lambda: machine.connections(self.peer.port) >= 0.98 * SLOW, 30)
        return self

    def __exit__(self, *_):
        machine.stop(self.process)


SATURATED = ", disk saturated"


def saturated(name):
    return name + SATURATED


class Writer:
    """Another writer of the disk that `directory` is on."""

    def __init__(self, directory):
        self.file = pathlib.Path(directory) / "saturating"
        self.log = pathlib.Path(directory) / "saturating.log"

    def __enter__(self):
        self.log.unlink(missing_ok=True)
        self.process = machine.start(
            [sys.executable, "-m", "compare.writer", self.file], machine.LOAD_CORE, self.log)
        machine.wait_until(self.process, lambda: self.log.read_text().strip(), 30)
        return self

    def __exit__(self, *_):
        self.mib_per_second = float(self.log.read_text().split()[-1])
        machine.stop(self.process)
        self.file.unlink(missing_ok=True)
