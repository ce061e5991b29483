//! `Content-Length` of what is short.

use http::HeaderValue;

/// Documents are shorter than so many bytes.
const SHORT: usize = 1000;

/// The numbers of three digits, and others behind zeros.
static DIGITS: [[u8; 3]; SHORT] = digits();

#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder of ten is a digit, and a constant cannot ask"
)]
const fn digits() -> [[u8; 3]; SHORT] {
    let mut digits = [[b'0'; 3]; SHORT];
    let mut number = 0;
    while number < SHORT {
        let place = &mut digits[number];
        let mut rest = number;
        let mut at = place.len();
        while at > 0 {
            at -= 1;
            place[at] += (rest % 10) as u8;
            rest /= 10;
        }
        number += 1;
    }
    digits
}

/// The value of the field, without an allocation where it has three digits.
pub(super) fn field(length: usize) -> HeaderValue {
    DIGITS
        .get(length)
        .filter(|_| length >= 100)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .map_or_else(|| HeaderValue::from(length), HeaderValue::from_static)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_written_as_it_always_is() {
        for length in (0..1100).chain([usize::MAX]) {
            assert_eq!(field(length), HeaderValue::from(length));
        }
    }
}
