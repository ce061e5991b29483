//! The Python that has what a test needs of it.

use std::io::Write;
use std::process::Command;

/// One that can `import module`; `None`, having said so, where the test may be
/// skipped.
pub(crate) fn python_with(module: &str) -> Option<String> {
    let of_target = concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv");
    let venv = std::env::var("CYPHERON_TEST_VENV").unwrap_or(of_target.to_owned());
    let python = format!("{venv}/bin/python");
    let import = Command::new(&python)
        .args(["-c", &format!("import {module}")])
        .output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let line = format!(
        "python3 -m venv {venv} && {python} -m pip install -r tests/python/requirements.txt"
    );
    let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!all, "no Python module {module} in {venv}: {line}");
    // Past what the test harness keeps to itself.
    let skipped = format!("SKIPPED: no Python module {module} in {venv}; {line}\n");
    std::io::stdout().write_all(skipped.as_bytes()).unwrap();
    None
}
