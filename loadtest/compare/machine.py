"""Processes of ours, where they run, and what ran."""

import atexit
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

# One core for the proxy; the other for the upstream and the generator.
PROXY_CORE = 0
LOAD_CORE = 1

_running = []


def check():
    """Exits where the figures would mean nothing."""
    if sorted(os.sched_getaffinity(0))[:2] != [PROXY_CORE, LOAD_CORE]:
        raise SystemExit("loadtest: two cores are needed, 0 and 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def pinned(core):
    """What keeps a command on a core (or several). Where there are not as many, as
    nothing is measured, it runs where it may."""
    wanted = {int(number) for number in str(core).split(",")}
    return ["taskset", "-c", str(core)] if wanted <= os.sched_getaffinity(0) else []


def start(command, core, log, env=None, cwd=None):
    """Starts a process on a core (or several); it ends with this one at the latest."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [*pinned(core), *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, **(env or {})}, cwd=cwd,
        )
    process.log = log
    _running.append(process)
    return process


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process in _running:
        _running.remove(process)


@atexit.register
def stop_all():
    for process in reversed(list(_running)):
        stop(process)


def wait_until_listening(process, port, seconds=60):
    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    wait_until(process, listens, seconds)


def wait_until_ok(process, url, seconds=60):
    def ok():
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
    wait_until(process, ok, seconds)


def wait_until(process, condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = pathlib.Path(process.log).read_text(errors="replace")[-2000:]
            raise SystemExit(f"loadtest: {' '.join(map(str, process.args))} did not start:\n{tail}")
        time.sleep(0.01)


def connections(port):
    """How many a server on this port has."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return sum(local.endswith(f":{port:04X}") and state == "01" for _, local, _, state, *_ in fields)


def tcp_memory_mib():
    """What the kernel holds for all sockets, and where it begins to save."""
    page = os.sysconf("SC_PAGE_SIZE")
    held = re.search(r"^TCP:.* mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text(), re.MULTILINE).group(1)
    pressure = pathlib.Path("/proc/sys/net/ipv4/tcp_mem").read_text().split()[1]
    return int(held) * page / 2**20, int(pressure) * page / 2**20


def found(tool):
    return shutil.which(tool)


def first_line(*command):
    """What a command prints of its version."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    text = (ran.stdout + ran.stderr).strip()
    return text.splitlines()[0].strip() if text else "unknown"


def describe():
    cpu = next(
        (line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "system": first_line("sh", "-c", ". /etc/os-release; echo $PRETTY_NAME"),
        "commit": first_line("git", "describe", "--always", "--dirty"),
        "rust": first_line("rustc", "--version"),
        "profile": os.environ["LOADTEST_PROFILE"],
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": "loadtest/run " + " ".join(sys.argv[1:]),
    }
