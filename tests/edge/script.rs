//! Scripts in Python that are a server and, through the edge, its clients.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::python::python_with;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");

pub struct Script {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Where its server listens.
    pub address: SocketAddr,
}

impl Script {
    /// `None`, having said why, without the Python module.
    pub fn start(name: &str, module: &str) -> Option<Self> {
        let mut child = Command::new(python_with(module)?)
            .arg(format!("{SCRIPTS}/{name}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        output.read_line(&mut port).unwrap();
        Some(Self {
            child,
            output,
            address: SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap())),
        })
    }

    pub fn go_through(&mut self, edge: SocketAddr, tokens: &[&str]) {
        let mut input = self.child.stdin.take().unwrap();
        writeln!(input, "{edge} {}", tokens.join(" ")).unwrap();
    }

    #[track_caller]
    pub fn says(&mut self, what: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), what);
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
