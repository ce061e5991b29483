"""The certificate that every peer shows, made for one run."""

import subprocess


def make(directory):
    """A chain of one, its key, and both in one file, as HAProxy reads them."""
    chain, key, both = (directory / name for name in ("chain.pem", "key.pem", "both.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=load test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", chain],
        check=True, capture_output=True)
    key.chmod(0o600)
    both.write_text(chain.read_text() + key.read_text())
    return chain, key, both
