//! Comma-separated values for spreadsheets (RFC 4180). A name that a spreadsheet would take for a formula is defused: who names a
//! service or a user must not run anything on the bookkeeper's machine.

/// Text from data.
pub(super) fn text(cell: &str) -> String {
    // The signs that begin a formula, also behind blanks.
    let is_formula = cell.trim_start().starts_with(['=', '+', '-', '@']) || cell.starts_with(['\t', '\r']);
    quoted(&if is_formula { format!("'{cell}") } else { cell.to_owned() })
}

fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

/// A line of cells that are ready.
pub(super) fn line(cells: &[String]) -> String {
    cells.join(",") + "\r\n"
}

/// The line of headings.
pub(super) fn head(names: &[&str]) -> String {
    names.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_defused_and_quotes_doubled() {
        for (cell, written) in [
            ("desk", "desk"),
            ("=1+1", "'=1+1"),
            ("+49 30", "'+49 30"),
            ("-x", "'-x"),
            ("@sum", "'@sum"),
            (" =cmd", "' =cmd"),
            ("\t=x", "'\t=x"),
            ("a,b", "\"a,b\""),
            ("=\"a\",b", "\"'=\"\"a\"\",b\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(text(cell), written, "{cell:?}");
        }
    }
}
