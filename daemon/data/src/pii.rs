//! Personal data that is told from other texts by its form and, where it has one, its checksum: e-mail addresses, telephone numbers,
//! payment cards, IBANs, Chinese identity numbers, IPv4 addresses. Each kind is an expression that finds candidates, and a rule that
//! says how much of a candidate is one. Never here: what becomes of them, streams (see `guards`).

use std::sync::LazyLock;

use hone_protocol::guard::PiiKind;
use regex_automata::Input;
use regex_automata::meta::Regex;

/// How much of a candidate is what it looks like, in bytes; none where nothing is. The characters around it are told, because a
/// number inside a longer word is another thing.
pub type Rule = fn(&str, Option<char>, Option<char>) -> Option<usize>;

/// The expression that finds candidates. All are bounded, so that a stream knows how long to wait.
pub fn expression(kind: PiiKind) -> &'static str {
    match kind {
        PiiKind::Email => r"(?-u:\b)[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9\-]{1,63}\.){1,4}[A-Za-z]{2,24}(?-u:\b)",
        PiiKind::Phone => {
            r"(?:\+[1-9](?:[ ().\-]{0,2}[0-9]){6,14}|\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[.\-][0-9]{4}|(?-u:\b)(?:[2-9][0-9]{2}[.\-][2-9][0-9]{2}[.\-][0-9]{4}|1[3-9][0-9](?:[ \-]?[0-9]{4}){2}|0[1-9][0-9]{1,2}-[2-9][0-9]{6,7}))(?-u:\b)"
        }
        PiiKind::Card => r"(?-u:\b)[2-6](?:[ \-]?[0-9]){12,18}(?-u:\b)",
        PiiKind::Iban => r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}(?-u:\b)",
        PiiKind::ChineseId => r"(?-u:\b)[1-9][0-9]{16}[0-9Xx](?-u:\b)",
        PiiKind::Ipv4 => r"(?-u:\b)[0-9]{1,3}(?:\.[0-9]{1,3}){3,7}(?-u:\b)",
    }
}

/// The rule of a kind.
pub fn rule(kind: PiiKind) -> Rule {
    match kind {
        PiiKind::Email => email,
        PiiKind::Phone => phone,
        PiiKind::Card => card,
        PiiKind::Iban => iban,
        PiiKind::ChineseId => chinese_id,
        PiiKind::Ipv4 => ipv4,
    }
}

/// Endings of file names that look like addresses: `logo@2x.png`.
const FILE_ENDINGS: [&str; 10] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html", "json"];

fn email(text: &str, _: Option<char>, _: Option<char>) -> Option<usize> {
    let (local, domain) = text.split_once('@')?;
    let dots = |part: &str| part.starts_with('.') || part.ends_with('.') || part.contains("..");
    let label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    let ending = domain.rsplit('.').next()?.to_ascii_lowercase();
    let good = !dots(local) && domain.split('.').all(label) && !FILE_ENDINGS.contains(&ending.as_str());
    good.then_some(text.len())
}

/// A number that goes on behind a dash or a slash is a part of another one.
fn is_apart(before: Option<char>, after: Option<char>) -> bool {
    let joins = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '_' | '=' | '#' | '.');
    let goes_on = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '_' | '@');
    !before.is_some_and(joins) && !after.is_some_and(goes_on)
}

fn phone(text: &str, before: Option<char>, after: Option<char>) -> Option<usize> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    ((7..=15).contains(&digits) && is_apart(before, after)).then_some(text.len())
}

/// The digits of a text up to each place where a number may end: their count, and the bytes up to there.
fn ends(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut digits = 0;
    text.char_indices().filter_map(move |(at, c)| {
        if !c.is_ascii_alphanumeric() {
            return None;
        }
        digits += 1;
        let end = at + c.len_utf8();
        let ends = text[end..].chars().next().is_none_or(|next| !next.is_ascii_alphanumeric());
        ends.then_some((digits, end))
    })
}

fn card(text: &str, before: Option<char>, after: Option<char>) -> Option<usize> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let whole = text.len();
    // The longest that is one: digits of a date may follow.
    let fits = |(count, end): &(usize, usize)| {
        let after = if *end == whole { after } else { text[*end..].chars().next() };
        is_brand(&digits[..*count]) && luhn(&digits[..*count]) && is_apart(before, after)
    };
    ends(text).filter(|end| fits(end)).last().map(|(_, end)| end)
}

