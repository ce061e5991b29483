//! Whether a call that failed is made once more: a pure rule.

use std::time::Duration;

use super::breaker::jittered;
use crate::repository::RepositoryError;

/// Long enough for a connection to be made anew, short beside a client's patience.
const PAUSE: Duration = Duration::from_millis(40);

/// How long to wait before a call that failed with `error` is made again, if
/// it is: only where that may help, and somebody may still be waiting.
pub(super) fn pause(
    error: &RepositoryError,
    elapsed: Duration,
    patience: Duration,
    random: u32,
) -> Option<Duration> {
    let pause = jittered(PAUSE, random);
    let in_time = elapsed + pause < patience;
    (matches!(error, RepositoryError::Unavailable(_)) && in_time).then_some(pause)
}

/// Whether the store failed; otherwise it answered, if with bad news.
pub(super) const fn is_fault(error: &RepositoryError) -> bool {
    matches!(
        error,
        RepositoryError::Unavailable(_) | RepositoryError::Refused(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again_and_only_in_time() {
        let ms = Duration::from_millis;
        let [unavailable, refused, damaged] = [
            RepositoryError::Unavailable,
            RepositoryError::Refused,
            RepositoryError::Damaged,
        ]
        .map(|error| error(String::new()));
        for (error, elapsed, random, expected) in [
            (&unavailable, 0, 0, Some(20)),
            (&unavailable, 0, u32::MAX, Some(40)),
            (&unavailable, 459, u32::MAX, Some(40)),
            (&unavailable, 460, u32::MAX, None),
            (&unavailable, 3000, 0, None),
            (&refused, 0, 0, None),
            (&damaged, 0, 0, None),
        ] {
            let pause = pause(error, ms(elapsed), ms(500), random);
            assert_eq!(pause, expected.map(ms), "{error:?} after {elapsed} ms");
        }
    }

    #[test]
    fn a_damaged_record_is_an_answer() {
        let text = String::new;
        assert!(is_fault(&RepositoryError::Unavailable(text())));
        assert!(is_fault(&RepositoryError::Refused(text())));
        assert!(!is_fault(&RepositoryError::Damaged(text())));
    }
}
