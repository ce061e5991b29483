//! What the edge forwards is unambiguous: every request of a table is refused,
//! or seen by the edge, by a server behind it and by the origin behind that as
//! the same one request. And what an upstream answers is one answer.

mod case;
mod client;
mod downgrade;
#[path = "../../../fuzz/origin.rs"]
mod origin;
mod page;
mod servers;
#[path = "../../../fuzz/strict.rs"]
mod strict;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use self::case::{Case, cases};
use self::client::{Answer, Wire};
use self::origin::{Origin, Seen, echo};
use self::page::Verdict;
use self::servers::{Kind, Server};
use self::strict::Request;
use crate::process::{Deployment, Edge, eventually};

const REQUESTS: &str = include_str!("requests.txt");
const HTTP2: &str = include_str!("http2.txt");
const ANSWERS: &str = include_str!("answers.txt");

/// What only the edge may say.
const OURS: [&str; 4] = [
    "x-edge-key-id",
    "x-edge-key-name",
    "x-edge-permissions",
    "x-edge-route",
];

/// An edge, what it forwards to, and what is at the end.
struct Chain {
    // In the order in which they end.
    edge: Option<Edge>,
    deployment: Deployment,
    server: Option<(Kind, Server)>,
    origin: Origin,
    token: String,
    key_id: String,
    /// Answers of identified keys, by status: as many events there must be.
    decided: BTreeMap<u16, u32>,
}

impl Chain {
    fn of(kind: Option<Kind>, answers: HashMap<String, origin::Answer>) -> Self {
        let origin = Origin::start(answers);
        let server = kind.map(|kind| (kind, Server::start(kind, origin.address)));
        let upstream = server
            .as_ref()
            .map_or(origin.address, |(_, server)| server.address);
        let environment = [
            // So that requests share the upstream's connections.
            ("CYPHERON_EDGE__SERVER__WORKERS", "1".to_owned()),
            ("CYPHERON_EDGE__SERVER__HEADER_TIMEOUT", "1s".to_owned()),
        ];
        let deployment = Deployment::in_environment(upstream, "", environment);
        let token = deployment.key(
            "framing",
            &["--rate-limit", "100000000", "--permission", "orders:read"],
        );
        let keys = deployment.ok(&["keys", "list", "--json"]);
        let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
        let edge = Some(deployment.serve());
        Self {
            edge,
            deployment,
            server,
            origin,
            token,
            key_id: keys[0]["id"].as_str().unwrap().to_owned(),
            decided: BTreeMap::new(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.deployment.traffic
    }

    fn get(&self, target: &str) -> Vec<u8> {
        let token = &self.token;
        format!("GET {target} HTTP/1.1\r\nHost: edge.test\r\nX-API-Key: {token}\r\n\r\n")
            .into_bytes()
    }

    fn note(&mut self, answer: &Answer) {
        if answer.field("ratelimit-policy").is_some() {
            *self.decided.entry(answer.status).or_default() += 1;
        }
    }

    /// Asks for `target` in the course of things; whether the connection was
    /// still there, and then the answer was its own.
    fn probe(&mut self, wire: &mut Wire, target: &str) -> bool {
        wire.send(&self.get(target));
        let Some(answer) = wire.answer(false) else {
            return false;
        };
        self.note(&answer);
        let said = String::from_utf8(answer.body.unwrap()).unwrap();
        assert_eq!((answer.status, &*said), (200, &*format!("GET {target} 0")));
        true
    }

    /// Whether the connection goes on after `last`. Either way nothing more
    /// comes of what was sent.
    fn goes_on(&mut self, mut wire: Wire, last: Option<&Answer>) -> bool {
        let closes = last.is_none_or(Answer::closes);
        let open = !closes && self.probe(&mut wire, "/probe");
        let more = wire.rest();
        assert!(more.is_empty(), "and then {}", more.escape_ascii());
        // Whatever lies on a connection to the upstream comes before this.
        let mut other = Wire::open(self.address());
        assert!(self.probe(&mut other, "/after"));
        open
    }

    /// Sends a case, and gives its answers and whether the connection goes on.
    fn play(&mut self, case: &Case) -> (Vec<Answer>, bool) {
        let bytes = case.bytes(&self.token);
        let mut wire = Wire::open(self.address());
        wire.send(&bytes);
        let to_head = bytes.starts_with(b"HEAD ");
        let mut answers = Vec::new();
        for _ in &case.expected {
            let Some(answer) = wire.answer(to_head) else {
                break;
            };
            self.note(&answer);
            let closes = answer.closes();
            answers.push(answer);
            if closes {
                break;
            }
        }
        let goes_on = self.goes_on(wire, answers.last());
        (answers, goes_on)
    }

    /// What the origin saw of a case.
    fn seen(&self) -> Vec<Seen> {
        let mut seen = self.origin.seen();
        seen.retain(|seen| match seen {
            Ok(request) => !matches!(&*request.target, "/probe" | "/after"),
            Err(_) => true,
        });
        seen
    }

    /// Every decision on a known key is one event, and there is no other.
    fn journalled_once(mut self) -> Result<(), String> {
        let decided = self.decided.values().sum::<u32>();
        // At its end an edge has only so much time to store them.
        eventually("what was decided is stored", || {
            events(&self.deployment).values().sum::<u32>() >= decided
        });
        assert_eq!(self.edge.take().unwrap().stop(), Some(0));
        let events = events(&self.deployment);
        if events != self.decided {
            let decided = self.decided;
            return Err(format!("events {events:?}, decisions {decided:?}"));
        }
        Ok(())
    }
}

/// How many there are of each status.
fn events(deployment: &Deployment) -> BTreeMap<u16, u32> {
    let database = deployment.data().join("usage.db");
    let database = rusqlite::Connection::open(database).unwrap();
    let mut rows = database
        .prepare("SELECT status, count(*) FROM usage_events GROUP BY status")
        .unwrap();
    let events = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?)));
    events.unwrap().collect::<Result<_, _>>().unwrap()
}