/// Whether a card of this beginning has so many digits.
fn is_brand(digits: &[u32]) -> bool {
    let begin = |count: usize| digits.iter().take(count).fold(0, |number, digit| number * 10 + digit);
    let count = digits.len();
    match (begin(1), begin(2), begin(3), begin(4)) {
        (4, ..) => matches!(count, 13 | 16 | 19),
        (_, 34 | 37, ..) => count == 15,
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305, _) => count == 14,
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => count == 16,
        (_, 62, ..) => (16..=19).contains(&count),
        (_, 65, ..) | (_, _, 644..=649, _) | (_, _, _, 6011) => matches!(count, 16 | 19),
        (_, _, _, 3528..=3589) => (16..=19).contains(&count),
        _ => false,
    }
}

/// The check digit of payment cards.
fn luhn(digits: &[u32]) -> bool {
    let twice = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(at, &digit)| if at % 2 == 1 { twice(digit) } else { digit }).sum();
    // Sixteen zeros have a right check digit, too.
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != digits[0])
}

/// Characters of an IBAN by its country, as the registry of ISO 13616 lists them.
const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NL", 18),
    ("NO", 15),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("SA", 24),
    ("SC", 31),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
];

fn iban(text: &str, _: Option<char>, _: Option<char>) -> Option<usize> {
    let (_, wanted) = IBAN_LENGTHS.iter().find(|(country, _)| text.starts_with(country))?;
    // Words in capitals may follow.
    let (_, end) = ends(text).find(|(count, _)| count == wanted)?;
    let characters: Vec<u32> = text[..end].chars().filter_map(|c| c.to_digit(36)).collect();
    let turned = characters[4..].iter().chain(&characters[..4]);
    let rest = turned.fold(0, |rest, &value| if value > 9 { rest * 100 + value } else { rest * 10 + value } % 97);
    (rest == 1).then_some(end)
}

/// The first two digits of Chinese identity numbers: the provinces.
const PROVINCES: [u32; 34] = [
    11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51, 52, 53, 54, 61, 62, 63,
    64, 65, 71, 81, 82,
];

/// GB 11643-1999: province, district, date of birth, sequence, check digit.
fn chinese_id(text: &str, _: Option<char>, _: Option<char>) -> Option<usize> {
    let digit = |at: usize| (text.as_bytes()[at] - b'0') as u32;
    let number = |from: usize, to: usize| (from..to).fold(0, |number, at| number * 10 + digit(at));
    let (year, month, day) = (number(6, 10), number(10, 12), number(12, 14));
    let days = match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !PROVINCES.contains(&number(0, 2)) || !(1900..2100).contains(&year) || !(1..=days).contains(&day) {
        return None;
    }
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = WEIGHTS.iter().enumerate().map(|(at, weight)| weight * digit(at)).sum();
    let check = b"10X98765432"[(sum % 11) as usize];
    (text.as_bytes()[17].to_ascii_uppercase() == check).then_some(text.len())
}

fn ipv4(text: &str, before: Option<char>, after: Option<char>) -> Option<usize> {
    let address: std::net::Ipv4Addr = text.parse().ok()?;
    let is_somebody_s = !address.is_loopback() && !address.is_unspecified() && !address.is_broadcast();
    let is_apart = before != Some('.') && !matches!(after, Some('-' | '_'));
    (is_somebody_s && is_apart).then_some(text.len())
}

static DETECTORS: LazyLock<Vec<(PiiKind, Regex)>> = LazyLock::new(|| {
    let detector = |kind| (kind, Regex::new(expression(kind)).expect("a test compiles the expressions of all kinds"));
    PiiKind::ALL.into_iter().map(detector).collect()
});

/// The first piece of personal data of these kinds from a byte on: its kind and its bytes.
pub fn first(text: &str, kinds: &[PiiKind], from: usize) -> Option<(PiiKind, std::ops::Range<usize>)> {
    let of = |(kind, regex): &(PiiKind, Regex)| {
        let mut from = from;
        loop {
            let found = regex.search(&Input::new(text).range(from..))?;
            if let Some(end) = judge(text, found.range(), rule(*kind)) {
                return Some((*kind, found.start()..end));
            }
            from = next_character(text, found.start());
        }
    };
    let detectors = DETECTORS.iter().filter(|(kind, _)| kinds.contains(kind));
    detectors.filter_map(of).min_by_key(|(_, range)| (range.start, std::cmp::Reverse(range.end)))
}

