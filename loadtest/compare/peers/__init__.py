"""Who is measured."""

from .. import machine


def present(kinds):
    """Those whose program is here."""
    return [kind for kind in kinds if kind.tool is None or machine.found(kind.tool)]


def running(run, kinds):
    return [run.scene.peer(kind) for kind in present(kinds)]
