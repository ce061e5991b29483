//! The newcomer's first minute: `quickstart`, and the two lines it prints.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

struct Quickstart {
    child: Child,
    curls: Vec<String>,
    token: String,
}

impl Quickstart {
    /// Starts it with nothing but a home directory, and reads what it prints
    /// until both lines to paste are there.
    fn start(home: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cypheron-edge"))
            .arg("quickstart")
            .env_clear()
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut curls, mut token) = (Vec::new(), None);
        while curls.len() < 2 {
            let line = lines.next().expect("it printed both curl lines").unwrap();
            if let Some(at) = line.find("cyk_test_").filter(|_| token.is_none()) {
                let end = line[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                token = Some(line[at..end.map_or(line.len(), |end| at + end)].to_owned());
            }
            if line.trim_start().starts_with("curl ") {
                curls.push(line.trim().to_owned());
            }
        }
        // What it prints later must have somewhere to go.
        thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            curls,
            token: token.expect("it printed the token"),
        }
    }

    fn stop(mut self) -> Option<i32> {
        let id = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(id, Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

/// Runs a printed line as a newcomer would, and gives the status it shows.
fn paste(curl: &str) -> String {
    let line = format!("{curl} --silent --output /dev/null --write-out '%{{http_code}}'");
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_two_printed_lines_show_an_admission_and_a_refusal_and_a_second_start_finds_its_data() {
    let home = tempfile::tempdir().unwrap();
    let first = Quickstart::start(home.path());
    let mut shown: Vec<_> = first.curls.iter().map(|curl| paste(curl)).collect();
    shown.sort();
    assert_eq!(shown, ["200", "401"]);
    let token = first.token.clone();
    assert_eq!(first.stop(), Some(0));

    let second = Quickstart::start(home.path());
    assert_eq!(second.token, token, "the key of the first start");
    assert_eq!(second.stop(), Some(0));
}

/// The files of a directory, and of those in it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let (directories, mut files): (Vec<_>, Vec<_>) = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .partition(|path| path.is_dir());
    files.extend(directories.iter().flat_map(|below| self::files(below)));
    files
}

#[test]
fn what_it_keeps_is_for_its_owner_only() {
    let home = tempfile::tempdir().unwrap();
    let quickstart = Quickstart::start(home.path());
    let kept = files(home.path());
    for name in [
        "password",
        "quickstart.toml",
        "keys.db",
        "usage.db",
        "dropped",
    ] {
        assert!(kept.iter().any(|path| path.ends_with(name)), "{name}");
    }
    for path in kept {
        let mode = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode(),
            // A rollback journal, or what has its final name by now: the edge goes
            // on working.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    assert_eq!(quickstart.stop(), Some(0));
}

#[test]
fn its_configuration_finds_the_data_from_another_home_too() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let quickstart = Quickstart::start(home.path());
    let mut kept = files(home.path()).into_iter();
    let config = kept.find(|path| path.ends_with("quickstart.toml")).unwrap();
    let listed = Command::new(env!("CARGO_BIN_EXE_cypheron-edge"))
        .arg("--config")
        .arg(config)
        .args(["keys", "list", "--json"])
        .env_clear()
        .env("HOME", elsewhere.path())
        .output()
        .unwrap();
    let keys = String::from_utf8_lossy(&listed.stdout);
    assert!(keys.contains("\"quickstart\""), "{keys} {listed:?}");
    assert_eq!(quickstart.stop(), Some(0));
}

#[test]
fn quickstarts_of_the_same_moment_each_have_a_port_of_their_own() {
    const TOGETHER: usize = 6;
    let homes: [_; TOGETHER] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let start = Barrier::new(TOGETHER);
    let started: Vec<Quickstart> = thread::scope(|scope| {
        let starting = homes.each_ref().map(|home| {
            scope.spawn(|| {
                start.wait();
                Quickstart::start(home.path())
            })
        });
        let started = starting.into_iter();
        started.map(|starting| starting.join().unwrap()).collect()
    });
    for quickstart in &started {
        // Each knows its own key only.
        let mut shown: Vec<_> = quickstart.curls.iter().map(|curl| paste(curl)).collect();
        shown.sort();
        assert_eq!(shown, ["200", "401"]);
    }
    for quickstart in started {
        assert_eq!(quickstart.stop(), Some(0));
    }
}

#[test]
fn a_second_quickstart_beside_the_first_takes_a_free_port() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Quickstart::start(one.path());
    let second = Quickstart::start(two.path());
    assert_ne!(first.curls, second.curls);
    assert_eq!(first.stop(), Some(0));
    assert_eq!(second.stop(), Some(0));
}
