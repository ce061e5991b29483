//! Where a request carries a token, and how it is taken off.

use http::{HeaderMap, HeaderValue, Request, Uri};
use percent_encoding::percent_decode_str;

use super::config::Place;
use crate::refusal::Refusal;
use crate::token::{Presented, TokenDefect, TokenFormat, Value};

/// What was found in all places together.
pub(super) struct Found<'r> {
    pub(super) token: Result<Presented<'r>, Refusal>,
    pub(super) taken: Taken,
}

/// What is to be taken off the request: ours, whatever it was worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// One bit for each place.
    headers: u8,
    /// The fields of these were there more than once.
    repeated: u8,
    query: bool,
}

/// Looks in all `places`, and in the query's `parameter` where there is one.
///
/// A value without our prefix is no token, and is left alone. Two different
/// tokens, or a field that holds one and is there twice, are refused.
pub(super) fn find<'r, B>(
    request: &'r Request<B>,
    format: &TokenFormat,
    places: &[Place],
    parameter: Option<&str>,
) -> Found<'r> {
    let mut found = Found {
        token: Err(Refusal::TokenMissing),
        taken: Taken::default(),
    };
    for (bit, place) in places.iter().enumerate() {
        let values = request.headers().get_all(&place.header);
        let mut fields = 0;
        let mut ours = false;
        for value in values {
            fields += 1;
            ours |= found.see(in_field(value, format, place.bearer));
        }
        if ours {
            found.taken.headers |= 1 << bit;
            if fields > 1 {
                found.taken.repeated |= 1 << bit;
                found.token = Err(Refusal::TokenRepeated);
            }
        }
    }
    if let Some(parameter) = parameter {
        let mut ours = 0;
        for value in parameters(request.uri(), parameter) {
            ours += usize::from(found.see(in_query(value, format)));
        }
        found.taken.query = ours > 0;
        if ours > 1 {
            found.token = Err(Refusal::TokenRepeated);
        }
    }
    found
}

impl<'r> Found<'r> {
    /// Whether the value is ours.
    fn see(&mut self, value: Value<'r>) -> bool {
        self.token = match (self.token, value) {
            (_, Value::Foreign) => return false,
            (Err(Refusal::TokenMissing), Value::Token(token)) => Ok(token),
            (Ok(first), Value::Token(token)) if first == token => Ok(first),
            (Ok(_) | Err(Refusal::TokenRepeated), _) => Err(Refusal::TokenRepeated),
            (Err(_), _) => Err(Refusal::TokenMalformed),
        };
        true
    }
}

fn in_field<'r>(value: &'r HeaderValue, format: &TokenFormat, bearer: bool) -> Value<'r> {
    match str::from_utf8(value.as_bytes()) {
        Ok(text) => in_text(text, format, bearer),
        Err(error) => {
            let text = &value.as_bytes()[..error.valid_up_to()];
            spoilt(in_text(
                str::from_utf8(text).unwrap_or_default(),
                format,
                bearer,
            ))
        }
    }
}

const BLANK: [char; 2] = [' ', '\t'];

fn in_text<'r>(text: &'r str, format: &TokenFormat, bearer: bool) -> Value<'r> {
    if !bearer {
        return format.parse(text);
    }
    if let Some((scheme, rest)) = text.split_at_checked("Bearer".len())
        && scheme.eq_ignore_ascii_case("Bearer")
    {
        let token = rest.trim_start_matches(BLANK);
        let between = &rest[..rest.len() - token.len()];
        let by_spaces = !between.is_empty() && between.bytes().all(|byte| byte == b' ');
        match format.parse(token) {
            Value::Foreign => {}
            value if by_spaces => return value,
            // Only spaces are allowed there, but ours it is.
            value => return spoilt(value),
        }
    }
    // A token that forgot its scheme must not go on to an upstream.
    spoilt(format.parse(text))
}

fn in_query<'r>(value: &'r str, format: &TokenFormat) -> Value<'r> {
    if value.contains('%') {
        // No character of a token has to be encoded.
        spoilt(format.parse(&percent_decode_str(value).decode_utf8_lossy()))
    } else {
        format.parse(value)
    }
}

/// Ours, but not in the form in which it is accepted here.
fn spoilt<'any>(value: Value<'_>) -> Value<'any> {
    match value {
        Value::Foreign => Value::Foreign,
        Value::Malformed(_) | Value::Token(_) => Value::Malformed(TokenDefect::Character),
    }
}

fn parameters<'r>(uri: &'r Uri, name: &str) -> impl Iterator<Item = &'r str> {
    pairs(uri.query().unwrap_or_default())
        .filter(move |(_, key, _)| is_named(key, name))
        .map(|(_, _, value)| value)
}

/// Each parameter of a query: all of it, its name, its value.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    query.split('&').map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (pair, key, value)
    })
}

fn is_named(key: &str, name: &str) -> bool {
    percent_decode_str(key).eq(name.bytes())
}

impl Taken {
    /// The target without what `parameter` holds of ours, when it holds any.
    pub(super) fn target(self, uri: &Uri, format: &TokenFormat, parameter: &str) -> Option<Uri> {
        self.query.then(|| without(uri, format, parameter))
    }

    /// Takes the fields off. Allocates only where one that held a token was
    /// there more than once.
    pub(super) fn take_off(self, headers: &mut HeaderMap, format: &TokenFormat, places: &[Place]) {
        for (bit, place) in places.iter().enumerate() {
            if self.headers & 1 << bit == 0 {
                continue;
            }
            let left = if self.repeated & 1 << bit == 0 {
                Vec::new()
            } else {
                foreign(headers, format, place)
            };
            headers.remove(&place.header);
            for value in left {
                headers.append(&place.header, value);
            }
        }
    }
}

fn foreign(headers: &HeaderMap, format: &TokenFormat, place: &Place) -> Vec<HeaderValue> {
    let values = headers.get_all(&place.header).iter();
    values
        .filter(|value| in_field(value, format, place.bearer) == Value::Foreign)
        .cloned()
        .collect()
}

fn without(uri: &Uri, format: &TokenFormat, parameter: &str) -> Uri {
    let mut target = String::from(uri.path());
    let mut separator = '?';
    for (pair, key, value) in pairs(uri.query().unwrap_or_default()) {
        if is_named(key, parameter) && in_query(value, format) != Value::Foreign {
            continue;
        }
        target.push(separator);
        target.push_str(pair);
        separator = '&';
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = target.try_into().ok();
    // why: a part of a valid target is one.
    Uri::from_parts(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests;
