//! X-Wing (draft-connolly-cfrg-xwing-kem, draft 06 and later), over a fast
//! ML-KEM-768.
//!
//! `libcrux` chooses between its AVX2, Neon and portable code when it is called.

use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768PrivateKey, MlKem768PublicKey};
use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::{InvalidCiphertext, SharedSecret};
use crate::secret::Secret;

/// Section 5.3 of the draft.
const LABEL: &[u8; 6] = br"\.//^\";

const ML_KEM_CIPHERTEXT: usize = 1088;
const ML_KEM_PUBLIC_KEY: usize = 1184;
pub(super) const CIPHERTEXT: usize = ML_KEM_CIPHERTEXT + 32;
const PUBLIC_KEY: usize = ML_KEM_PUBLIC_KEY + 32;

pub(super) struct Pair {
    seed: Secret<[u8; 32]>,
    ml_kem_secret: Box<WipedOnDrop>,
    ml_kem_public: MlKem768PublicKey,
    x25519_secret: StaticSecret,
    x25519_public: PublicKey,
    public_key: [u8; PUBLIC_KEY],
}

/// libcrux does not wipe its keys.
struct WipedOnDrop(MlKem768PrivateKey);

impl Drop for WipedOnDrop {
    fn drop(&mut self) {
        self.0[0..MlKem768PrivateKey::len()].zeroize();
    }
}