/// What a request must be at the origin.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    method: String,
    target: String,
    body: Vec<u8>,
}

impl Wanted {
    /// `None` for a refusal.
    fn of(expected: &[u8]) -> Option<Self> {
        let mut parts = expected
            .strip_prefix(b"200 ")?
            .splitn(3, |&byte| byte == b' ');
        let mut text = || String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
        let (method, target) = (text(), text());
        let body = parts.next().unwrap_or_default().to_vec();
        Some(Self {
            method,
            target,
            body,
        })
    }

    fn echo(&self) -> String {
        format!("{} {} {}", self.method, self.target, self.body.len())
    }
}

fn status(expected: &[u8]) -> Option<u16> {
    str::from_utf8(expected).ok()?.parse().ok()
}

/// Plays a case of `requests.txt`; what is wrong is the error.
fn judge(chain: &mut Chain, case: &Case) -> Result<Verdict, String> {
    let (answers, goes_on) = chain.play(case);
    let seen = chain.seen();
    let mut seen = seen.iter();
    let mut behind = Vec::new();
    let said: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    if case.expected == [b"closed"] && answers.is_empty() && seen.len() == 0 {
        return Ok(Verdict::closed());
    }
    if answers.len() != case.expected.len() {
        return Err(format!("was answered {said:?}; seen {seen:?}"));
    }
    for (expected, answer) in case.expected.iter().zip(&answers) {
        let Some(wanted) = Wanted::of(expected) else {
            if status(expected) != Some(answer.status) {
                return Err(format!("was answered {said:?}; seen {seen:?}"));
            }
            continue;
        };
        if chain.server.is_some() && answer.status != 200 && answer.status >= 400 {
            behind.push(answer.status);
            continue;
        }
        let request = match seen.next() {
            Some(Ok(request)) => request,
            other => return Err(format!("{said:?}, and the origin saw {other:?}")),
        };
        same(&wanted, request, answer)?;
        identified(chain, request)?;
        if chain.server.is_none() {
            fields(case, request)?;
        }
    }
    if let Some(more) = seen.next() {
        return Err(format!("{said:?}, and the origin saw also {more:?}"));
    }
    Ok(Verdict {
        statuses: said,
        goes_on,
        refused_behind: behind,
    })
}

