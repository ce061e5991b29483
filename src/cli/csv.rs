//! Comma-separated values (RFC 4180), with the line ends of Unix.

use std::io::{self, Write};

/// Writes a heading and rows.
pub(super) fn write<const COLUMNS: usize>(
    out: &mut dyn Write,
    heading: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> io::Result<()> {
    write_row(out, heading)?;
    for row in rows {
        write_row(out, row.each_ref().map(String::as_str))?;
    }
    Ok(())
}

fn write_row<const COLUMNS: usize>(out: &mut dyn Write, row: [&str; COLUMNS]) -> io::Result<()> {
    let fields: Vec<String> = row.iter().map(|text| field(text)).collect();
    writeln!(out, "{}", fields.join(","))
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_field_is_quoted() {
        let mut out = Vec::new();
        let rows = [["a, \"b\"", "1"], ["two\nlines", ""]].map(|row| row.map(str::to_owned));
        write(&mut out, ["name", "count"], rows).unwrap();
        let expected = "name,count\n\"a, \"\"b\"\"\",1\n\"two\nlines\",\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
