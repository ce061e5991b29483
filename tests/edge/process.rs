//! A running edge, and the commands around it, in a directory of their own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client;

pub const PASSWORD: &str = "correct horse battery staple, twice over";

/// A deployment on disk: configuration, data, password.
pub struct Deployment {
    directory: TempDir,
    pub traffic: SocketAddr,
    pub health: SocketAddr,
    environment: Vec<(&'static str, String)>,
}

/// A `serve` of a deployment, killed when dropped.
pub struct Edge {
    child: Child,
}

/// Where one more edge of a deployment is.
pub struct Place {
    pub traffic: SocketAddr,
    pub health: SocketAddr,
}

impl Place {
    pub fn free() -> Self {
        Self {
            traffic: free_address(),
            health: free_address(),
        }
    }

    /// As [`Deployment::count`].
    #[track_caller]
    pub fn count(&self, name: &str, label: &str) -> u64 {
        let metrics = client::get(self.health, "/metrics", &[]).text();
        let rows = metrics.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let rows: Vec<_> = rows.filter(|line| line.contains(label)).collect();
        assert!(!rows.is_empty(), "{name} is not in {metrics}");
        rows.iter()
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

/// A port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    // Below what the system gives to outgoing connections: one of those would be
    // somebody else's again before it is listened on.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next =
            std::process::id().wrapping_mul(101) % 12_000 + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from((
            [127, 0, 0, 1],
            u16::try_from(20_000 + next % 12_000).unwrap(),
        ));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Polls `condition` until it holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to be that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Deployment {
    /// With a keyring, one route `all` to `upstream`, and `settings` appended.
    pub fn new(upstream: SocketAddr, settings: &str) -> Self {
        Self::in_environment(upstream, settings, [])
    }

    /// As [`new`](Self::new), with variables.
    pub fn in_environment(
        upstream: SocketAddr,
        settings: &str,
        environment: impl Into<Vec<(&'static str, String)>>,
    ) -> Self {
        let deployment = Self::without_keyring(upstream, settings, environment);
        deployment.ok(&["keyring", "init"]);
        deployment
    }

    /// As [`in_environment`](Self::in_environment), with nothing made yet.
    pub fn without_keyring(
        upstream: SocketAddr,
        settings: &str,
        environment: impl Into<Vec<(&'static str, String)>>,
    ) -> Self {
        let deployment = Self {
            directory: tempfile::tempdir().unwrap(),
            traffic: free_address(),
            health: free_address(),
            environment: environment.into(),
        };
        deployment.configure(upstream, settings);
        deployment
    }

    /// Sets a variable for what is run from now on.
    #[cfg(feature = "postgres")]
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.environment.retain(|(set, _)| *set != name);
        self.environment.push((name, value.to_owned()));
    }

    /// Writes the configuration anew.
    pub fn configure(&self, upstream: SocketAddr, settings: &str) {
        let text = format!(
            r#"
[data]
dir = "{data}"

[server]
listen = "{traffic}"
workers = 2

[health]
listen = "{health}"

[upstreams.app]
target = "http://{upstream}"

[[routes]]
name = "all"
path = "/"
upstream = "app"

{settings}
"#,
            data = self.data().display(),
            traffic = self.traffic,
            health = self.health,
            settings = with_defaults(settings),
        );
        fs::write(self.config(), text).unwrap();
    }

    /// For a process's standard error.
    pub fn log_file(&self) -> fs::File {
        // Shared by all edges of the deployment.
        let mut options = fs::OpenOptions::new();
        options.create(true).append(true).open(self.log()).unwrap()
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("edge.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cypheron-edge"));
        command
            .args(arguments)
            .env_clear()
            .env("CYPHERON_EDGE_CONFIG", self.config())
            .env("PQ_ENCRYPTION_PASSWORD", PASSWORD)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `serve`, in a shell that does something `before`.
    pub fn serve_after(&self, before: &str) -> Command {
        let plain = self.command(&["serve"]);
        let variables = plain.get_envs();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{before} && exec \"$0\" serve")])
            .arg(plain.get_program())
            .env_clear()
            .envs(variables.filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Runs a command that must succeed, and gives its standard output, trimmed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Makes a key and gives its token.
    #[track_caller]
    pub fn key(&self, name: &str, more: &[&str]) -> String {
        let mut arguments = vec!["keys", "create", "--name", name];
        arguments.extend(more);
        self.ok(&arguments)
    }

    /// Starts `serve` and waits until it is ready.
    pub fn serve(&self) -> Edge {
        self.start(self.command(&["serve"]), self.health)
    }

    /// Starts one more `serve` of this deployment, elsewhere.
    pub fn serve_at(&self, place: &Place, variables: &[(&str, &str)]) -> Edge {
        let mut command = self.command(&["serve", "--take-over"]);
        command
            .env("CYPHERON_EDGE__SERVER__LISTEN", place.traffic.to_string())
            .env("CYPHERON_EDGE__HEALTH__LISTEN", place.health.to_string())
            .envs(variables.iter().copied());
        self.start(command, place.health)
    }

    fn start(&self, mut command: Command, health: SocketAddr) -> Edge {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.started(command, health)
    }

    /// Starts what `command` says, and waits until it is ready.
    pub fn started(&self, mut command: Command, health: SocketAddr) -> Edge {
        let child = command.stderr(self.log_file()).spawn().unwrap();
        let mut edge = Edge { child };
        eventually("the edge is ready", || {
            if let Some(status) = edge.child.try_wait().unwrap() {
                panic!("serve ended with {status}: {}", self.log_text());
            }
            client::Connection::open(health)
                .and_then(|mut health| health.get("/readyz", &[]))
                .is_ok_and(|response| response.status == 200)
        });
        edge
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("edge.log")
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// A counter, summed over those of its labels that contain `label`. One that
    /// is not there at all is a wrong name.
    #[track_caller]
    pub fn count(&self, name: &str, label: &str) -> u64 {
        let place = Place {
            traffic: self.traffic,
            health: self.health,
        };
        place.count(name, label)
    }
}

/// The stores of this machine, unless others are written.
fn with_defaults(settings: &str) -> String {
    let mut text = settings.to_owned();
    for (section, default) in [
        ("[usage]", "sink = \"sqlite\""),
        ("[keys]", "store = \"embedded\""),
    ] {
        if !settings.contains(section) {
            text = format!("{section}\n{default}\n{text}");
        }
    }
    text
}

impl Edge {
    /// A process that was started otherwise.
    pub const fn of(child: Child) -> Self {
        Self { child }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        let process = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Sends SIGTERM and gives the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code()
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
