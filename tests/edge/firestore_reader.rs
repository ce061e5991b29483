//! Google's own client for Python reads a record, edits it, and deletes it: the
//! layout is no secret of ours, and an edit is seen by the edge.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::client::Connection;
use crate::firestore_emulator as emulator;
use crate::process::{Deployment, eventually};
use crate::python::python_with;
use crate::upstream::Upstream;

/// Nothing is believed for longer, should the feed say nothing.
const SETTINGS: &str =
    "[keys]\nstore = \"firestore\"\n[directory]\nttl = \"500ms\"\nmax_age = \"1s\"\n";

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/python/firestore_reader.py"
);

/// The script, in conversation.
struct Reader {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    hash: String,
}

impl Reader {
    /// `None`, having said why, without the Python package.
    fn start(project: &str, address: &str, hash: &str) -> Option<Self> {
        let python = python_with("google.cloud.firestore")?;
        let mut child = Command::new(python)
            .args([SCRIPT, project, "(default)", "api_keys"])
            .env("FIRESTORE_EMULATOR_HOST", address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            hash: hash.to_owned(),
        })
    }

    #[track_caller]
    fn ask(&mut self, mut command: Value) -> Value {
        command["hash"] = json!(self.hash);
        writeln!(self.input, "{command}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        // Why it ended is on the standard error.
        assert!(!answer.is_empty(), "the reader ended at {command}");
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn googles_own_client_reads_the_schema_and_what_it_edits_or_deletes_is_refused() {
    let Some(emulator) = emulator::shared() else {
        return;
    };
    let upstream = Upstream::start();
    let project = emulator.project().project;
    let variables = vec![
        ("GOOGLE_CLOUD_PROJECT_ID", project.clone()),
        ("FIRESTORE_EMULATOR_HOST", emulator.address().to_owned()),
    ];
    let edge = Deployment::in_environment(upstream.address, SETTINGS, variables);
    let token = edge.key(
        "read by others",
        &[
            "--permission=orders:read",
            "--expires-at=2039-01-01T00:00:00Z",
            "--allow-ip=127.0.0.0/8",
            "--rate-limit=1000000",
            "--recoverable",
        ],
    );
    let shown = || -> Value {
        let shown = edge.ok(&["keys", "show", "read by others", "--json"]);
        serde_json::from_str(&shown).unwrap()
    };
    let hash = shown()["key_hash"].as_str().unwrap().to_owned();
    let Some(mut reader) = Reader::start(&project, emulator.address(), &hash) else {
        return;
    };
    let _running = edge.serve();
    let mut connection = Connection::open(edge.traffic).unwrap();
    let mut is = |what: &str, status: u16| {
        eventually(&format!("{what}: {status}"), || {
            connection
                .get("/", &[("X-API-Key", &token)])
                .unwrap()
                .status
                == status
        });
    };
    is("as created", 200);

    let check = json!({ "do": "check", "token": token });
    let unused = reader.ask(check.clone());
    assert_eq!(unused["last_used"], Value::Null);
    // The rows come a moment after the answers.
    let mut used = unused.clone();
    eventually("the key's use is in its record", || {
        edge.ok(&["keys", "sync-usage"]);
        used = reader.ask(check.clone());
        used["last_used"].is_string()
    });
    let ours = shown();
    for field in [
        "id",
        "name",
        "permissions",
        "rate_limit",
        "is_active",
        "usage_count",
    ] {
        assert_eq!(used[field], ours[field], "{field}");
    }
    assert_eq!(used["updated_at"], unused["updated_at"], "no policy write");

    for (field, value) in [
        ("id", json!("01a20ebb-4094-7cf4-ba37-8f1ffed4a9ab")),
        ("name", json!("another")),
        ("permissions", json!(["*"])),
        ("rate_limit", json!(2_000_000)),
        ("created_at", json!({ "time": "2020-01-01T00:00:00+00:00" })),
        ("expires_at", json!({ "time": "2049-01-01T00:00:00+00:00" })),
        ("expires_at", Value::Null),
        ("is_active", json!(false)),
        ("allowed_ips", json!([])),
        ("sealed", json!("no bytes at all")),
        ("key_hash", json!("00".repeat(32))),
    ] {
        reader.ask(json!({ "do": "edit", "field": field, "value": value }));
        is(&format!("{field} edited"), 401);
        reader.ask(json!({ "do": "restore", "field": field }));
        is(&format!("{field} restored"), 200);
    }
    reader.ask(check);

    // What is no policy may be edited, and refuses nobody.
    reader.ask(json!({ "do": "edit", "field": "usage_count", "value": 7_000_000 }));
    assert_eq!(shown()["usage_count"], 7_000_000);
    is("usage_count edited", 200);

    reader.ask(json!({ "do": "edit", "field": "revision", "value": 2 }));
    is("revision edited", 401);
    reader.ask(json!({ "do": "delete" }));
    is("deleted", 401);
}

#[test]
fn a_record_that_googles_own_client_deletes_is_refused() {
    let Some(emulator) = emulator::shared() else {
        return;
    };
    let upstream = Upstream::start();
    let project = emulator.project().project;
    let variables = vec![
        ("GOOGLE_CLOUD_PROJECT_ID", project.clone()),
        ("FIRESTORE_EMULATOR_HOST", emulator.address().to_owned()),
    ];
    let edge = Deployment::in_environment(upstream.address, SETTINGS, variables);
    let token = edge.key("doomed", &["--rate-limit", "1000000"]);
    let shown: Value =
        serde_json::from_str(&edge.ok(&["keys", "show", "doomed", "--json"])).unwrap();
    let hash = shown["key_hash"].as_str().unwrap();
    let Some(mut reader) = Reader::start(&project, emulator.address(), hash) else {
        return;
    };
    let _running = edge.serve();
    let mut connection = Connection::open(edge.traffic).unwrap();
    let mut status = || {
        connection
            .get("/", &[("X-API-Key", &token)])
            .unwrap()
            .status
    };
    assert_eq!(status(), 200);
    reader.ask(json!({ "do": "delete" }));
    eventually("the deleted key is refused", || status() == 401);
}
