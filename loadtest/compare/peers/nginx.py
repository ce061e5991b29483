"""nginx: map, limit_req, a buffered log."""

from .. import machine
from .peer import Peer

CONFIGURATION = """
daemon off;
master_process off;
{user}
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    log_format usage '$msec $key $request_method $status $request_length $bytes_sent $request_time $upstream_response_time $remote_addr';
    access_log {directory}/access.log usage buffer=64k flush=1s;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    client_max_body_size 64m;
    map_hash_max_size 131072;
    map_hash_bucket_size 256;
    map $http_authorization $key {{ default ""; include {directory}/keys; }}
    limit_req_zone $key zone=keys:32m rate={rate};
    limit_req_status 429;
    upstream app {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port}{secure};
        keepalive_requests 1000000000;
        location / {{
            if ($key = "") {{ return 401; }}
            limit_req zone=keys {burst};
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header Authorization "";
            proxy_set_header X-Key-Id $key;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""


class Nginx(Peer):
    name = "nginx"
    tool = "nginx"
    rate, burst = "100000r/s", "burst=100000 nodelay"

    def launch(self):
        with open(self.directory / "keys", "w", encoding="ascii") as keys:
            for number, token in enumerate(self.scene.read_tokens()):
                keys.write(f'"Bearer {token}" key-{number};\n')
        (self.directory / "nginx.conf").write_text(CONFIGURATION.format(
            directory=self.directory, port=self.port, upstream=self.scene.upstream.port,
            rate=self.rate, burst=self.burst, secure=self.listen(), user="user root;" if self.scene.is_root else "",
        ))
        return self.run([machine.found("nginx"), "-c", self.directory / "nginx.conf", "-p", self.directory])

    def listen(self):
        return ""

    def version(self):
        return machine.first_line(machine.found("nginx"), "-v").removeprefix("nginx version: ")


class NginxTls(Nginx):
    name = "nginx, TLS"
    secure = True

    def listen(self):
        chain, key, _ = self.scene.certificate
        return f" ssl http2; ssl_certificate {chain}; ssl_certificate_key {key}"


class NginxLimited(Nginx):
    """Every key has had its one request of the minute."""

    name = "nginx limited"
    rate, burst = "1r/m", ""
