"""The command: experiments in order, then the report."""

import argparse
import json
import pathlib
import sys
import tempfile

from . import machine, plots, report
from .experiments import ALL
from .peers.edge import Edge
from .peers.envoy import Envoy
from .peers.haproxy import HAProxy
from .peers.nginx import Nginx
from .scene import Scene


class Run:
    """What one run is made with."""

    def __init__(self, options, scene):
        self.scene = scene
        self.quick = options.quick
        self.rounds = options.rounds or (2 if options.quick else 5)
        self.seconds = options.seconds or (1.0 if options.quick else 2.0)
        self.warm_up = 0.3 if options.quick else 0.5
        self.rate = options.rate
        self.half = None

    def half_saturation(self):
        return self.rate or self.half or 5000


def main():
    options = arguments()
    machine.check()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    # On a disk, not in memory: the journal is synced there.
    with tempfile.TemporaryDirectory(prefix="loadtest-", dir=options.scratch) as directory:
        scene = Scene(pathlib.Path(directory))
        run = Run(options, scene)
        sections = []
        try:
            for name in options.only:
                print(f"{name}: {' '.join(ALL[name].__doc__.split())}", flush=True)
                found = ALL[name](run)
                sections += found if isinstance(found, list) else [found]
                write(out, scene, sections)
        finally:
            machine.stop_all()
    print((out / "report.md").read_text())
    print(f"written: {out}/report.md, report.json, report.html")


def write(out, scene, sections):
    """After every experiment, so that one that fails loses no other."""
    about = machine.describe()
    peers = [Edge, Nginx, HAProxy, Envoy]
    versions = {
        kind.name: kind.version(scene.peer(Edge) if kind is Edge else kind.__new__(kind))
        if kind is not Edge else machine.first_line(scene.edge, "--version")
        for kind in peers if kind.tool is None or machine.found(kind.tool)
    }
    left_out = [kind.name for kind in peers if kind.tool and not machine.found(kind.tool)]
    text = report.markdown(about, versions, left_out, sections)
    (out / "report.md").write_text(text)
    (out / "report.json").write_text(json.dumps(report.as_json(about, versions, left_out, sections), indent=1))
    (out / "report.html").write_text(plots.page("cypheron-edge: load test", text, sections))


def arguments():
    parser = argparse.ArgumentParser(
        prog="loadtest/run", description="Measures the edge beside its peers.",
        epilog="experiments: " + "; ".join(f"{name}: {' '.join(one.__doc__.split())}" for name, one in ALL.items()))
    parser.add_argument("--quick", action="store_true", help="two short rounds: a look, no figures to quote")
    parser.add_argument("--only", type=chosen, default=list(ALL), metavar="NAME,...", help="these experiments")
    parser.add_argument("--rounds", type=int, help="how many (5)")
    parser.add_argument("--seconds", type=float, help="of a measurement (2)")
    parser.add_argument("--rate", type=float, help="of open loops; half of what the slowest manages, if `admitted` ran, else 5,000")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("loadtest-report"), help="where the report goes")
    parser.add_argument("--scratch", default=None, help="a directory on the disk to be used")
    return parser.parse_args()


def chosen(text):
    names = text.split(",")
    for name in names:
        if name not in ALL:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(ALL)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
