"""The image, as it runs in a deployment.

usage: image.py ENGINE TAG        ENGINE is docker or podman
"""

import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import urllib.error
import urllib.request
import uuid

ENGINE, TAG = sys.argv[1:]
USER = 65532
PASSWORD = "an image's password, of more than 32 characters"
HARDENED = [
    "--network=host", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
]
# What the default settings promise, and a little for the engine.
DRAIN_SECONDS = 7 + 2 + 3

started = []
volumes = []


def engine(*arguments, check=True, timeout=120):
    ran = subprocess.run(
        [ENGINE, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and ran.returncode != 0:
        raise SystemExit(f"{ENGINE} {' '.join(arguments)}: {ran.stderr}{ran.stdout}")
    return ran


def run(name, *arguments, options=()):
    name = f"{name}-{uuid.uuid4().hex[:8]}"
    started.append(name)
    engine("run", "--detach", f"--name={name}", *HARDENED, *options, TAG, *arguments)
    return name


def logs(name):
    ran = engine("logs", name)
    return ran.stdout + ran.stderr


def exit_code(name):
    return int(engine("wait", name).stdout.strip())


def eventually(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        held = condition()
        if held:
            return held
        time.sleep(0.02)
    raise SystemExit(f"it never came to be that {what}")


def get(port, path="/", token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
    except (urllib.error.URLError, ConnectionError):
        return None, b""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def shown(text):
    print(f"ok  {text}", flush=True)


def what_is_in_it():
    inspected = json.loads(engine("inspect", "--type=image", TAG).stdout)[0]
    config = inspected["Config"]
    assert config["User"] == f"{USER}:{USER}", config["User"]
    cargo = tomllib.loads(pathlib.Path("Cargo.toml").read_text(encoding="utf-8"))
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == cargo["package"]["version"], labels
    health = config.get("Healthcheck") or inspected.get("Healthcheck") or inspected["HealthCheck"]
    assert "health" in health["Test"], health
    for program in ["/bin/sh", "/bin/bash", "/usr/bin/apt-get", "/usr/bin/env"]:
        name = f"none-{uuid.uuid4().hex[:8]}"
        started.append(name)
        ran = engine("run", f"--name={name}", f"--entrypoint={program}", TAG, "-c", "true", check=False)
        assert ran.returncode in (125, 126, 127), f"{program} is in the image: {ran}"
    name = f"version-{uuid.uuid4().hex[:8]}"
    version = engine("run", "--rm", f"--name={name}", TAG, "--version").stdout.strip()
    shown(f"{version}, {inspected['Size'] / 2**20:.1f} MiB; user {USER}, no shell, no package manager")


def quickstart():
    before = time.monotonic()
    name = run("quickstart", "quickstart")
    token = eventually(
        "quickstart says how to ask", lambda: re.search(r"Bearer (\S+?)'", logs(name))
    ).group(1)
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)", logs(name)).group(1))
    status, body = eventually("it answers", lambda: (found := get(port, "/hello", token))[0] and found)
    took = time.monotonic() - before
    assert status == 200 and b"x-edge-key-id" in body, (status, body)
    assert get(port, "/hello")[0] == 401
    shown(f"quickstart answers, read-only and without capabilities, {took:.2f} s after `{ENGINE} run`")
    engine("kill", "--signal=TERM", name)
    assert exit_code(name) == 0, logs(name)


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    slow_ones = threading.Semaphore(0)

    def do_GET(self):
        if self.path == "/slow":
            Upstream.slow_ones.release()
            time.sleep(2)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass


class Deployment:
    """A configuration, a secret in a file, and a volume for the data."""

    def __init__(self):
        upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        self.traffic, self.health = free_port(), free_port()
        self.files = pathlib.Path(tempfile.mkdtemp())
        (self.files / "edge.toml").write_text(f"""
            [server]
            listen = "127.0.0.1:{self.traffic}"
            [health]
            listen = "127.0.0.1:{self.health}"
            [keys]
            store = "embedded"
            [usage]
            sink = "sqlite"
            [upstreams.app]
            target = "http://127.0.0.1:{upstream.server_port}"
            [[routes]]
            name = "all"
            upstream = "app"
        """, encoding="utf-8")
        secrets = self.files / "secrets"
        secrets.mkdir()
        (secrets / "password").write_text(PASSWORD + "\n", encoding="utf-8")
        for path in (self.files / "edge.toml", secrets / "password"):
            path.chmod(0o444)
        self.files.chmod(0o755)
        self.volume = f"edge-{uuid.uuid4().hex[:8]}"
        volumes.append(self.volume)
        engine("volume", "create", self.volume)
        self.options = [
            f"--volume={self.files}/edge.toml:/etc/cypheron-edge/edge.toml:ro",
            f"--volume={secrets}:/run/secrets:ro",
            f"--volume={self.volume}:/var/lib/cypheron-edge",
            "--env=CYPHERON_EDGE_CONFIG=/etc/cypheron-edge/edge.toml",
            "--env=PQ_ENCRYPTION_PASSWORD_FILE=/run/secrets/password",
        ]

    def command(self, *arguments):
        name = f"command-{uuid.uuid4().hex[:8]}"
        started.append(name)
        return engine("run", "--rm", f"--name={name}", *HARDENED, *self.options, TAG, *arguments).stdout

    def serve(self, *arguments):
        before = time.monotonic()
        name = run("serve", "serve", *arguments, options=self.options)
        eventually("the edge is ready", lambda: get(self.health, "/readyz")[0] == 200)
        return name, time.monotonic() - before


def requests_in(report):
    """Adds up every `requests` in a report, however it groups them."""
    if isinstance(report, dict):
        own = report.get("requests")
        return own if isinstance(own, int) else sum(map(requests_in, report.values()))
    return sum(map(requests_in, report)) if isinstance(report, list) else 0


def serving():
    edge = Deployment()
    edge.command("keyring", "init")
    token = edge.command("keys", "create", "--name=image").strip()
    name, took = edge.serve()
    shown(f"the password is read from a file; ready {took:.2f} s after `{ENGINE} run`")
    assert engine("exec", name, "/usr/local/bin/cypheron-edge", "health", "--ready").returncode == 0
    shown("the health check of the image says that it is ready")

    assert get(edge.traffic, "/", token) == (200, b"hello")
    answers = []
    slow = threading.Thread(target=lambda: answers.append(get(edge.traffic, "/slow", token)))
    slow.start()
    assert Upstream.slow_ones.acquire(timeout=20)
    before = time.monotonic()
    engine("kill", "--signal=TERM", name)
    code = exit_code(name)
    took = time.monotonic() - before
    slow.join()
    assert answers == [(200, b"hello")], answers
    assert code == 0 and took < DRAIN_SECONDS, (code, took, logs(name))
    shown(f"SIGTERM as process 1: the request in flight is answered, exit code 0 after {took:.2f} s")

    name, _ = edge.serve()
    answered = sum(get(edge.traffic, "/", token)[0] == 200 for _ in range(500))
    assert answered == 500, answered
    engine("kill", "--signal=KILL", name)
    assert exit_code(name) == 137
    name, _ = edge.serve()
    # What the journal of the killed one held is stored by the next.
    found = []

    def all_stored():
        found.append(requests_in(json.loads(edge.command("usage", "report", "--json"))))
        return found[-1] >= 502

    eventually("the usage of the killed edge is stored", all_stored)
    assert found[-1] == 502, found
    shown("kill -9: after a start on the same volume, each of 502 answered requests is in the usage, once")
    shutil.rmtree(edge.files)


def main():
    try:
        what_is_in_it()
        quickstart()
        serving()
    finally:
        for name in started:
            engine("rm", "--force", "--volumes", name, check=False)
        for volume in volumes:
            engine("volume", "rm", volume, check=False)
    print(f"The image {TAG} holds what it promises.")


if __name__ == "__main__":
    os.chdir(pathlib.Path(__file__).parents[2])
    main()
