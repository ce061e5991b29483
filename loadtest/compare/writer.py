"""Saturates a disk: `python3 -m compare.writer FILE` writes and syncs 4 MiB at a
time, over and over, and says after each how many MiB a second it were so far."""

import os
import sys
import time

BLOCK = bytes(4 << 20)
BLOCKS = 64


def main(file):
    # Only where the core would idle: what it writes is to disturb, not that it runs.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    target = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    began, written = time.monotonic(), 0
    while True:
        os.pwrite(target, BLOCK, written % BLOCKS * len(BLOCK))
        os.fsync(target)
        written += 1
        print(written * 4 / (time.monotonic() - began), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
