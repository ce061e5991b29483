//! Sockets that whoever started the process opened for it, as `sd_listen_fds(3)`
//! has it: `LISTEN_PID`, `LISTEN_FDS`, and their names in `LISTEN_FDNAMES`.

use std::os::fd::OwnedFd;
use std::process;

use listenfd::ListenFd;

use super::Problems;
use super::environment::{self, Environment, Process};
use crate::inherited::{Inherited, TRAFFIC};
use crate::setting::Invalid;

const PID: &str = "LISTEN_PID";
const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// More than any edge listens on.
const MOST: usize = 1024;

/// Takes the sockets that this process was started with. To be called once, and
/// before there is another thread: it unsets variables.
pub fn inherited() -> Result<Inherited, Problems> {
    named(&Process, process::id())
        .and_then(|names| take(&names))
        .map_err(|invalid| Problems(vec![invalid]))
}

fn take(names: &[String]) -> Result<Inherited, Invalid> {
    let mut inherited = Inherited::default();
    if names.is_empty() {
        return Ok(inherited);
    }
    let mut given = ListenFd::from_env();
    for (index, name) in names.iter().enumerate() {
        let problem = |error| Invalid::new(COUNT, format!("`{name}`: {error}"));
        let internet = given.take_tcp_listener(index);
        let socket = match internet {
            Ok(taken) => taken.map(OwnedFd::from),
            Err(_) => given
                .take_unix_listener(index)
                .map_err(problem)?
                .map(OwnedFd::from),
        };
        if let Some(socket) = socket {
            inherited.add(name, socket);
        }
    }
    Ok(inherited)
}

/// What each socket is for; none when they are meant for another process.
fn named(environment: &dyn Environment, own: u32) -> Result<Vec<String>, Invalid> {
    let mut found = Vec::new();
    let mut text = |name| environment::text(environment, name, &mut found);
    let (pid, count, names) = (text(PID), text(COUNT), text(NAMES));
    if let Some(invalid) = found.pop() {
        return Err(invalid);
    }
    let (Some(pid), Some(count)) = (pid, count) else {
        return Ok(Vec::new());
    };
    let pid: u32 = pid
        .parse()
        .map_err(|_| Invalid::new(PID, "is no process id: unset it"))?;
    if pid != own {
        return Ok(Vec::new());
    }
    let count = count.parse().ok().filter(|&count: &usize| count <= MOST);
    let count = count
        .ok_or_else(|| Invalid::new(COUNT, format!("is no number of sockets: {MOST} at most")))?;
    let Some(names) = names else {
        return Ok(vec![TRAFFIC.to_owned(); count]);
    };
    let names: Vec<_> = names.split(':').map(str::to_owned).collect();
    if names.len() != count {
        let problem = format!("has {} names for {count} sockets", names.len());
        return Err(Invalid::new(NAMES, problem));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn names(variables: &[(&str, &str)]) -> Result<Vec<String>, Invalid> {
        let environment: BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        named(&environment, 42)
    }

    #[test]
    fn sockets_have_names_and_those_without_are_for_traffic() {
        let given = |more: &[_]| names(&[&[(PID, "42"), (COUNT, "2")], more].concat());
        assert_eq!(given(&[]).unwrap(), ["traffic", "traffic"]);
        let named = given(&[(NAMES, "health:decisions.nginx")]);
        assert_eq!(named.unwrap(), ["health", "decisions.nginx"]);
        for wrong in ["one", "a:b:c"] {
            assert_eq!(given(&[(NAMES, wrong)]).unwrap_err().key, NAMES);
        }
    }

    #[test]
    fn what_is_meant_for_another_process_is_left_alone() {
        for variables in [
            &[][..],
            &[(COUNT, "1")],
            &[(PID, "42")],
            &[(PID, "43"), (COUNT, "1")],
            &[(PID, "43"), (COUNT, "many")],
            &[(PID, "42"), (COUNT, "0")],
        ] {
            assert_eq!(names(variables).unwrap(), [""; 0], "{variables:?}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (pid, count, key) in [
            ("me", "1", PID),
            ("42", "-1", COUNT),
            ("42", "18446744073709551615", COUNT),
            ("42", "1025", COUNT),
        ] {
            let invalid = names(&[(PID, pid), (COUNT, count)]).unwrap_err();
            assert_eq!(invalid.key, key, "{pid} {count}");
        }
    }
}
