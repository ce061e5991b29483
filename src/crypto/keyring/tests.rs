use std::sync::LazyLock;

use super::*;
use crate::crypto::{OpenError, PostQuantumEncryption, ReplaceError};

const COLLECTION: &str = "project/database/keys";
const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

fn password(character: &str) -> Password {
    Password::new(Secret::new(character.repeat(32))).unwrap()
}

fn new_keyring() -> Keyring {
    Keyring::create(COLLECTION, &password("a"), Cost::MIN, Suite::default(), NOW).unwrap()
}

/// Shared by the tests: Argon2 is slow on purpose.
static KEYRING: LazyLock<Keyring> = LazyLock::new(new_keyring);

fn open(document: &[u8], with: &str) -> Result<Keyring, KeyringError> {
    Keyring::open(document, COLLECTION, &password(with))
}

fn error(document: &[u8]) -> KeyringError {
    open(document, "a").unwrap_err()
}

/// Opens as [`Keyring::open`] does, but for Argon2: the master key is known.
fn open_with_master(document: &[u8]) -> Result<Keyring, KeyringError> {
    let document = Document::parse(document)?;
    if document.collection != COLLECTION {
        return Err(KeyringError::Damaged("foreign"));
    }
    Keyring::verify(document, KEYRING.master.clone(), KEYRING.slot)
}

