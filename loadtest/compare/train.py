"""What the compiler is shown: `python3 -m compare.train COUNTS` gives an instrumented
edge some of everything that it does often. What it counted is in the files COUNTS, a
pattern as LLVM has them."""

import pathlib
import sys
import tempfile

from . import forged, machine
from .measure import load
from .peers.edge import Edge, EdgeShipping, EdgeTls
from .scene import KEYS, ONE, Scene

# Short: what is often done is seen a hundred thousand times all the same.
BRIEFLY = {"seconds": 2, "warm_up": 0.2, "timeout": 20}


def main(counts):
    Edge.environment = {"LLVM_PROFILE_FILE": counts}
    with tempfile.TemporaryDirectory() as directory:
        try:
            train(Scene(pathlib.Path(directory)))
        finally:
            # Each writes what it counted when it ends.
            machine.stop_all()


def train(scene):
    plain, shipping, encrypted = scene.peer(Edge), scene.peer(EdgeShipping), scene.peer(EdgeTls)
    limited = scene.peer(Edge, scene.stored(KEYS, ONE))
    known = {**BRIEFLY, "distinct": 1000}
    load(scene, plain, **known)
    load(scene, plain, rate=2000, **known)
    load(scene, plain, body=2000, **known)
    load(scene, plain, path=f"/bytes/{10 << 10}", **known)
    load(scene, plain, path=f"/bytes/{1 << 20}", connections=16, **known)
    load(scene, plain, keys=forged.tokens(scene, 1000), expect=401, **BRIEFLY)
    load(scene, limited, expect=429, **known)
    load(scene, shipping, **known)
    load(scene, encrypted, **known)
    load(scene, encrypted, connections=8, streams=8, **known)


if __name__ == "__main__":
    main(sys.argv[1])