/// Where a candidate ends by its rule.
pub fn judge(text: &str, candidate: std::ops::Range<usize>, rule: Rule) -> Option<usize> {
    let before = text[..candidate.start].chars().next_back();
    let after = text[candidate.end..].chars().next();
    rule(&text[candidate.clone()], before, after).map(|length| candidate.start + length)
}

/// The byte after the character that begins at one.
pub fn next_character(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(1, char::len_utf8)
}

/// Masks every piece of personal data of these kinds; gives how many there were.
pub fn mask(text: &mut String, kinds: &[PiiKind]) -> u64 {
    let (mut masked, mut from, mut count) = (String::new(), 0, 0);
    while let Some((kind, range)) = first(text, kinds, from) {
        masked.push_str(&text[from..range.start]);
        masked.push_str(kind.mask());
        from = range.end;
        count += 1;
    }
    if count > 0 {
        masked.push_str(&text[from..]);
        *text = masked;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut text = text.to_owned();
        mask(&mut text, &PiiKind::ALL);
        text
    }

    #[test]
    fn what_is_personal_data_is_found_in_sentences_of_both_languages() {
        for (text, expected) in [
            ("mail ann.lee+x@mail.example.org.", "mail [EMAIL]."),
            ("邮箱：wang.fang@example.com，谢谢", "邮箱：[EMAIL]，谢谢"),
            ("a@b.io,c@d.io", "[EMAIL],[EMAIL]"),
            ("call +44 20 7946 0958 now", "call [PHONE] now"),
            ("(212) 555-0147 or 415-555-2671", "[PHONE] or [PHONE]"),
            ("电话13800138000，座机010-62345678。", "电话[PHONE]，座机[PHONE]。"),
            ("138-0013-8000", "[PHONE]"),
            ("card 4111 1111 1111 1111 exp 12/26", "card [CARD] exp 12/26"),
            ("4111111111111111", "[CARD]"),
            ("4111 1111 1111 1111 12/26", "[CARD] 12/26"),
            ("Amex 3782-822463-10005", "Amex [CARD]"),
            ("卡号6222021234567890128。", "卡号[CARD]。"),
            ("IBAN DE89 3704 0044 0532 0130 00 PLEASE PAY", "IBAN [IBAN] PLEASE PAY"),
            ("GB82WEST12345698765432", "[IBAN]"),
            ("FR1420041010050500013M02606", "[IBAN]"),
            ("身份证11010519491231002X。", "身份证[ID]。"),
            ("from 203.0.113.7, 10.0.0.3.", "from [IP], [IP]."),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            // A card with one wrong digit, a number of no brand, an order number, zeros.
            "4111 1111 1111 1112",
            "1234 5678 9012 3452",
            "order 20261130123456789",
            "0000 0000 0000 0000",
            // An IBAN with a wrong check digit, of no country, too short.
            "DE89 3704 0044 0532 0130 01",
            "ZZ89 3704 0044 0532 0130 00",
            "DE89370400440532013",
            // Identity numbers with a wrong digit, month 13, no province.
            "110105194912310021",
            "11010519491331002X",
            "99010519491231002X",
            // Addresses of no network, versions, loopback.
            "256.1.1.1",
            "1.2.3",
            "1.2.3.4.5.6",
            "v1.2.3.4",
            "127.0.0.1",
            // No addresses of people.
            "logo@2x.png",
            "user@localhost",
            ".@example.com",
            "a@-example.com",
            // Dates, times, amounts, codes.
            "2026-11-30 12:24:11",
            "1,234,567.89",
            "ISBN 978-3-16-148410-0",
            "0x13800138000",
            "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "id=13800138000",
            "12345678901234",
            "+1",
            "f(x) = 3.14159265358979",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn check_digits_decide() {
        let digits = |text: &str| text.chars().filter_map(|c| c.to_digit(10)).collect::<Vec<_>>();
        let mut right = 0;
        for last in 0..10 {
            right += u32::from(luhn(&digits(&format!("411111111111111{last}"))));
        }
        assert_eq!(right, 1);
        for kind in PiiKind::ALL {
            assert!(Regex::new(expression(kind)).is_ok(), "{kind:?}");
        }
    }
}
