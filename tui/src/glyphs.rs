//! The signs that are drawn, in three sets. `full` uses signs of East Asian width "ambiguous", which a terminal set up
//! for Chinese may draw two cells wide; `narrow` avoids them; `ascii` is for terminals without Unicode.
//! Never here: colours, or words.

/// Which set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GlyphSet {
    /// Box drawing, braille, arrows.
    Full,
    /// Nothing whose width terminals disagree on.
    Narrow,
    /// Printable ASCII.
    Ascii,
}

/// The signs of a set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glyphs {
    /// Horizontal rule.
    pub(crate) rule: &'static str,
    /// Rule of an overlay.
    pub(crate) dashes: &'static str,
    /// Vertical rule between panes.
    pub(crate) bar: &'static str,
    /// The selected row, the current step.
    pub(crate) point: &'static str,
    /// Done.
    pub(crate) ok: &'static str,
    /// Failed.
    pub(crate) bad: &'static str,
    /// Text goes on.
    pub(crate) ellipsis: &'static str,
    /// Full part of a meter.
    pub(crate) fill: &'static str,
    /// Empty part of a meter.
    pub(crate) rest: &'static str,
    /// Axis corner of a chart.
    pub(crate) corner: &'static str,
    /// Tick on the left axis.
    pub(crate) tick: &'static str,
    /// Cursor column of a chart.
    pub(crate) cursor: &'static str,
    /// Names of the arrow keys.
    pub(crate) up_down: &'static str,
    /// Names of the arrow keys.
    pub(crate) left_right: &'static str,
    /// Whether charts may use braille dots.
    pub(crate) braille: bool,
}

const FULL: Glyphs = Glyphs {
    rule: "─",
    dashes: "╌",
    bar: "│",
    point: "▸",
    ok: "✓",
    bad: "✗",
    ellipsis: "…",
    fill: "━",
    rest: "╌",
    corner: "└",
    tick: "┤",
    cursor: "┊",
    up_down: "↑↓",
    left_right: "←→",
    braille: true,
};

const NARROW: Glyphs = Glyphs {
    rule: "-",
    bar: "|",
    ellipsis: "..",
    fill: "=",
    corner: "+",
    tick: "|",
    cursor: ":",
    up_down: "Up/Down",
    left_right: "Left/Right",
    ..FULL
};

const ASCII: Glyphs = Glyphs { dashes: "-", point: ">", ok: "v", bad: "x", rest: ".", braille: false, ..NARROW };

impl Glyphs {
    /// The signs of a set.
    pub(crate) fn of(set: GlyphSet) -> &'static Glyphs {
        match set {
            GlyphSet::Full => &FULL,
            GlyphSet::Narrow => &NARROW,
            GlyphSet::Ascii => &ASCII,
        }
    }

    /// The set that the locale allows: ASCII unless the character set is UTF-8.
    pub(crate) fn from_locale(values: [Option<&str>; 3]) -> GlyphSet {
        match values.into_iter().flatten().find(|v| !v.is_empty()) {
            Some(v) if !v.to_ascii_lowercase().replace('-', "").contains("utf8") => GlyphSet::Ascii,
            // Nothing set at all: a bare environment (cron, containers) on a terminal of this century.
            _ => GlyphSet::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_signs_have_one_width_everywhere() {
        use unicode_width::UnicodeWidthStr;
        for glyphs in [&NARROW, &ASCII] {
            for sign in
                [glyphs.rule, glyphs.dashes, glyphs.bar, glyphs.point, glyphs.ok, glyphs.bad, glyphs.fill, glyphs.rest]
            {
                assert_eq!(sign.width(), 1, "{sign}");
                assert_eq!(sign.width_cjk(), 1, "{sign} is wide in a CJK terminal");
            }
        }
    }

    #[test]
    fn a_locale_that_is_not_utf8_gets_ascii() {
        assert_eq!(Glyphs::from_locale([None, None, Some("C")]), GlyphSet::Ascii);
        assert_eq!(Glyphs::from_locale([None, None, Some("zh_CN.UTF-8")]), GlyphSet::Full);
        assert_eq!(Glyphs::from_locale([None, None, None]), GlyphSet::Full);
    }
}