fn seals_for(from: &Keyring, to: &Keyring) -> bool {
    let envelope = PostQuantumEncryption::new(from).seal(b"x", b"y").unwrap();
    match PostQuantumEncryption::new(to).open(&envelope, b"y") {
        Ok(plaintext) => *plaintext == b"x",
        Err(OpenError::UnknownKey(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_stored_keyring_opens_with_everything_in_it() {
    let stored = open(&KEYRING.document(), "a").unwrap();
    assert!(seals_for(&KEYRING, &stored) && seals_for(&stored, &KEYRING));
    assert_eq!(stored.document(), KEYRING.document());
    let (kept, read) = (&KEYRING.keys.generations[0], &stored.keys.generations[0]);
    assert_eq!(
        (kept.name, &kept.index, &kept.tag),
        (b'0', &read.index, &read.tag)
    );
    assert_ne!(kept.index, kept.tag);
}

#[test]
fn two_keyrings_share_nothing() {
    let other = new_keyring();
    assert!(!seals_for(&KEYRING, &other));
    assert_ne!(
        KEYRING.keys.generations[0].index,
        other.keys.generations[0].index
    );
}

#[test]
fn a_wrong_password_is_told_apart() {
    let refused = open(&KEYRING.document(), "b").unwrap_err();
    assert_eq!(refused, KeyringError::WrongPassword { slots: 1 });
}

#[test]
fn a_keyring_of_another_collection_is_told_apart() {
    let refused = Keyring::open(&KEYRING.document(), "other", &password("a")).unwrap_err();
    let KeyringError::Foreign { found, expected } = refused else {
        panic!("{refused}");
    };
    assert_eq!((&*found, &*expected), (COLLECTION, "other"));
}

#[test]
fn a_keyring_renamed_for_another_collection_does_not_open() {
    let mut document = KEYRING.document.clone();
    document.collection = "other".into();
    let refused = Keyring::open(&document.to_bytes(), "other", &password("a")).unwrap_err();
    assert_eq!(refused, KeyringError::WrongPassword { slots: 1 });
}

#[test]
fn a_newer_format_is_told_apart() {
    let newer = br#"{"format": 2, "something": "else"}"#;
    assert_eq!(error(newer), KeyringError::NewerFormat(2));
    assert_eq!(Description::of(newer), Err(KeyringError::NewerFormat(2)));
}

#[test]
fn a_short_password_is_refused() {
    let short = Secret::new("é".repeat(31));
    assert_eq!(Password::new(short), Err(PasswordTooShort));
    assert!(Password::new(Secret::new("é".repeat(32))).is_ok());
}

#[test]
fn an_edited_byte_is_noticed_wherever_it_is() {
    let document = KEYRING.document();
    assert!(open_with_master(&document).is_ok());
    for at in 0..document.len() {
        let mut edited = document.clone();
        edited[at] ^= 1;
        assert!(open_with_master(&edited).is_err(), "byte {at}");
    }
}

#[test]
fn an_edited_document_does_not_open_with_the_password_either() {
    let document = KEYRING.document();
    for at in (0..document.len()).step_by(document.len() / 30) {
        let mut edited = document.clone();
        edited[at] = if edited[at] == b'0' { b'1' } else { b'0' };
        assert!(open(&edited, "a").is_err(), "byte {at}");
    }
}

#[test]
fn only_one_spelling_is_accepted() {
    let text = String::from_utf8(KEYRING.document()).unwrap();
    for other in [
        format!("{text}\n"),
        text.replacen("  ", " ", 1),
        text.replacen("\"format\": 1", "\"format\": 1, \"more\": 2", 1),
        text.replacen("\"format\": 1", "\"format\": 0", 1),
        text.to_uppercase(),
        text[..text.len() - 1].to_owned(),
        String::new(),
    ] {
        assert!(matches!(error(other.as_bytes()), KeyringError::Damaged(_)));
    }
}

/// What a reader of the MAC would refuse, the wraps refuse too.
fn signed(edit: impl FnOnce(&mut Document)) -> Result<Keyring, KeyringError> {
    let mut document = KEYRING.document.clone();
    edit(&mut document);
    Keyring::sign(document, KEYRING.master.clone(), KEYRING.slot)
}

/// What is edited, and how: with another keyring's document at hand.
type Swap = (&'static str, fn(&mut Document, &Document));
/// What is edited, and how.
type Edit = (&'static str, fn(&mut Document));

#[test]
fn parts_swapped_between_two_keyrings_are_refused() {
    let theirs = new_keyring().document;
    let edits: [Swap; 11] = [
        ("id", |ours, theirs| ours.id = theirs.id),
        ("version", |ours, _| ours.version += 1),
        ("primary", |ours, theirs| ours.primary = theirs.primary),
        ("passwords", |ours, theirs| {
            ours.passwords = theirs.passwords.clone();
        }),
        ("keys", |ours, theirs| {
            ours.primary = theirs.primary;
            ours.keys = theirs.keys.clone();
        }),
        ("public key", |ours, theirs| {
            ours.keys[0].public_key = theirs.keys[0].public_key.clone();
        }),
        ("secret key", |ours, theirs| {
            ours.keys[0].secret = theirs.keys[0].secret.clone();
        }),
        ("authentication", |ours, theirs| {
            ours.keys[0].authentication = theirs.keys[0].authentication.clone();
        }),
        ("generations", |ours, theirs| {
            ours.generations = theirs.generations.clone();
        }),
        ("tag", |ours, theirs| {
            ours.generations[0].tag = theirs.generations[0].tag.clone();
        }),
        ("mac", |ours, theirs| ours.mac = theirs.mac),
    ];
    for (part, edit) in edits {
        let mut edited = KEYRING.document.clone();
        edit(&mut edited, &theirs);
        assert!(open(&edited.to_bytes(), "a").is_err(), "{part}");
    }
}

#[test]
fn parts_moved_within_a_keyring_are_refused_even_without_the_mac() {
    let (grown, second) = KEYRING.add_key(Suite::default(), NOW).unwrap();
    let edits: [Edit; 7] = [
        ("key ids", |document| {
            let first = document.keys[0].id;
            document.keys[0].id = document.keys[1].id;
            document.keys[1].id = first;
        }),
        ("secrets", |document| {
            document.keys[1].secret = document.keys[0].secret.clone();
        }),
        ("public keys", |document| {
            document.keys[1].public_key = document.keys[0].public_key.clone();
        }),
        ("authentication secrets", |document| {
            document.keys[1].authentication = document.keys[0].authentication.clone();
        }),
        ("a secret in another role", |document| {
            document.generations[0].tag = document.generations[0].index.clone();
        }),
        ("a generation's name", |document| {
            document.generations[0].name = '1';
        }),
        ("the collection", |document| document.collection.push('x')),
    ];
    for (part, edit) in edits {
        let edited = signed(|document| {
            *document = grown.document.clone();
            edit(document);
        });
        assert!(matches!(edited, Err(KeyringError::Damaged(_))), "{part}");
    }
    assert!(
        signed(|document| document.primary = second).is_err(),
        "a key it lacks"
    );
}

#[test]
fn stored_costs_outside_the_bounds_are_refused_before_they_are_paid() {
    let edits: [fn(&mut PasswordEntry); 6] = [
        |slot| slot.memory_kib = u32::MAX,
        |slot| slot.memory_kib = 8,
        |slot| slot.passes = u32::MAX,
        |slot| slot.passes = 1,
        |slot| slot.lanes = 0,
        |slot| slot.lanes = 5,
    ];
    for edit in edits {
        let mut document = KEYRING.document.clone();
        edit(&mut document.passwords[0]);
        let refused = error(&document.to_bytes());
        assert!(refused.to_string().contains("Argon2"), "{refused}");
    }
}

#[test]
fn documents_with_missing_or_repeated_entries_are_refused() {
    let edits: [fn(&mut Document); 7] = [
        |document| document.passwords.clear(),
        |document| document.keys.clear(),
        |document| document.generations.clear(),
        |document| document.keys.push(document.keys[0].clone()),
        |document| document.passwords = vec![document.passwords[0].clone(); 9],
        |document| document.generations.push(document.generations[0].clone()),
        |document| document.generations[0].name = '-',
    ];
    for edit in edits {
        let mut document = KEYRING.document.clone();
        edit(&mut document);
        let parsed = Document::parse(&document.to_bytes());
        assert!(matches!(parsed, Err(KeyringError::Damaged(_))));
    }
}

#[test]
fn a_description_needs_no_password_and_holds_no_secret() {
    let description = Description::of(&KEYRING.document()).unwrap();
    assert_eq!(description, KEYRING.describe());
    assert_eq!(
        (description.version, &*description.collection),
        (1, COLLECTION)
    );
    assert_eq!(description.generations, ['0']);
    assert_eq!(description.passwords[0].cost, Cost::MIN);
    let key = &description.keys[0];
    assert!(key.primary && key.created_at == NOW && key.suite == "x25519-mlkem768");
}

#[test]
fn an_added_key_opens_at_once_and_seals_when_promoted() {
    let (added, id) = KEYRING.add_key(Suite::default(), NOW).unwrap();
    let promoted = added.promote(id).unwrap();
    assert!(
        seals_for(&added, &KEYRING),
        "the primary key is still the first"
    );
    assert!(!seals_for(&promoted, &KEYRING));
    assert!(seals_for(&promoted, &added) && seals_for(&KEYRING, &promoted));
    assert_eq!(promoted.describe().version, 3);
    assert!(open(&promoted.document(), "a").is_ok());

    let stranger = KeyId::from_bytes([0; 16]);
    let refused = KEYRING.promote(stranger).unwrap_err();
    assert_eq!(refused, ChangeError::UnknownKey(stranger));
}

#[test]
fn a_password_is_added_and_the_old_one_retired() {
    let (both, _) = KEYRING
        .add_password(&password("b"), Cost::MIN, NOW)
        .unwrap();
    assert!(open(&both.document(), "a").is_ok());
    let opened = open(&both.document(), "b").unwrap();

    let (old, new) = (KEYRING.slot(), opened.slot());
    let refused = opened.retire_password(new).unwrap_err();
    assert_eq!(refused, ChangeError::PasswordInUse(new));
    let retired = opened.retire_password(old).unwrap();
    let refused = open(&retired.document(), "a").unwrap_err();
    assert_eq!(refused, KeyringError::WrongPassword { slots: 1 });
    assert!(seals_for(
        &KEYRING,
        &open(&retired.document(), "b").unwrap()
    ));
    let refused = retired.retire_password(old).unwrap_err();
    assert_eq!(refused, ChangeError::UnknownPassword(old));
}

#[test]
fn rotating_everything_leaves_nothing_of_a_stolen_keyring_in_use() {
    let rotated = KEYRING
        .rotate_all(&password("c"), Cost::MIN, Suite::default(), NOW)
        .unwrap();
    assert!(
        !seals_for(&rotated, &KEYRING),
        "new records are safe from it"
    );
    assert!(seals_for(&KEYRING, &rotated), "old records still open");
    assert_eq!(rotated.describe().generations, ['0', '1']);
    assert_eq!(rotated.describe().id, KEYRING.describe().id);

    let document = rotated.document();
    assert!(open(&document, "a").is_err(), "the old password");
    assert!(open_with_master(&document).is_err(), "the old master key");
    assert!(open(&document, "c").is_ok());
}

/// A later version by whoever knows the master key.
fn forged(from: &Keyring, later: u64) -> Keyring {
    let mut document = from.document.clone();
    document.version += later;
    Keyring::sign(document, from.master.clone(), from.slot).unwrap()
}

#[test]
fn who_has_the_old_password_leads_no_edge_back_once_everything_is_new() {
    let both = Passwords::new(password("a"), Some(password("c")));
    let before = both.open(&KEYRING.document(), COLLECTION).unwrap();
    let edge = PostQuantumEncryption::new(&before);
    // What the thief made of it already does not keep the edge from going along.
    let held = both.open(&forged(&KEYRING, 9).document(), COLLECTION);
    edge.replace(&held.unwrap()).unwrap();
    let rotated = KEYRING
        .rotate_all(&password("c"), Cost::MIN, Suite::default(), NOW)
        .unwrap();
    edge.replace(&both.open(&rotated.document(), COLLECTION).unwrap())
        .unwrap();
    assert_eq!(edge.version(), 2);

    let thiefs = forged(&KEYRING, 99).document();
    let refused = edge.replace(&both.open(&thiefs, COLLECTION).unwrap());
    assert_eq!(refused, Err(ReplaceError::AnotherMaster));
    let alone = Passwords::from(password("c"));
    let refused = alone.open(&thiefs, COLLECTION).unwrap_err();
    assert_eq!(refused, KeyringError::WrongPassword { slots: 1 });
    edge.replace(&forged(&rotated, 1)).unwrap();
}

#[test]
fn not_even_a_slot_of_the_new_password_leads_a_running_edge_to_another_master_key() {
    let (added, _) = KEYRING
        .add_password(&password("c"), Cost::MIN, NOW)
        .unwrap();
    let rotated = added
        .rotate_all(&password("c"), Cost::MIN, Suite::default(), NOW)
        .unwrap();
    let thiefs = forged(&added, 99).document();
    for passwords in [
        Passwords::from(password("c")),
        Passwords::new(password("a"), Some(password("c"))),
    ] {
        let open = |document: &[u8]| passwords.open(document, COLLECTION).unwrap();
        let edge = PostQuantumEncryption::new(&open(&rotated.document()));
        let refused = edge.replace(&open(&thiefs));
        assert_eq!(refused, Err(ReplaceError::AnotherMaster));
        assert_eq!(edge.version(), 3);
    }
    let edge = PostQuantumEncryption::new(&KEYRING);
    let refused = edge.replace(&rotated);
    assert_eq!(refused, Err(ReplaceError::AnotherMaster), "one password");
}

#[test]
fn a_full_keyring_takes_no_more() {
    let mut keyring = KEYRING.clone();
    while keyring.document.keys.len() < document::MAX_KEYS {
        let id = KeyId::random().unwrap();
        keyring.document.keys.push(KeyEntry {
            id,
            ..keyring.document.keys[0].clone()
        });
    }
    let refused = keyring.add_key(Suite::default(), NOW).unwrap_err();
    assert!(matches!(refused, ChangeError::Full(_)));
}
