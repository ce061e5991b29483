//! SIGHUP takes a good configuration and refuses a bad one.

use rustix::process::Signal;

use crate::client::get;
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
