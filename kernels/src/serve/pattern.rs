//! Regular expressions and ranges of whole numbers as rules of a grammar, for the strings and numbers of a schema.
//! What a grammar cannot say, or only in a way that could take forever, is refused by name.
//!
//! What never lives here: schemas (see `schema`), matching.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// Longest pattern in characters; a longer one is refused.
const PATTERN_CHARS_MAX: usize = 512;
/// Largest count in `{n,m}`; llama.cpp unrolls them.
pub(super) const COUNT_MAX: u64 = 256;
/// Deepest nesting of groups.
const DEPTH_MAX: usize = 16;

/// A part of an expression as the body of a rule, and whether it may be empty.
struct Piece {
    rule: String,
    nullable: bool,
}

/// The inside of a JSON string that matches `pattern`, as JSON Schema means it: anywhere, unless anchored.
pub(super) fn rule(pattern: &str) -> Result<String, String> {
    if pattern.chars().count() > PATTERN_CHARS_MAX {
        return Err(format!("it is longer than {PATTERN_CHARS_MAX} characters"));
    }
    let (from_start, inner) = match pattern.strip_prefix('^') {
        Some(inner) => (true, inner),
        None => (false, pattern),
    };
    let (to_end, inner) = match inner.strip_suffix('$') {
        Some(inner) if !ends_with_escape(inner) => (true, inner),
        _ => (false, inner),
    };
    let mut reader = Reader { chars: inner.chars().peekable(), depth: 0 };
    let piece = reader.alternatives()?;
    if reader.chars.next().is_some() {
        return Err("a parenthesis is not opened".into());
    }
    let open = if from_start { "" } else { "char* " };
    let close = if to_end { "" } else { " char*" };
    Ok(format!("{open}({}){close}", piece.rule))
}

fn ends_with_escape(text: &str) -> bool {
    text.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    depth: usize,
}

impl Reader<'_> {
    fn alternatives(&mut self) -> Result<Piece, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("groups are nested deeper than {DEPTH_MAX}"));
        }
        let mut all = vec![self.sequence()?];
        while self.chars.next_if_eq(&'|').is_some() {
            all.push(self.sequence()?);
        }
        self.depth -= 1;
        let nullable = all.iter().any(|p| p.nullable);
        let rules: Vec<String> = all.into_iter().map(|p| p.rule).collect();
        Ok(Piece { rule: rules.join(" | "), nullable })
    }

    fn sequence(&mut self) -> Result<Piece, String> {
        let mut rules = Vec::new();
        let mut nullable = true;
        while self.chars.peek().is_some_and(|c| !matches!(c, '|' | ')')) {
            let piece = self.repeated()?;
            nullable &= piece.nullable;
            rules.push(piece.rule);
        }
        let rule = if rules.is_empty() { "\"\"".to_owned() } else { rules.join(" ") };
        Ok(Piece { rule, nullable })
    }

    fn repeated(&mut self) -> Result<Piece, String> {
        let piece = self.single()?;
        let (least, most) = match self.chars.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(piece),
            _ => return Ok(piece),
        };
        self.chars.next();
        self.repeat(piece, least, most)
    }

    fn counted(&mut self, piece: Piece) -> Result<Piece, String> {
        self.chars.next();
        let least = self.count()?.ok_or("a count is missing")?;
        let most = match self.chars.next() {
            Some('}') => return self.repeat(piece, least, Some(least)),
            Some(',') => self.count()?,
            _ => return Err("a count is not closed".into()),
        };
        if self.chars.next() != Some('}') {
            return Err("a count is not closed".into());
        }
        self.repeat(piece, least, most)
    }

    fn count(&mut self) -> Result<Option<u64>, String> {
        let mut digits = String::new();
        while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits.parse::<u64>().ok().filter(|n| *n <= COUNT_MAX);
        number.map(Some).ok_or_else(|| format!("a count is larger than {COUNT_MAX}"))
    }

    fn repeat(&mut self, piece: Piece, least: u64, most: Option<u64>) -> Result<Piece, String> {
        if self.chars.peek().is_some_and(|c| matches!(c, '?' | '+' | '*')) {
            return Err("lazy and possessive repetitions are not known here".into());
        }
        if most.is_some_and(|most| most < least) {
            return Err("a count goes from more to less".into());
        }
        // Repeating nothing may go on forever.
        if piece.nullable && most != Some(1) {
            return Err("what may be empty is repeated".into());
        }
        let most = most.map_or(String::new(), |most| most.to_string());
        Ok(Piece { rule: format!("({}){{{least},{most}}}", piece.rule), nullable: least == 0 || piece.nullable })
    }

    fn single(&mut self) -> Result<Piece, String> {
        let one = |rule: String| Ok(Piece { rule, nullable: false });
        match self.chars.next() {
            Some('(') => self.group(),
            Some('[') => one(self.class()?),
            Some('.') => one("char".into()),
            Some('\\') => one(self.escape()?),
            Some(c @ ('^' | '$')) => Err(format!("{c} stands in the middle")),
            Some(c @ ('*' | '+' | '?' | '{' | '}' | ']')) => Err(format!("{c} stands where a character should")),
            Some(c) => one(literal(&c.to_string())),
            None => Err("it ends too early".into()),
        }
    }

    fn group(&mut self) -> Result<Piece, String> {
        if self.chars.next_if_eq(&'?').is_some() && self.chars.next() != Some(':') {
            return Err("looking ahead, behind and named groups are not known here".into());
        }
        let inner = self.alternatives()?;
        if self.chars.next() != Some(')') {
            return Err("a parenthesis is not closed".into());
        }
        Ok(Piece { rule: format!("({})", inner.rule), nullable: inner.nullable })
    }

    fn escape(&mut self) -> Result<String, String> {
        let c = self.chars.next().ok_or("it ends with a backslash")?;
        match c {
            'd' => Ok("[0-9]".into()),
            'w' => Ok("[0-9A-Za-z_]".into()),
            's' => Ok("[ ]".into()),
            'D' => Ok(format!("[^0-9{NEVER}]")),
            'W' => Ok(format!("[^0-9A-Za-z_{NEVER}]")),
            'S' => Ok(format!("[^ {NEVER}]")),
            c if c.is_ascii_alphanumeric() => Err(format!("\\{c} is not known here")),
            c => Ok(literal(&c.to_string())),
        }
    }

    fn class(&mut self) -> Result<String, String> {
        let negated = self.chars.next_if_eq(&'^').is_some();
        let mut body = String::new();
        loop {
            let c = self.chars.next().ok_or("a class is not closed")?;
            match c {
                ']' if body.is_empty() => return Err("a class is empty".into()),
                ']' => break,
                '[' => return Err("a class holds [".into()),
                '\\' => match self.chars.next().ok_or("a class is not closed")? {
                    'd' => body.push_str("0-9"),
                    'w' => body.push_str("0-9A-Za-z_"),
                    's' => body.push(' '),
                    c if c.is_ascii_alphanumeric() => return Err(format!("\\{c} in a class is not known here")),
                    c => push_in_class(&mut body, c, negated)?,
                },
                '-' => body.push_str(if self.chars.peek() == Some(&']') || body.is_empty() { "\\x2D" } else { "-" }),
                c => push_in_class(&mut body, c, negated)?,
            }
        }
        Ok(if negated { format!("[^{body}{NEVER}]") } else { format!("[{body}]") })
    }
}

