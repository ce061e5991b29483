//! The command line, as it is typed: real processes over real files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod keyring;
mod keys;
mod rotation;
mod usage;
mod verify;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery staple, twice over";

/// A deployment: a configuration, a password, a data directory.
struct Deployment(TempDir);

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Deployment {
    fn without_keyring() -> Self {
        let deployment = Self(tempfile::tempdir().unwrap());
        let text = format!(
            "[data]\ndir = \"{}\"\n[keys]\nstore = \"embedded\"\n[usage]\nsink = \"sqlite\"\n",
            deployment.path("data").display()
        );
        fs::write(deployment.path("edge.toml"), text).unwrap();
        deployment
    }

    fn new() -> Self {
        let deployment = Self::without_keyring();
        deployment.ok(&["keyring", "init"]);
        deployment
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cypheron-edge"));
        command
            .args(arguments)
            .env_clear()
            .env("CYPHERON_EDGE_CONFIG", self.path("edge.toml"))
            .env("PQ_ENCRYPTION_PASSWORD", PASSWORD);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().unwrap())
    }

    fn run_without_password(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.env_remove("PQ_ENCRYPTION_PASSWORD");
        Ran::of(&command.output().unwrap())
    }

    /// Runs what must succeed, and gives what it printed for programs.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.err);
        ran.out.trim_end().to_owned()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Runs what must fail with this exit code, and gives what it said.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{arguments:?}");
        ran.err
    }
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}
