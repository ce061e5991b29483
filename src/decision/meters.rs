//! Questions that were not heard.

use metrics::Counter;

use crate::telemetry::metric;

#[derive(Clone, Debug)]
pub(super) struct Meters {
    pub(super) strangers: Counter,
    pub(super) unclear: Counter,
}

impl Meters {
    pub(super) fn of(listener: &str) -> Self {
        let counter = |why| {
            let listener = listener.to_owned();
            metrics::counter!(metric::DECISIONS_UNHEARD, "listener" => listener, "why" => why)
        };
        Self {
            strangers: counter("caller-unknown"),
            unclear: counter("question-unclear"),
        }
    }
}