/// What stands in no JSON string without an escape.
const NEVER: &str = "\\x22\\x5C\\x00-\\x1F\\x7F";

fn push_in_class(body: &mut String, c: char, negated: bool) -> Result<(), String> {
    if matches!(c, '"' | '\\') && !negated {
        return Err(format!("a class holds {c}, which needs an escape in JSON"));
    }
    push_code(body, c);
    Ok(())
}

/// A character of a class or text of a grammar; all but letters and digits by number, so that none has a meaning.
fn push_code(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() {
        out.push(c);
    } else {
        let code = u32::from(c);
        let _ = if code < 0x100 { write!(out, "\\x{code:02X}") } else { write!(out, "\\U{code:08X}") };
    }
}

/// A text of a grammar that stands for `text` as JSON writes it inside a string.
fn literal(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    quoted(&json[1..json.len() - 1])
}

/// A text of a grammar.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            ' ' | ':' | ',' | '{' | '}' | '<' | '>' | '_' | '/' | '.' => out.push(c),
            c => push_code(&mut out, c),
        }
    }
    out.push('"');
    out
}

/// The whole numbers from `least` to `most` as JSON writes them; an end that is `None` is open. Open ends allow
/// 16 digits.
pub(super) fn whole_numbers(least: Option<i64>, most: Option<i64>) -> Option<String> {
    const OPEN: i64 = 9_999_999_999_999_999;
    let (least, most) = (least.unwrap_or(-OPEN).max(-OPEN), most.unwrap_or(OPEN).min(OPEN));
    if least > most {
        return None;
    }
    let mut parts = Vec::new();
    if least < 0 {
        let negative = natural((-most).max(1), -least);
        parts.push(format!("\"-\" ({negative})"));
    }
    if most >= 0 {
        parts.push(natural(least.max(0), most));
    }
    Some(parts.join(" | "))
}

/// Natural numbers of a range, by their numbers of digits.
fn natural(least: i64, most: i64) -> String {
    let mut parts = Vec::new();
    let mut from = least;
    while from <= most {
        let digits = from.to_string().len() as u32;
        let to = most.min(10_i64.saturating_pow(digits) - 1);
        parts.push(same_length(&from.to_string(), &to.to_string()));
        from = to + 1;
    }
    parts.join(" | ")
}

/// Numbers between two of equally many digits.
fn same_length(least: &str, most: &str) -> String {
    let (Some(a), Some(b)) = (least.chars().next(), most.chars().next()) else {
        return "\"\"".into();
    };
    let (low, high) = (&least[1..], &most[1..]);
    let class = |a: char, b: char| if a == b { format!("\"{a}\"") } else { format!("[{a}-{b}]") };
    let any = |count: usize| if count == 0 { String::new() } else { format!(" [0-9]{{{count}}}") };
    let nines = |text: &str| text.bytes().all(|b| b == b'9');
    let zeros = |text: &str| text.bytes().all(|b| b == b'0');
    if zeros(low) && nines(high) {
        return format!("{}{}", class(a, b), any(low.len()));
    }
    if a == b {
        return format!("\"{a}\" ({})", same_length(low, high));
    }
    let next = |c: char, by: i32| char::from((c as i32 + by) as u8);
    let mut parts = Vec::new();
    let (mut from, mut to) = (a, b);
    if !zeros(low) {
        parts.push(format!("\"{a}\" ({})", same_length(low, &"9".repeat(low.len()))));
        from = next(a, 1);
    }
    let last = (!nines(high)).then(|| {
        to = next(b, -1);
        format!("\"{b}\" ({})", same_length(&"0".repeat(high.len()), high))
    });
    if from <= to {
        parts.push(format!("{}{}", class(from, to), any(low.len())));
    }
    parts.extend(last);
    parts.join(" | ")
}
