//! HTTP/1.1 requests (RFC 9112), read as strictly as the grammar allows: what
//! any two servers could take for different things is a fault.

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Request {
    /// Every value of a field.
    pub(crate) fn all<'a>(&'a self, name: &str) -> Vec<&'a str> {
        values(&self.fields, name).collect()
    }
}

fn values<'a>(fields: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    fields
        .iter()
        .filter(move |(held, _)| held.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// The first request of `bytes` and how long it is; `None` when there is more
/// to come of it.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some((line, mut at)) = line(bytes, 0)? else {
        return Ok(None);
    };
    let (method, target) = request_line(line)?;
    let mut request = Request {
        method,
        target,
        fields: Vec::new(),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let Some(end) = fields(bytes, at, &mut request.fields)? else {
        return Ok(None);
    };
    at = end;
    match framing(&request.fields)? {
        Framing::Length(length) => {
            let Some(body) = bytes.get(at..at + length) else {
                return Ok(None);
            };
            request.body = body.to_vec();
            at += length;
        }
        Framing::Chunked => loop {
            let Some((size, after)) = self::line(bytes, at)? else {
                return Ok(None);
            };
            let size = chunk_size(size)?;
            at = after;
            if size == 0 {
                let Some(end) = fields(bytes, at, &mut request.trailers)? else {
                    return Ok(None);
                };
                at = end;
                break;
            }
            let Some(chunk) = bytes.get(at..at + size + 2) else {
                return Ok(None);
            };
            let (data, end) = chunk.split_at(size);
            if end != b"\r\n" {
                return Err(format!("a chunk that ends in {}", end.escape_ascii()));
            }
            request.body.extend_from_slice(data);
            at += size + 2;
        },
    }
    Ok(Some((request, at)))
}

enum Framing {
    Length(usize),
    Chunked,
}

fn framing(fields: &[(String, String)]) -> Result<Framing, String> {
    let one = |name| {
        let mut all = values(fields, name);
        match (all.next(), all.next()) {
            (value, None) => Ok(value),
            _ => Err(format!("{name} more than once")),
        }
    };
    one("host")?.ok_or("no host")?;
    match (one("content-length")?, one("transfer-encoding")?) {
        (Some(_), Some(_)) => Err("a length and a transfer coding".to_owned()),
        (None, Some("chunked")) => Ok(Framing::Chunked),
        (None, Some(coding)) => Err(format!("the transfer coding {coding:?}")),
        (None, None) => Ok(Framing::Length(0)),
        (Some(length), None) if length.bytes().all(|byte| byte.is_ascii_digit()) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| format!("the length {length:?}")),
        (Some(length), None) => Err(format!("the length {length:?}")),
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, String> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    if text.len() > 15 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("the chunk size {}", line.escape_ascii()));
    }
    usize::from_str_radix(text, 16).map_err(|_| "a chunk without a size".to_owned())
}

fn request_line(line: &[u8]) -> Result<(String, String), String> {
    let fault = || format!("the request line {}", line.escape_ascii());
    let text = std::str::from_utf8(line).map_err(|_| fault())?;
    let parts: Vec<_> = text.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return Err(fault());
    };
    let whole = !method.is_empty()
        && method.bytes().all(is_token)
        && target.starts_with('/')
        && target
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if whole {
        Ok((method.to_owned(), target.to_owned()))
    } else {
        Err(fault())
    }
}

/// Reads fields up to the empty line, and gives where that ends.
fn fields(
    bytes: &[u8],
    mut at: usize,
    fields: &mut Vec<(String, String)>,
) -> Result<Option<usize>, String> {
    loop {
        let Some((line, after)) = line(bytes, at)? else {
            return Ok(None);
        };
        at = after;
        if line.is_empty() {
            return Ok(Some(at));
        }
        let fault = || format!("the field {}", line.escape_ascii());
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .ok_or_else(fault)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let plain = |&byte: &u8| byte == b'\t' || byte == b' ' || (byte > 0x20 && byte != 0x7f);
        if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().all(plain) {
            return Err(fault());
        }
        let text = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect();
        fields.push((text(name), text(value)));
    }
}

/// The line at `at`, and where the next begins. Only CR LF ends a line.
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, String> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let line = rest[..end].strip_suffix(b"\r").ok_or("a bare LF")?;
    if line.contains(&b'\r') || line.contains(&0) {
        return Err(format!("a bare CR or NUL in {}", line.escape_ascii()));
    }
    Ok(Some((line, at + end + 1)))
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
