//! Requests of HTTP/2, on their way to a server of HTTP/1.1.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use super::case::Case;
use super::page::Verdict;
use super::servers::Kind;
use super::{Chain, Wanted, echo, fields, identified};
use crate::python::python_with;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/http2_frames.py");

type Field = (String, String);

/// What a case is made of; text stands for bytes, as of Latin-1.
#[derive(Default)]
struct Sent {
    head: Vec<Field>,
    data: Option<String>,
    trailers: Option<Vec<Field>>,
}

fn whole(method: &str, path: &str, token: &str) -> Vec<Field> {
    [
        (":method", method),
        (":scheme", "http"),
        (":authority", "edge.test"),
        (":path", path),
        ("x-api-key", token),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

impl Sent {
    fn of(case: &Case, token: &str) -> Self {
        let mut sent = Self::default();
        for line in case.each_line(token) {
            let line: String = line.into_iter().map(char::from).collect();
            match line.split_at_checked(2) {
                Some(("H ", rest)) => sent.head.push(field(rest)),
                Some(("P ", rest)) => sent.head.insert(0, field(rest)),
                Some(("- ", name)) => sent.head.retain(|(held, _)| held != name),
                Some(("D ", body)) => sent.data = Some(body.to_owned()),
                Some(("T ", rest)) => sent.trailers.get_or_insert_default().push(field(rest)),
                _ => sent.head = whole(&line, "/x", token),
            }
        }
        sent
    }
}

/// The colon before a pseudo-header's name is part of it.
fn field(text: &str) -> Field {
    let at = text[1..].find(": ").map_or(text.len(), |at| at + 1);
    let (name, value) = text.split_at(at);
    (
        name.to_owned(),
        value.strip_prefix(": ").unwrap_or_default().to_owned(),
    )
}

/// The script that writes frames.
pub struct Frames {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Frames {
    /// `None`, having said why, without the Python module.
    pub fn start() -> Option<Self> {
        let mut child = Command::new(python_with("hpack")?)
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self {
            child,
            input,
            output,
        })
    }

    fn play(&mut self, chain: &Chain, case: &Case) -> Value {
        let token = &chain.token;
        let sent = Sent::of(case, token);
        let line = json!({
            "address": chain.address().to_string(),
            "head": sent.head,
            "data": sent.data,
            "trailers": sent.trailers,
            "probe": whole("GET", "/probe", token),
        });
        writeln!(self.input, "{line}").unwrap();
        let mut outcome = String::new();
        self.output.read_line(&mut outcome).unwrap();
        serde_json::from_str(&outcome).unwrap()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Plays a case of `http2.txt`; what is wrong is the error.
fn judge(frames: &mut Frames, chain: &Chain, case: &Case) -> Result<Verdict, String> {
    let outcome = frames.play(chain, case);
    let seen = chain.seen();
    let status = outcome["answer"].as_u64();
    let verdict = Verdict {
        statuses: status
            .map(|status| status.try_into().unwrap())
            .into_iter()
            .collect(),
        goes_on: outcome["goes_on"] == true,
        refused_behind: Vec::new(),
    };
    let wrong = || format!("{outcome}, and the origin saw {seen:?}");
    let Some(wanted) = Wanted::of(&case.expected[0]) else {
        // A body that is not what was announced is found out when it ends: the
        // server behind the edge has then seen a request that broke off.
        let refused = status.is_none_or(|status| status >= 400) && seen.is_empty();
        return if refused { Ok(verdict) } else { Err(wrong()) };
    };
    if chain.server.is_some() && status.is_some_and(|status| status >= 400) && seen.is_empty() {
        let refused_behind = verdict.statuses.clone();
        return Ok(Verdict {
            refused_behind,
            ..verdict
        });
    }
    let [Ok(request)] = &seen[..] else {
        return Err(wrong());
    };
    let own = outcome["body"] == wanted.echo() && echo(request) == wanted.echo();
    if status != Some(200) || !own || request.body != wanted.body {
        return Err(wrong());
    }
    identified(chain, request)?;
    if chain.server.is_none() {
        fields(case, request)?;
    }
    Ok(verdict)
}

/// Plays all on a chain of its own each, and gives the verdicts of each chain.
pub fn play_all(cases: &[Case]) -> Option<(Vec<Vec<Verdict>>, Vec<String>)> {
    Frames::start()?;
    let kinds = [None].into_iter().chain(Kind::ALL.map(Some));
    let (columns, wrong): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let running: Vec<_> = kinds
            .map(|kind| {
                scope.spawn(move || {
                    let mut frames = Frames::start().expect("it was there");
                    let mut chain = Chain::of(kind, HashMap::new());
                    super::table(&mut chain, cases, |chain, case| {
                        judge(&mut frames, chain, case)
                    })
                })
            })
            .collect();
        running
            .into_iter()
            .map(|chain| chain.join().unwrap())
            .unzip()
    });
    Some((columns, wrong.concat()))
}
