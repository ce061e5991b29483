//! SIGHUP takes a good configuration and refuses a bad one.

use rustix::process::Signal;

use crate::certificate::{Certificate, Stream};
use crate::client::{Connection, get};
use crate::process::{Deployment, eventually};
use crate::upstream::Upstream;

const PUBLIC: &str =
    "[[routes]]\nname = \"open\"\npath = \"/open\"\nupstream = \"app\"\npublic = true\n";

#[test]
fn a_new_route_is_taken_on_sighup() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let running = edge.serve();
    assert_eq!(get(edge.traffic, "/open", &[]).status, 401);
    edge.configure(
        upstream.address,
        &format!("[usage]\nsink = \"sqlite\"\n{PUBLIC}"),
    );
    running.signal(Signal::HUP);
    eventually("the route is public", || {
        get(edge.traffic, "/open", &[]).status == 200
    });
}

#[test]
fn a_new_limit_is_taken_on_sighup() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let token = edge.key("eager", &["--rate-limit", "1000000"]);
    let running = edge.serve();
    let policy = || {
        let answer = get(edge.traffic, "/", &[("X-API-Key", &token)]);
        answer.header("ratelimit-policy").unwrap().to_owned()
    };
    assert_eq!(policy(), "\"edge\";q=1000000;w=60");
    edge.configure(upstream.address, "[limiter]\ninstances = 2\n");
    running.signal(Signal::HUP);
    eventually("the limit is divided", || {
        policy() == "\"edge\";q=500000;w=60"
    });
}

#[test]
fn what_takes_effect_at_the_next_start_only_is_named() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let running = edge.serve();
    let text = std::fs::read_to_string(edge.config()).unwrap();
    std::fs::write(edge.config(), text.replace("workers = 2", "workers = 3")).unwrap();
    running.signal(Signal::HUP);
    eventually("the section is named", || {
        let log = edge.log_text();
        log.lines()
            .any(|line| line.contains("next start") && line.contains("server"))
    });
    assert!(!edge.log_text().contains('\x1b'), "colours in a file");
}

#[test]
fn a_bad_file_is_refused_by_name_and_the_old_one_kept() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, PUBLIC);
    let running = edge.serve();
    assert_eq!(get(edge.traffic, "/open", &[]).status, 200);
    edge.configure(upstream.address, "[limiter]\nbrust = 5\n");
    running.signal(Signal::HUP);
    eventually("the error is logged", || {
        edge.log_text().contains("limiter.brust")
    });
    assert_eq!(
        get(edge.traffic, "/open", &[]).status,
        200,
        "the old routes serve"
    );
}

#[test]
fn a_renewed_certificate_is_shown_on_sighup_and_connections_that_are_open_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let [old, renewed] = ["old", "renewed"].map(|file| Certificate::make(directory.path(), file));
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, &old.settings());
    let token = edge.key("client", &[]);
    let running = edge.serve();
    let ask = |connection: &mut Connection<Stream>| {
        let answer = connection.get("/", &[("X-API-Key", &token)]);
        answer.map(|answer| assert_eq!(answer.status, 200))
    };
    let mut early = Connection::over(old.connect(edge.traffic).unwrap());
    ask(&mut early).unwrap();

    // In files of another name, which nobody looks at unasked.
    edge.configure(upstream.address, &renewed.settings());
    ask(&mut Connection::over(old.connect(edge.traffic).unwrap())).unwrap();
    running.signal(Signal::HUP);
    let mut late = None;
    eventually("the renewed certificate is shown", || {
        let mut new = Connection::over(renewed.connect(edge.traffic).unwrap());
        ask(&mut new).is_ok_and(|()| late.replace(new).is_none())
    });
    let shown = |connection: &Connection<Stream>| {
        let certificates = connection.stream().conn.peer_certificates();
        certificates.unwrap()[0].clone().into_owned()
    };
    assert_eq!(shown(&late.unwrap()), renewed.der);
    assert_eq!(shown(&early), old.der);
    ask(&mut early).unwrap();
    assert!(
        ask(&mut Connection::over(old.connect(edge.traffic).unwrap())).is_err(),
        "the old one is still shown"
    );
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
}
