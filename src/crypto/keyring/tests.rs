use std::sync::LazyLock;

use super::*;
use crate::crypto::PostQuantumEncryption;

const COLLECTION: &str = "project/database/keys";
const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

fn password(character: &str) -> Password {
    Password::new(Secret::new(character.repeat(32))).unwrap()
}

/// One keyring for all tests: Argon2 is slow on purpose.
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::create(COLLECTION, &password("a"), Cost::MIN, Suite::default(), NOW).unwrap()
});

#[test]
fn a_stored_keyring_opens_what_it_sealed() {
    let envelope = PostQuantumEncryption::new(&KEYRING)
        .seal(b"plaintext", b"bound")
        .unwrap();
    let stored = Keyring::open(&KEYRING.document(), COLLECTION, &password("a")).unwrap();
    let opened = PostQuantumEncryption::new(&stored)
        .open(&envelope, b"bound")
        .unwrap();
    assert_eq!(*opened, b"plaintext");
}
