//! Debian's servers as reverse proxies: unprivileged, on loopback, in a
//! directory of their own.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::{eventually, free_address};

/// What can stand between the edge and the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Haproxy,
    Apache,
    Lighttpd,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Apache, Self::Lighttpd];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Apache => "Apache",
            Self::Lighttpd => "lighttpd",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Nginx => "/usr/sbin/nginx",
            Self::Haproxy => "/usr/sbin/haproxy",
            Self::Apache => "/usr/sbin/apache2",
            Self::Lighttpd => "/usr/sbin/lighttpd",
        }
    }

    pub fn is_installed(self) -> bool {
        Path::new(self.program()).exists()
    }

    fn arguments(self, config: &str) -> Vec<&str> {
        match self {
            Self::Nginx => vec!["-e", "stderr", "-c", config],
            Self::Haproxy => vec!["-db", "-f", config],
            Self::Apache => vec!["-D", "FOREGROUND", "-f", config],
            Self::Lighttpd => vec!["-D", "-f", config],
        }
    }

    fn config(self, here: &str, listen: SocketAddr, origin: SocketAddr) -> String {
        let (port, origin_port) = (listen.port(), origin.port());
        match self {
            Self::Nginx => format!(
                "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
                 events {{}}\n\
                 http {{ access_log off; client_body_temp_path {here}/b; proxy_temp_path {here}/p;\n\
                 fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
                 large_client_header_buffers 4 64k;\n\
                 server {{ listen {listen}; location / {{ proxy_pass http://{origin};\n\
                 proxy_http_version 1.1; proxy_set_header Host $http_host;\n\
                 proxy_set_header Connection \"\"; }} }} }}\n"
            ),
            Self::Haproxy => format!(
                "global\n  maxconn 100\n\
                 defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
                 frontend front\n  bind {listen}\n  default_backend back\n\
                 backend back\n  server origin {origin}\n"
            ),
            Self::Apache => format!(
                "ServerRoot {here}\nServerName edge.test\nListen {listen}\nPidFile {here}/pid\n\
                 DefaultRuntimeDir {here}\nMutex pthread\nErrorLog {here}/error.log\n\
                 User nobody\nGroup nogroup\n\
                 LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
                 LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
                 LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so\n\
                 LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so\n\
                 HttpProtocolOptions Unsafe LenientMethods\nTraceEnable extended\n\
                 LimitRequestFieldSize 65536\nLimitRequestLine 65536\n\
                 ProxyPreserveHost On\nProxyAddHeaders Off\n\
                 ProxyPass / http://127.0.0.1:{origin_port}/ nocanon\n"
            ),
            Self::Lighttpd => format!(
                "server.document-root = \"{here}\"\nserver.port = {port}\nserver.bind = \"127.0.0.1\"\n\
                 server.modules = ( \"mod_proxy\" )\nserver.errorlog = \"{here}/error.log\"\n\
                 server.upload-dirs = ( \"{here}\" )\n\
                 server.http-parseopts = ( \"url-normalize\" => \"disable\", \
                 \"header-strict\" => \"disable\", \"host-strict\" => \"disable\" )\n\
                 server.max-request-field-size = 65535\n\
                 proxy.server = ( \"\" => ( ( \"host\" => \"127.0.0.1\", \"port\" => {origin_port} ) ) )\n\
                 proxy.header = ( \"upgrade\" => \"disable\" )\n"
            ),
        }
    }
}

/// A running server, killed when dropped.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

impl Server {
    /// In front of `origin`.
    pub fn start(kind: Kind, origin: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let here = directory.path().to_str().unwrap();
        let config = directory.path().join("config");
        fs::write(&config, kind.config(here, address, origin)).unwrap();
        let log = fs::File::create(directory.path().join("output.log")).unwrap();
        let mut child = Command::new(kind.program())
            .args(kind.arguments(config.to_str().unwrap()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        eventually("the server listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                let said = fs::read_to_string(directory.path().join("output.log"));
                panic!("{} ended with {status}: {said:?}", kind.name());
            }
            TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            child,
            _directory: directory,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).unwrap();
        // Apache's children end with their parent only when it is asked to end.
        let process = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::TERM).ok();
        self.child.wait().ok();
    }
}
