//! Why something outside did not do what it was asked, in one line.

use std::error::Error;

/// An error with what lies beneath it, unless it says that itself.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let beneath = error.to_string();
        if !text.contains(&beneath) {
            text.push_str(": ");
            text.push_str(&beneath);
        }
        next = error.source();
    }
    text
}
