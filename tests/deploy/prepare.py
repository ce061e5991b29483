"""A machine's prepare.sh fetches each file by its version, for its user alone.

The metadata server and Secret Manager are stand-ins on the loopback.
usage: prepare.py PREPARE_SH
"""

import base64
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

script = sys.argv[1]
TOKEN = "ya29.a-token"
SECRETS = {
    "projects/1/secrets/password/versions/3": b"no line break at the end: \xc3\xa4 \"quoted\"",
    "projects/1/secrets/config/versions/1": b"[[routes]]\n" * 4000,
}


class Google(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.endswith("/service-accounts/default/token"):
            known = self.headers.get("Metadata-Flavor") == "Google"
            answer = {"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}
        else:
            name = self.path.removeprefix("/v1/").removesuffix(":access")
            known = name in SECRETS and self.headers.get("Authorization") == f"Bearer {TOKEN}"
            data = base64.b64encode(SECRETS.get(name, b"")).decode()
            answer = {"name": name, "payload": {"data": data, "dataCrc32c": "1"}}
        self.send_response(200 if known else 403)
        self.end_headers()
        # Google's answers are indented.
        self.wfile.write(json.dumps(answer if known else {}, indent=2).encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Google)
threading.Thread(target=server.serve_forever, daemon=True).start()
google = f"http://127.0.0.1:{server.server_port}"


def prepare(lines):
    directory = pathlib.Path(tempfile.mkdtemp())
    (directory / "fetch").write_text("".join(f"{version} {path}\n" for version, path in lines))
    environment = os.environ | {
        "FETCH": str(directory / "fetch"),
        "FILES": str(directory / "files"),
        "JOURNAL_DISK": "",
        "METADATA": google,
        "SECRETS": google,
    }
    ran = subprocess.run(
        ["bash", script, str(os.getuid()), str(directory / "data")],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )
    return ran, directory / "files"


ran, files = prepare([
    ("projects/1/secrets/password/versions/3", "/run/secrets/encryption/password"),
    ("projects/1/secrets/config/versions/1", "/etc/cypheron-edge/config/edge.toml"),
])
assert ran.returncode == 0, ran.stderr
password = files / "run/secrets/encryption/password"
assert password.read_bytes() == SECRETS["projects/1/secrets/password/versions/3"]
assert (files / "etc/cypheron-edge/config/edge.toml").read_bytes() == SECRETS["projects/1/secrets/config/versions/1"]
for path in files.rglob("*"):
    assert path.stat().st_mode & 0o077 == 0, f"{path} is for others too"
    assert not path.name.endswith(".new"), path
assert TOKEN not in ran.stdout + ran.stderr

# One that may not be read, or is not there, stops the start. Without the patience
# that a machine has.
script_text = pathlib.Path(script).read_text().replace("--retry 10", "--retry 0")
quick = pathlib.Path(tempfile.mkdtemp(), "prepare.sh")
quick.write_text(script_text)
script = str(quick)
ran, files = prepare([("projects/1/secrets/password/versions/4", "/run/secrets/encryption/password")])
assert ran.returncode != 0, "a secret that is not there was no failure"
assert not (files / "run/secrets/encryption/password").exists()
print("prepare.sh fetches files by version, for its user alone, and stops at one that is missing")
