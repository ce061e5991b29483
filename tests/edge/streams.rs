//! Answers that go on: unbuffered, for as long as the client wants them and the
//! key may have them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

#[cfg(feature = "firestore")]
use crate::firestore_emulator as emulator;
use crate::process::{Deployment, eventually};
use crate::script::Script;

/// An upstream that answers one request with events, one at a time.
struct Events {
    address: SocketAddr,
    next: Sender<&'static str>,
    /// Told when its client is gone.
    gone: Receiver<()>,
}

impl Events {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (next, to_send) = channel();
        let (tell, gone) = channel();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let reader = stream.try_clone().unwrap();
            let (asked, is_asked) = channel();
            thread::spawn(move || {
                read_to_end(reader, &asked);
                // The test may have seen enough.
                let _ = tell.send(());
            });
            is_asked.recv().unwrap();
            send_events(stream, &to_send);
        });
        Self {
            address,
            next,
            gone,
        }
    }

    fn send(&self, event: &'static str) {
        self.next.send(event).unwrap();
    }
}

fn read_to_end(stream: TcpStream, asked: &Sender<()>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    asked.send(()).unwrap();
    // A reset is an end, too.
    let _ = reader.read_to_end(&mut Vec::new());
}

fn send_events(mut stream: TcpStream, events: &Receiver<&'static str>) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for event in events {
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        if stream.write_all(chunk.as_bytes()).is_err() {
            return;
        }
    }
}

