//! Fixed-width, zero-padded base62, most significant digit first.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Appends the big-endian number `bytes` in `width` digits.
///
/// The caller picks a width that holds every number of that many bytes.
pub(super) fn encode_into(text: &mut String, mut number: Vec<u8>, width: usize) {
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            // why: the remainder is below 62, so the quotient is below 256.
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    debug_assert!(
        number.iter().all(|byte| *byte == 0),
        "the width is too small"
    );
    text.extend(digits.into_iter().map(char::from));
}

/// Reads a number of at most 64 bits; `None` when a byte is no digit or it is larger.
pub(super) fn decode_u64(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_numbers_fit_the_widths_of_a_token() {
        for (bytes, width) in [(32, 43), (6, 9), (4, 6)] {
            let mut text = String::new();
            encode_into(&mut text, vec![0xff; bytes], width);
            assert_eq!(text.len(), width);
        }
    }

    proptest! {
        #[test]
        fn a_number_survives_being_written_and_read(number in 0_u64..1 << 48) {
            let mut text = String::new();
            encode_into(&mut text, number.to_be_bytes().to_vec(), 9);
            prop_assert_eq!(decode_u64(text.as_bytes()), Some(number));
        }
    }
}
