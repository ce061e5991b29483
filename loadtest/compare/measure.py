"""One measurement of one peer, and several of several, in turns."""

import json
import statistics
import subprocess

from . import machine

# What other processes may use of a core before a round means nothing.
DISTURBED = 0.05


def load(scene, peer, path="/bytes/200", **options):
    """Runs the generator once; what it printed, and the CPU of an answer."""
    command = [
        *machine.pinned(options.pop("core", machine.LOAD_CORE)), scene.tool, "load", peer.url + path,
        "--json", "--watch", f"peer={','.join(map(str, peer.pids()))}",
    ]
    if peer.pids() != [scene.upstream.process.pid]:
        command += ["--watch", f"upstream={scene.upstream.process.pid}"]
    for name, process in options.pop("beside", {}).items():
        command += ["--watch", f"{name}={process.pid}"]
    if peer.secure:
        command += ["--ca", scene.certificate[0]]
    keys = options.pop("keys", peer.keys())
    if keys:
        command += ["--keys", keys]
    for name, value in options.items():
        command.append(f"--{name.replace('_', '-')}")
        if value is not True:
            command.append(str(value))
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise SystemExit(f"loadtest: {' '.join(map(str, command))}:\n{ran.stderr}")
    return Result(json.loads(ran.stdout))


class Result:
    """What one run of the generator found."""

    def __init__(self, printed):
        self.printed = printed
        answers = max(printed["completed"], 1)
        peer = printed["cpu"]["services"][0]
        self.cpu_us = peer["cpu_seconds"] * 1e6 / answers
        ticks = peer["user_seconds"] + peer["system_seconds"]
        self.user_us = self.cpu_us * peer["user_seconds"] / ticks if ticks else 0.0
        self.threads_us = {name: seconds * 1e6 / answers for name, seconds in peer["threads"]}
        self.resident_kib = peer["resident_kib"]
        self.rate = printed["rate"]
        self.p50_us = printed["latency_us"]["p50"]
        self.p99_us = printed["latency_us"]["p99"]
        self.steps = printed["latency_us"]["steps"]
        self.lateness_p99_us = printed["lateness_us"]["p99"]
        self.unexpected = printed["unexpected"] + sum(printed["failures"].values())
        self.good = printed["completed"] - printed["unexpected"]
        self.others = printed["cpu"]["others_share_of_a_core"]
        self.gib = printed["bytes"] / 2**30

    def service(self, name):
        """What one of the watched processes used."""
        return next(one for one in self.printed["cpu"]["services"] if one["name"] == name)

    @property
    def is_disturbed(self):
        return self.others > DISTURBED


class Rounds:
    """Of several peers, in turns: what one round has in common is the moment. Who is
    `excused` may be disturbed, since something is to go on beside it."""

    def __init__(self, excused=lambda name: False):
        self.rounds = []
        self.excused = excused

    def add(self, results):
        self.rounds.append(results)

    @property
    def names(self):
        return list(self.rounds[0]) if self.rounds else []

    def disturbed(self, name):
        """How often it was."""
        return sum(self.is_disturbed(one, name) for one in self.rounds)

    def is_disturbed(self, one, name):
        return one[name].is_disturbed and not self.excused(name)

    def quiet(self, *names):
        """The rounds in which nobody disturbed any of them, and whether there were such:
        else all, marked. What disturbed others, at another moment, does not matter."""
        calm = [one for one in self.rounds if not any(self.is_disturbed(one, name) for name in names)]
        return (calm, True) if calm else (self.rounds, False)

    def figure(self, name, value):
        """Least, median and most of a figure."""
        calm, trusted = self.quiet(name)
        return Figure([value(one[name]) for one in calm], trusted)

    def ratio(self, name, reference, value):
        """Of the ratio within each round, which is what may be compared."""
        calm, trusted = self.quiet(name, reference)
        return Figure([value(one[name]) / value(one[reference]) for one in calm if value(one[reference])], trusted)

    def difference(self, name, reference, value):
        calm, trusted = self.quiet(name, reference)
        return Figure([value(one[name]) - value(one[reference]) for one in calm], trusted)

    def unexpected(self, name):
        return sum(one[name].unexpected for one in self.rounds)


class Figure:
    def __init__(self, values, trusted=True):
        self.values = sorted(values)
        self.trusted = trusted

    @property
    def median(self):
        return statistics.median(self.values)

    def show(self, digits=2):
        """`median (least to most)`, and a mark when every round was disturbed."""
        if not self.values:
            return "-"
        least, most = self.values[0], self.values[-1]
        mark = "" if self.trusted else " (disturbed)"
        if len(self.values) == 1:
            return f"{self.median:,.{digits}f}{mark}"
        return f"{self.median:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f}){mark}"

    def as_json(self):
        return {"least": self.values[0], "median": self.median, "most": self.values[-1],
                "rounds": len(self.values), "disturbed": not self.trusted}


def interleaved(scene, peers, rounds, **options):
    """Each peer once in each round. `options` may be callables of the peer."""
    measured = Rounds()
    for number in range(rounds):
        results = {}
        for peer in peers:
            given = {name: value(peer) if callable(value) else value for name, value in options.items()}
            results[peer.name] = load(scene, peer, seed=number + 1, **given)
        measured.add(results)
    return measured
