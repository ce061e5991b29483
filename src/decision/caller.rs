//! Who may ask.

use http::{HeaderMap, HeaderName};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// The field that holds the shared secret.
pub const SECRET_FIELD: HeaderName = HeaderName::from_static("x-edge-decision-secret");

/// How a proxy proves that it is ours.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// It is connected: it could open the socket, or showed a certificate.
    Connected,
    /// It knows the secret.
    Secret(Secret<String>),
}

impl Caller {
    /// Takes the proof off the question, whatever it is worth.
    pub(super) fn is_proven(&self, headers: &mut HeaderMap) -> bool {
        let Self::Secret(secret) = self else {
            headers.remove(SECRET_FIELD);
            return true;
        };
        let once = headers.get_all(SECRET_FIELD).iter().count() == 1;
        let given = headers.remove(SECRET_FIELD);
        let given = given.as_ref().map_or(&b""[..], |given| given.as_bytes());
        once && bool::from(given.ct_eq(secret.expose().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_secret_once_is_proof_and_it_goes_no_further() {
        let caller = Caller::Secret(Secret::new("correct".to_owned()));
        for (given, proven) in [
            (&["correct"][..], true),
            (&["Correct"], false),
            (&["correct "], false),
            (&[""], false),
            (&[], false),
            (&["correct", "correct"], false),
            (&["correct", "wrong"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(SECRET_FIELD, HeaderValue::from_static(value));
            }
            assert_eq!(caller.is_proven(&mut headers), proven, "{given:?}");
            assert!(headers.is_empty());
        }
    }
}
