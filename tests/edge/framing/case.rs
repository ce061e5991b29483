//! The tables of cases: see the words at their beginnings.

/// One case of a table.
pub struct Case {
    pub section: &'static str,
    pub name: &'static str,
    lines: Vec<(&'static str, Ending)>,
    /// What `=` says, in order.
    pub expected: Vec<Vec<u8>>,
    /// Fields that must not be seen.
    pub absent: Vec<&'static str>,
    /// Fields that must be seen as they stand here.
    pub present: Vec<(&'static str, &'static str)>,
    /// Whether the connection ends with it.
    pub closes: bool,
}

enum Ending {
    CrLf,
    None,
}

impl Case {
    /// Its lines, with `token` for `{key}`.
    pub fn each_line(&self, token: &str) -> Vec<Vec<u8>> {
        let written_out = |line: &str| {
            let line = line
                .replace("{auth}", "Host: edge.test\\r\\nX-API-Key: {key}")
                .replace("{key}", token);
            unescape(&repeated(&line))
        };
        self.lines
            .iter()
            .map(|(line, _)| written_out(line))
            .collect()
    }

    /// What is sent, with `token` for `{key}`.
    pub fn bytes(&self, token: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (line, (_, ending)) in self.each_line(token).into_iter().zip(&self.lines) {
            bytes.extend(line);
            if matches!(ending, Ending::CrLf) {
                bytes.extend(b"\r\n");
            }
        }
        bytes
    }
}

/// Every case of `table`.
pub fn cases(table: &'static str) -> Vec<Case> {
    let mut section = "";
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in table.lines().enumerate() {
        let number = number + 1;
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        } else if let Some(name) = line.strip_prefix("# ") {
            cases.push(Case {
                section,
                name,
                lines: Vec::new(),
                expected: Vec::new(),
                absent: Vec::new(),
                present: Vec::new(),
                closes: false,
            });
        } else if !line.is_empty() && !line.starts_with(';') {
            let case = cases.last_mut().expect("a line of a case");
            if line == "|close" {
                case.closes = true;
            } else if let Some(raw) = line.strip_prefix("|. ") {
                case.lines.push((raw, Ending::None));
            } else if let Some(line) = line.strip_prefix('|') {
                let line = line.strip_prefix(' ').unwrap_or(line);
                case.lines.push((line, Ending::CrLf));
            } else if let Some(expected) = line.strip_prefix("= ") {
                case.expected.push(unescape(expected));
            } else if let Some(name) = line.strip_prefix("- ") {
                case.absent.push(name);
            } else if let Some(field) = line.strip_prefix("+ ") {
                case.present.push(field.split_once(": ").unwrap());
            } else {
                panic!("line {number} of a table of cases: {line}");
            }
        }
    }
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "a name is there twice");
    cases
}

/// With `{12*a}` written out.
fn repeated(line: &str) -> String {
    let Some((before, rest)) = line.split_once('{') else {
        return line.to_owned();
    };
    let (inside, after) = rest.split_once('}').expect("a closed brace");
    let (count, what) = inside.split_once('*').expect("a count");
    before.to_owned() + &what.repeat(count.parse().unwrap()) + after
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte == b'\\').then(|| rest.next().unwrap()) {
            None => byte,
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            Some(other) => panic!("no escape: \\{} in {text}", char::from(other)),
        });
    }
    bytes
}