/// curl, told to print what comes when it comes.
struct Curl {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Curl {
    fn get(edge: SocketAddr, token: &str) -> Self {
        let mut child = Command::new("curl")
            .args(["--silent", "--no-buffer", "--max-time", "60"])
            .args(["--header", &format!("X-API-Key: {token}")])
            .arg(format!("http://{edge}/events"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    #[track_caller]
    fn prints(&mut self, event: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, event);
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn ends(edge: &Deployment) -> Vec<String> {
    let usage = rusqlite::Connection::open(edge.data().join("usage.db")).unwrap();
    let mut query = usage.prepare("SELECT ended FROM usage_events").unwrap();
    let ends = query.query_map([], |row| row.get(0)).unwrap();
    ends.map(Result::unwrap).collect()
}

/// What curl says when an answer broke off.
const PARTIAL_FILE: i32 = 18;

fn a_stream_of_a_revoked_key_breaks_off(upstream: &Events, edge: &Deployment) {
    let token = edge.key("doomed", &[]);
    let running = edge.serve();
    let mut curl = Curl::get(edge.traffic, &token);
    upstream.send("data: one\n");
    curl.prints("data: one\n");
    upstream.send("data: two\n");
    curl.prints("data: two\n");
    edge.ok(&["keys", "revoke", "doomed"]);
    let ended = curl.child.wait().unwrap();
    assert_eq!(ended.code(), Some(PARTIAL_FILE), "{}", edge.log_text());
    upstream.gone.recv().unwrap();
    eventually("it is recorded", || ends(edge) == ["revoked"]);
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
}

#[test]
fn a_stream_of_a_key_revoked_in_the_embedded_store_breaks_off() {
    let upstream = Events::start();
    let edge = Deployment::new(upstream.address, "");
    a_stream_of_a_revoked_key_breaks_off(&upstream, &edge);
}

#[cfg(feature = "firestore")]
#[test]
fn a_stream_of_a_key_revoked_in_firestore_breaks_off() {
    let Some(emulator) = emulator::shared() else {
        return;
    };
    let upstream = Events::start();
    let variables = vec![
        ("GOOGLE_CLOUD_PROJECT_ID", emulator.project().project),
        ("FIRESTORE_EMULATOR_HOST", emulator.address().to_owned()),
    ];
    let settings = "[keys]\nstore = \"firestore\"";
    let edge = Deployment::in_environment(upstream.address, settings, variables);
    a_stream_of_a_revoked_key_breaks_off(&upstream, &edge);
}

#[test]
fn a_client_that_leaves_a_stream_takes_the_upstreams_connection_with_it() {
    let upstream = Events::start();
    let edge = Deployment::new(upstream.address, "");
    let token = edge.key("leaver", &[]);
    let _running = edge.serve();
    let mut curl = Curl::get(edge.traffic, &token);
    upstream.send("data: one\n");
    curl.prints("data: one\n");
    drop(curl);
    upstream.gone.recv().unwrap();
    eventually("it is recorded", || ends(&edge) == ["client_gone"]);
}

#[test]
fn websockets_of_another_library_talk_through_the_edge_until_their_key_is_revoked() {
    let Some(mut peers) = Script::start("websocket.py", "websockets") else {
        return;
    };
    let edge = Deployment::new(peers.address, "");
    let token = edge.key("talker", &[]);
    let running = edge.serve();
    peers.go_through(edge.traffic, &[&token]);
    peers.says("closed 4000 done");
    eventually("it is recorded", || ends(&edge) == ["complete"]);
    peers.says("open");
    assert_eq!(edge.count("cypheron_edge_tunnels", ""), 1);
    edge.ok(&["keys", "revoke", "talker"]);
    peers.says("cut 1006");
    peers.says("refused 401");
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
    let [complete] = tunnels(&edge, "ended = 'complete'")[..] else {
        panic!("one was closed");
    };
    assert!(complete.said > 1 << 20 && complete.heard > 1 << 20);
    assert!(complete.duration > 0);
    assert_the_revoked_one_is_counted(&edge);
}

#[test]
fn websockets_over_http2_share_a_connection_until_their_key_is_revoked() {
    let Some(mut peers) = Script::start("websocket_http2.py", "h2, websockets") else {
        return;
    };
    let guarded = "[[routes]]\nname = 'guarded'\npath = '/guarded'\nupstream = 'app'\n\
                   permissions = { GET = 'app:talk' }";
    let edge = Deployment::new(peers.address, guarded);
    let token = edge.key("talker", &["--permission", "app:talk"]);
    let lesser = edge.key("listener", &[]);
    let rare = edge.key("rare", &["--rate-limit", "1"]);
    let running = edge.serve();
    peers.go_through(edge.traffic, &[&token, &lesser, &rare]);
    peers.says("offered");
    peers.says("opened 200 200");
    peers.says("beside them 426");
    peers.says("closed 4000 done ended");
    peers.says("closed 4000 done ended");
    peers.says("guarded 200 403");
    peers.says("open");
    eventually("the others are closed", || {
        edge.count("cypheron_edge_tunnels", "") == 1
    });
    edge.ok(&["keys", "revoke", "talker"]);
    peers.says("cut ended");
    peers.says("revoked 401");
    peers.says("nobody 401");
    peers.says("too often 200 429");
    peers.says("another protocol 501");
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
    let [short, long] = tunnels(&edge, "ended = 'complete'")[..] else {
        panic!("two were closed");
    };
    // Four times `beside`, and `done` behind its code; what is said is masked.
    assert_eq!(short.heard, 4 * (2 + 6) + (2 + 2 + 4));
    assert_eq!(short.said, short.heard + 5 * 4);
    assert!(long.said > 1 << 20 && long.heard > 1 << 20);
    assert!(short.duration > 0 && long.duration > 0);
    let given_up = tunnels(&edge, "ended = 'client_gone' AND route = 'guarded'");
    assert_eq!(given_up.len(), 1);
    assert_the_revoked_one_is_counted(&edge);
}

/// What the usage database says of one.
#[derive(Clone, Copy)]
struct TunnelRow {
    said: i64,
    heard: i64,
    duration: i64,
}

/// Those of which something holds, the one in which least was said first.
fn tunnels(edge: &Deployment, condition: &str) -> Vec<TunnelRow> {
    let usage = rusqlite::Connection::open(edge.data().join("usage.db")).unwrap();
    let query = format!(
        "SELECT request_bytes, response_bytes, duration_us FROM usage_events \
         WHERE {condition} AND outcome = 'admitted' AND status = 101 AND method = 'GET' \
         ORDER BY request_bytes"
    );
    let mut query = usage.prepare(&query).unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        Ok(TunnelRow {
            said: row.get(0)?,
            heard: row.get(1)?,
            duration: row.get(2)?,
        })
    };
    let rows = query.query_map([], row).unwrap();
    rows.map(Result::unwrap).collect()
}

#[track_caller]
fn assert_the_revoked_one_is_counted(edge: &Deployment) {
    let [revoked] = tunnels(edge, "ended = 'revoked'")[..] else {
        panic!("one was cut");
    };
    // A masked frame of ten bytes, and one that is not.
    assert_eq!((revoked.said, revoked.heard), (2 + 4 + 10, 2 + 10));
}
