//! Words of a text as filters count them: runs of letters and digits, and each character of a script without spaces.
//! Lives here: cutting. Never here: hashes of words (see `shingles`, which cuts alike).

pub(super) use crate::shingles::stands_alone;

/// The words, in order.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = rest.find(|c: char| c.is_alphanumeric() || stands_alone(c))?;
        let from = &rest[begin..];
        let first = from.chars().next()?;
        let end = if stands_alone(first) {
            first.len_utf8()
        } else {
            from.find(|c: char| !c.is_alphanumeric() || stands_alone(c)).unwrap_or(from.len())
        };
        rest = &from[end..];
        Some(&from[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scripts_without_spaces_are_cut_into_characters() {
        assert_eq!(
            words("Hello, wörld-2 中文abc。ไ").collect::<Vec<_>>(),
            ["Hello", "wörld", "2", "中", "文", "abc", "ไ"]
        );
    }

    proptest! {
        #[test]
        fn there_are_as_many_as_shingles_are_made_of(text in "[a-c 中文é。,\n0-9]{0,40}") {
            let mut hashes = Vec::new();
            crate::shingles::words(&text, &mut hashes);
            prop_assert_eq!(words(&text).count(), hashes.len());
        }
    }
}
