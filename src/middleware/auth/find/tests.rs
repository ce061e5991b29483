use http::{HeaderName, HeaderValue, Request};

use super::*;
use crate::secret::Secret;
use crate::token::{Environment, GenerationKeys, TokenKeys};

const PARAMETER: Option<&str> = Some("api_key");

fn format() -> TokenFormat {
    TokenFormat::new("cyk", Environment::Live).unwrap()
}

fn mint() -> String {
    let generation = GenerationKeys {
        generation: b'0',
        index: Secret::new([1; 32]),
        tag: Secret::new([2; 32]),
    };
    let keys = TokenKeys::new(&[generation]).unwrap();
    format().mint(&keys).unwrap().expose().to_owned()
}

fn places() -> [Place; 2] {
    [Place::AUTHORIZATION, Place::X_API_KEY]
}

fn request(target: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = target.parse().unwrap();
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().append(name, value);
    }
    request
}

/// What is found, and what is left: the target, and the fields in order.
fn outcome(
    target: &str,
    fields: &[(&str, &str)],
    parameter: Option<&str>,
) -> (Result<String, Refusal>, String, Vec<String>) {
    let mut request = request(target, fields);
    let (format, places) = (format(), places());
    let found = find(&request, &format, &places, parameter);
    let (token, ours) = (found.token, found.taken);
    let token = token.map(|token| token.as_str().to_owned());
    if ours.query {
        *request.uri_mut() = without(request.uri(), &format, parameter.unwrap());
    }
    ours.take_off(request.headers_mut(), &format, &places);
    let left = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
    };
    let left = request.headers().iter().map(left).collect();
    (token, request.uri().to_string(), left)
}

#[test]
fn a_token_is_found_in_its_place_and_taken_off() {
    let token = mint();
    for fields in [
        [("authorization", &*format!("Bearer {token}"))],
        [("authorization", &*format!("bEARER   {token}"))],
        [("x-api-key", &*token)],
    ] {
        let (found, _, left) = outcome("/", &fields, None);
        assert_eq!(found.as_ref(), Ok(&token));
        assert_eq!(left, Vec::<String>::new());
    }
}

#[test]
fn what_is_not_ours_is_no_token_and_passes() {
    for fields in [
        &[][..],
        &[("authorization", "Bearer eyJhbGciOi.x.y")],
        &[("authorization", "Basic Y3lrX2xpdmVf")],
        &[("x-api-key", "somebody-else's")],
        &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
        &[("authorization", "\u{e4}")],
    ] {
        let (found, _, left) = outcome("/", fields, None);
        assert_eq!(found, Err(Refusal::TokenMissing));
        assert_eq!(left.len(), fields.len());
    }
}

#[test]
fn an_upstreams_own_credentials_pass_beside_our_token() {
    let token = mint();
    let fields = [("authorization", "Bearer a.jwt.x"), ("x-api-key", &*token)];
    let (found, _, left) = outcome("/", &fields, None);
    assert_eq!(found, Ok(token));
    assert_eq!(left, ["authorization: Bearer a.jwt.x"]);
}

#[test]
fn one_token_in_two_places_is_one_token() {
    let token = mint();
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", &*bearer), ("x-api-key", &*token)];
    let (found, _, left) = outcome("/", &fields, None);
    assert_eq!(found, Ok(token));
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn two_different_tokens_or_a_field_twice_are_refused() {
    let (one, two) = (mint(), mint());
    let bearer = format!("Bearer {one}");
    let malformed = format!("{two}x");
    for fields in [
        [("authorization", &*bearer), ("x-api-key", &*two)],
        [("authorization", &*bearer), ("x-api-key", &*malformed)],
        [("x-api-key", &*one), ("x-api-key", &*one)],
        [("x-api-key", &*malformed), ("x-api-key", &*malformed)],
    ] {
        let (found, _, left) = outcome("/", &fields, None);
        assert_eq!(found, Err(Refusal::TokenRepeated), "{fields:?}");
        assert_eq!(left, Vec::<String>::new());
    }
}

#[test]
fn beside_a_token_in_one_field_only_what_is_foreign_is_left() {
    let bearer = format!("Bearer {}", mint());
    let fields = [("authorization", "Basic eA=="), ("authorization", &*bearer)];
    let (found, _, left) = outcome("/", &fields, None);
    assert_eq!(found, Err(Refusal::TokenRepeated));
    assert_eq!(left, ["authorization: Basic eA=="]);
}

#[test]
fn what_looks_like_ours_and_is_not_whole_is_malformed_and_taken_off() {
    let token = mint();
    for (name, value) in [
        ("x-api-key", "cyk_".to_owned()),
        ("x-api-key", token[..60].to_owned()),
        ("x-api-key", format!("{token}\u{e4}")),
        ("x-api-key", token.replace("live", "test")),
        ("authorization", token.clone()),
        ("authorization", format!("Bearer {token},")),
        ("authorization", format!("Bearer\t{token}")),
        ("authorization", format!("Bearer{token}")),
        ("authorization", format!("Bearer \t {token}")),
    ] {
        let (found, _, left) = outcome("/", &[(name, &value)], None);
        assert_eq!(found, Err(Refusal::TokenMalformed), "{name}: {value}");
        assert_eq!(left, Vec::<String>::new());
    }
}

#[test]
fn a_query_parameter_counts_only_where_it_is_allowed() {
    let token = mint();
    let target = format!("/x?api_key={token}");
    let (found, left, _) = outcome(&target, &[], None);
    assert_eq!((found, left), (Err(Refusal::TokenMissing), target.clone()));
    let (found, left, _) = outcome(&target, &[], PARAMETER);
    assert_eq!((found, &*left), (Ok(token), "/x"));
}

#[test]
fn the_rest_of_a_query_stays_byte_for_byte() {
    let token = mint();
    for (target, left) in [
        (format!("/x?a=1&api_key={token}&b=%2F&c"), "/x?a=1&b=%2F&c"),
        (format!("/x?api_key={token}&&b"), "/x?&b"),
        (format!("/x?api%5Fkey={token}"), "/x"),
        (
            format!("/x?api_key=theirs&api_key={token}"),
            "/x?api_key=theirs",
        ),
        (
            format!("http://h:1/x?api_key={token}&b=1"),
            "http://h:1/x?b=1",
        ),
    ] {
        let (found, rest, _) = outcome(&target, &[], PARAMETER);
        assert_eq!((found.as_ref(), &*rest), (Ok(&token), left), "{target}");
    }
}

#[test]
fn a_query_with_two_tokens_or_an_encoded_one_is_refused() {
    let token = mint();
    let encoded = token.replace('_', "%5F");
    for (target, refusal) in [
        (
            format!("/?api_key={token}&api_key={token}"),
            Refusal::TokenRepeated,
        ),
        (format!("/?api_key={encoded}"), Refusal::TokenMalformed),
    ] {
        let (found, left, _) = outcome(&target, &[], PARAMETER);
        assert_eq!((found, &*left), (Err(refusal), "/"));
    }
    let (found, _, _) = outcome(
        &format!("/?api_key={token}"),
        &[("x-api-key", &mint())],
        PARAMETER,
    );
    assert_eq!(found, Err(Refusal::TokenRepeated));
}