fn same(wanted: &Wanted, request: &Request, answer: &Answer) -> Result<(), String> {
    let at_origin = Wanted {
        method: request.method.clone(),
        target: request.target.clone(),
        body: request.body.clone(),
    };
    if &at_origin != wanted {
        return Err(format!("the origin saw {at_origin:?}"));
    }
    let body = String::from_utf8_lossy(answer.body.as_deref().unwrap_or_default());
    let own = wanted.method == "HEAD" || body == wanted.echo();
    if !own || echo(request) != wanted.echo() {
        return Err(format!("was answered {}: {body}", answer.status));
    }
    Ok(())
}

/// Identity is the edge's, said once, and nowhere else in the request.
fn identified(chain: &Chain, request: &Request) -> Result<(), String> {
    for (name, value) in request.fields.iter().chain(&request.trailers) {
        let folded = name.to_ascii_lowercase().replace('_', "-");
        if folded.starts_with("x-edge-") && !OURS.contains(&&*name.to_ascii_lowercase()) {
            return Err(format!("the origin saw {name}: {value}"));
        }
        if value.contains(&chain.token) {
            return Err(format!("the origin saw the token in {name}"));
        }
    }
    for (name, value) in &request.trailers {
        let folded = name.to_ascii_lowercase().replace('_', "-");
        let framing = ["host", "content-length", "transfer-encoding"];
        if folded.starts_with("x-edge-") || framing.contains(&&*folded) {
            return Err(format!("the origin saw the trailer {name}: {value}"));
        }
    }
    for name in OURS {
        let values = request.all(name);
        let right = match name {
            "x-edge-key-id" => values == [&*chain.key_id],
            "x-edge-key-name" => values == ["framing"],
            "x-edge-route" => values == ["all"],
            _ => values == ["orders:read"],
        };
        if !right {
            return Err(format!("the origin saw {name}: {values:?}"));
        }
    }
    Ok(())
}

fn fields(case: &Case, request: &Request) -> Result<(), String> {
    for name in &case.absent {
        if !request.all(name).is_empty() {
            return Err(format!("the origin saw {name}"));
        }
    }
    for (name, value) in &case.present {
        let values = request.all(name);
        if values != [*value] {
            return Err(format!("the origin saw {name}: {values:?}"));
        }
    }
    Ok(())
}

/// Plays a table on a chain of its own.
fn table(
    chain: &mut Chain,
    cases: &[Case],
    mut judge: impl FnMut(&mut Chain, &Case) -> Result<Verdict, String>,
) -> (Vec<Verdict>, Vec<String>) {
    let name = chain
        .server
        .as_ref()
        .map_or("the origin", |(kind, _)| kind.name());
    let mut wrong = Vec::new();
    let mut verdicts = Vec::new();
    for case in cases {
        let judged = catch_unwind(AssertUnwindSafe(|| judge(chain, case)));
        match judged.unwrap_or_else(|panic| Err(said(&*panic))) {
            Ok(verdict) => verdicts.push(verdict),
            Err(problem) => {
                let mut problem = format!("{name}, {}: {problem}", case.name);
                problem.truncate(700);
                wrong.push(problem);
            }
        }
    }
    (verdicts, wrong)
}

/// What a case found on the wire that should not be there.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| "it broke off".to_owned())
}