impl Pair {
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        Secret::random().map(Self::expand)
    }

    pub(super) fn from_seed(seed: [u8; 32]) -> Self {
        Self::expand(Secret::new(seed))
    }

    /// `expandDecapsulationKey`, section 5.2 of the draft.
    fn expand(seed: Secret<[u8; 32]>) -> Self {
        let mut ml_kem_seed = Zeroizing::new([0; 64]);
        let mut x25519_seed = Zeroizing::new([0; 32]);
        let mut shake = Shake256::default();
        shake.update(seed.expose());
        let mut stream = shake.finalize_xof();
        stream.read(&mut *ml_kem_seed);
        stream.read(&mut *x25519_seed);

        let (ml_kem_secret, ml_kem_public) = mlkem768::generate_key_pair(*ml_kem_seed).into_parts();
        let x25519_secret = StaticSecret::from(*x25519_seed);
        let x25519_public = PublicKey::from(&x25519_secret);

        let mut public_key = [0; PUBLIC_KEY];
        public_key[..ML_KEM_PUBLIC_KEY].copy_from_slice(ml_kem_public.as_slice());
        public_key[ML_KEM_PUBLIC_KEY..].copy_from_slice(x25519_public.as_bytes());
        Self {
            seed,
            ml_kem_secret: Box::new(WipedOnDrop(ml_kem_secret)),
            ml_kem_public,
            x25519_secret,
            x25519_public,
            public_key,
        }
    }

    pub(super) const fn seed(&self) -> &[u8; 32] {
        self.seed.expose()
    }

    pub(super) const fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn encapsulate(&self) -> Result<(Vec<u8>, SharedSecret), getrandom::Error> {
        let mut randomness = Zeroizing::new([0; 64]);
        getrandom::fill(&mut *randomness)?;
        Ok(self.encapsulate_with(&randomness))
    }

    /// `EncapsulateDerand`, section 5.4.1 of the draft.
    fn encapsulate_with(&self, randomness: &[u8; 64]) -> (Vec<u8>, SharedSecret) {
        let mut for_ml_kem = Zeroizing::new([0; 32]);
        let mut ephemeral = Zeroizing::new([0; 32]);
        for_ml_kem.copy_from_slice(&randomness[..32]);
        ephemeral.copy_from_slice(&randomness[32..]);

        let (ml_kem_ciphertext, ml_kem_shared) =
            mlkem768::encapsulate(&self.ml_kem_public, *for_ml_kem);
        let ml_kem_shared = Zeroizing::new(ml_kem_shared);
        let ephemeral = StaticSecret::from(*ephemeral);
        let x25519_ciphertext = PublicKey::from(&ephemeral);
        let x25519_shared = ephemeral.diffie_hellman(&self.x25519_public);

        let mut ciphertext = Vec::with_capacity(CIPHERTEXT);
        ciphertext.extend_from_slice(ml_kem_ciphertext.as_slice());
        ciphertext.extend_from_slice(x25519_ciphertext.as_bytes());
        let shared = self.combine(
            &ml_kem_shared,
            x25519_shared.as_bytes(),
            x25519_ciphertext.as_bytes(),
        );
        (ciphertext, shared)
    }

    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Result<SharedSecret, InvalidCiphertext> {
        let ciphertext: &[u8; CIPHERTEXT] = ciphertext.try_into().map_err(|_| InvalidCiphertext)?;
        let (for_ml_kem, for_x25519) = ciphertext.split_at(ML_KEM_CIPHERTEXT);
        let for_ml_kem = MlKem768Ciphertext::try_from(for_ml_kem).map_err(|_| InvalidCiphertext)?;
        let for_x25519: [u8; 32] = for_x25519.try_into().map_err(|_| InvalidCiphertext)?;

        let ml_kem_shared =
            Zeroizing::new(mlkem768::decapsulate(&self.ml_kem_secret.0, &for_ml_kem));
        let x25519_shared = self
            .x25519_secret
            .diffie_hellman(&PublicKey::from(for_x25519));
        Ok(self.combine(&ml_kem_shared, x25519_shared.as_bytes(), &for_x25519))
    }

    /// `Combiner`, section 5.3 of the draft.
    fn combine(&self, ml_kem: &[u8; 32], x25519: &[u8; 32], ciphertext: &[u8; 32]) -> SharedSecret {
        let mut hash = Sha3_256::new();
        Digest::update(&mut hash, ml_kem);
        Digest::update(&mut hash, x25519);
        Digest::update(&mut hash, ciphertext);
        Digest::update(&mut hash, self.x25519_public.as_bytes());
        Digest::update(&mut hash, LABEL);
        Zeroizing::new(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use x_wing::{Decapsulate, DecapsulationKey, Decapsulator, Encapsulate, KeyExport};

    use super::*;
    use crate::crypto::hex;

    #[derive(Deserialize)]
    struct Vector {
        #[serde(with = "hex")]
        seed: [u8; 32],
        #[serde(with = "hex")]
        eseed: [u8; 64],
        #[serde(with = "hex")]
        ss: [u8; 32],
        #[serde(with = "hex")]
        pk: Vec<u8>,
        #[serde(with = "hex")]
        ct: Vec<u8>,
    }

    #[test]
    fn the_draft_s_vectors_hold() {
        let vectors = include_str!("../../../tests/vectors/x-wing.json");
        let vectors: Vec<Vector> = serde_json::from_str(vectors).unwrap();
        assert!(vectors.len() >= 3);
        for vector in vectors {
            let pair = Pair::from_seed(vector.seed);
            assert_eq!(pair.public_key(), vector.pk);
            let (ciphertext, secret) = pair.encapsulate_with(&vector.eseed);
            assert_eq!(ciphertext, vector.ct);
            assert_eq!(*secret, vector.ss);
            assert_eq!(*pair.decapsulate(&vector.ct).unwrap(), vector.ss);
        }
    }

    #[test]
    fn the_x_wing_crate_opens_ours_and_we_open_theirs() {
        let ours = Pair::generate().unwrap();
        let theirs = DecapsulationKey::from(*ours.seed());
        assert_eq!(*theirs.encapsulation_key().to_bytes(), *ours.public_key());

        let (ciphertext, secret) = ours.encapsulate().unwrap();
        let ciphertext = x_wing::Ciphertext::try_from(ciphertext.as_slice()).unwrap();
        assert_eq!(theirs.decapsulate(&ciphertext), *secret);

        let (ciphertext, secret) = theirs.encapsulation_key().encapsulate();
        assert_eq!(*ours.decapsulate(&ciphertext).unwrap(), *secret);
    }
}
