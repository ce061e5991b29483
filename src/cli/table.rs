//! Columns for people.

use std::io::{self, Write};

/// Writes a heading and rows, each column as wide as its widest cell.
pub(super) fn write<const COLUMNS: usize>(
    out: &mut dyn Write,
    heading: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> io::Result<()> {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([heading[column].chars().count()])
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    write_row(out, &widths, heading)?;
    for row in rows {
        write_row(out, &widths, row.each_ref().map(String::as_str))?;
    }
    Ok(())
}

fn write_row<const COLUMNS: usize>(
    out: &mut dyn Write,
    widths: &[usize; COLUMNS],
    row: [&str; COLUMNS],
) -> io::Result<()> {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    writeln!(out, "{}", cells.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let rows = [["a", "1"], ["é longer", "22"]].map(|row| row.map(str::to_owned));
        write(&mut out, ["NAME", "COUNT"], &rows).unwrap();
        let expected = "NAME      COUNT\na         1\né longer  22\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