#[test]
fn every_request_is_refused_or_one_and_the_same_to_both_ends() {
    let missing = missing();
    if !missing.is_empty() {
        return skipped(&missing);
    }
    let requests = cases(REQUESTS);
    let kinds = [None].into_iter().chain(Kind::ALL.map(Some));
    let (columns, wrong): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let running: Vec<_> = kinds
            .map(|kind| {
                let requests = &requests;
                scope.spawn(move || {
                    let mut chain = Chain::of(kind, HashMap::new());
                    let (verdicts, mut wrong) = table(&mut chain, requests, judge);
                    wrong.extend(chain.journalled_once().err());
                    (verdicts, wrong)
                })
            })
            .collect();
        running
            .into_iter()
            .map(|chain| chain.join().unwrap())
            .unzip()
    });
    let wrong = wrong.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    page::check("requests", &page::requests(&requests, &columns));
}

#[test]
fn a_request_of_http2_is_refused_or_one_request_of_http1() {
    let missing = missing();
    if !missing.is_empty() {
        return skipped(&missing);
    }
    let requests = cases(HTTP2);
    let Some((columns, wrong)) = downgrade::play_all(&requests) else {
        return;
    };
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    page::check("http2", &page::requests(&requests, &columns));
}

#[test]
fn what_an_upstream_answers_is_one_answer_or_none() {
    let answers = cases(ANSWERS);
    let scripted = answers
        .iter()
        .enumerate()
        .map(|(at, case)| (format!("/answer/{at}"), (case.bytes(""), case.closes)));
    let mut chain = Chain::of(None, scripted.collect());
    let at = std::cell::Cell::new(0);
    let (verdicts, wrong) = table(&mut chain, &answers, |chain, case| {
        let target = format!("/answer/{}", at.get());
        at.set(at.get() + 1);
        judge_answer(chain, case, &target)
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    chain.journalled_once().unwrap();
    page::check("answers", &page::answers(&answers, &verdicts));
}

/// Plays a case of `answers.txt`.
fn judge_answer(chain: &mut Chain, case: &Case, target: &str) -> Result<Verdict, String> {
    let mut wire = Wire::open(chain.address());
    wire.send(&chain.get(target));
    let Some(answer) = wire.answer(false) else {
        // It broke off before its head was on its way.
        *chain.decided.entry(200).or_default() += 1;
        chain.goes_on(wire, None);
        return match &*case.expected[0] {
            b"cut" => Ok(Verdict::closed()),
            _ => Err("there was no answer".to_owned()),
        };
    };
    chain.note(&answer);
    let goes_on = chain.goes_on(wire, Some(&answer));
    let told = match &answer.body {
        None => b"cut".to_vec(),
        Some(body) if answer.status == 200 => [b"200 ", &**body].concat(),
        Some(_) => answer.status.to_string().into_bytes(),
    };
    let wanted = &case.expected[0];
    if &told != wanted {
        return Err(format!(
            "the client saw {} and {:?}",
            told.escape_ascii(),
            answer.fields
        ));
    }
    for name in &case.absent {
        if answer.field(name).is_some() {
            return Err(format!("the client saw {name}"));
        }
    }
    Ok(Verdict {
        statuses: vec![answer.status],
        goes_on,
        refused_behind: Vec::new(),
    })
}

fn missing() -> Vec<Kind> {
    let all = Kind::ALL.into_iter();
    all.filter(|kind| !kind.is_installed()).collect()
}

fn skipped(missing: &[Kind]) {
    let names: Vec<_> = missing.iter().map(|kind| kind.name()).collect();
    let skipped = format!(
        "SKIPPED: not installed: {}; get them with: sudo apt-get install -y \
         --no-install-recommends nginx haproxy apache2-bin lighttpd\n",
        names.join(", ")
    );
    let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!all, "{skipped}");
    // Written so that it is seen even where a test's output is captured.
    std::io::Write::write_all(&mut std::io::stdout(), skipped.as_bytes()).unwrap();
}
