//! Colours as tokens. A widget names a token; a theme says what it looks like in truecolor, 256 colours, 16 colours
//! or none. Lives here: every colour of the client. Never here: what is drawn. No information is carried by
//! colour alone: the word, a glyph or the modifier says the same.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of text means; the only way to colour it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Ordinary text.
    Text,
    /// Less important text.
    Muted,
    /// Decoration, never information: rules and empty meters.
    Faint,
    /// Keys, links, the focused thing.
    Accent,
    /// Headings and titles.
    Heading,
    /// The selected row of the focused pane.
    Selected,
    /// The selected row of a pane that is not focused.
    SelectedIdle,
    /// The part of a text that matches a search.
    Match,
    /// Done, good.
    Ok,
    /// Being done.
    Running,
    /// Waiting, paused, stopped.
    Waiting,
    /// Needs a look.
    Warn,
    /// Failed.
    Error,
    /// As of an earlier time.
    Stale,
    /// The full part of a meter.
    Fill,
    /// What a person said.
    User,
    /// Text that a model made or is trained on.
    Model,
    /// The smoothed line of a chart.
    Series,
    /// The second line of a chart.
    SeriesSecond,
    /// One of several lines of a chart that are compared, from 0; a letter stands on each as well.
    Compared(u8),
    /// Raw points behind a smoothed line, grid lines.
    Raw,
    /// An irreversible question.
    Danger,
}

/// How many colours the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// 24-bit.
    True,
    /// The xterm palette.
    Indexed,
    /// The user's own sixteen.
    Sixteen,
    /// None: modifiers only.
    Mono,
}

/// Which colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    /// The user's own sixteen colours, whatever the depth.
    Terminal,
    /// For dark backgrounds.
    Dark,
    /// For light backgrounds.
    Light,
    /// Plain text, bold and the strongest colours only.
    Contrast,
}

/// A palette at a depth. No theme paints the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Theme {
    /// Which colours.
    pub(crate) palette: Palette,
    /// How many the terminal has.
    pub(crate) depth: Depth,
}

/// One token's renderings.
#[derive(Clone, Copy)]
struct Look {
    dark: u32,
    light: u32,
    sixteen: Color,
    modifier: Modifier,
    mono: Modifier,
}

const PLAIN: Modifier = Modifier::empty();

const fn look(dark: u32, light: u32, sixteen: Color, modifier: Modifier, mono: Modifier) -> Look {
    Look { dark, light, sixteen, modifier, mono }
}

/// Okabe and Ito's colours for people of all kinds of sight, made readable on both backgrounds.
const COMPARED: [Look; 8] = [
    look(0x56B4E9, 0x0072B2, Color::Cyan, PLAIN, PLAIN),
    look(0xE69F00, 0x9A5B00, Color::Yellow, PLAIN, PLAIN),
    look(0x2FBF93, 0x00704F, Color::Green, PLAIN, PLAIN),
    look(0xF0764A, 0xB34700, Color::Red, PLAIN, PLAIN),
    look(0xDDA0C4, 0x9C4A7C, Color::Magenta, PLAIN, PLAIN),
    look(0xF0E442, 0x6F6800, Color::LightYellow, PLAIN, PLAIN),
    look(0x6AA5E8, 0x2F4B9B, Color::LightBlue, PLAIN, PLAIN),
    look(0xB8C0CC, 0x4B5563, Color::Reset, PLAIN, PLAIN),
];

const fn of(token: Token) -> Look {
    use Modifier as M;
    match token {
        Token::Text => look(0xE6EAF0, 0x1B1F24, Color::Reset, PLAIN, PLAIN),
        Token::Muted => look(0x9AA4B2, 0x57606A, Color::Reset, M::DIM, M::DIM),
        Token::Faint => look(0x7D8896, 0x6A737D, Color::DarkGray, PLAIN, M::DIM),
        Token::Accent => look(0x5CC8FF, 0x0063B1, Color::Cyan, PLAIN, M::BOLD),
        Token::Heading => look(0xE6EAF0, 0x1B1F24, Color::Reset, M::BOLD, M::BOLD),
        Token::Selected => look(0xE6EAF0, 0x1B1F24, Color::Reset, M::REVERSED, M::REVERSED),
        Token::SelectedIdle => look(0xE6EAF0, 0x1B1F24, Color::Reset, M::BOLD, M::BOLD),
        Token::Match => look(0x5CC8FF, 0x0063B1, Color::Cyan, M::UNDERLINED, M::UNDERLINED),
        Token::Ok => look(0x4CC38A, 0x1A7F37, Color::Green, PLAIN, PLAIN),
        Token::Running => look(0x5CC8FF, 0x0063B1, Color::Cyan, PLAIN, M::BOLD),
        Token::Waiting => look(0x9AA4B2, 0x57606A, Color::Reset, PLAIN, PLAIN),
        Token::Warn => look(0xF2B84B, 0x8A5A00, Color::Yellow, PLAIN, M::BOLD),
        Token::Error => look(0xFF7A70, 0xB42318, Color::Red, M::BOLD, M::BOLD),
        Token::Stale => look(0x9AA4B2, 0x57606A, Color::Reset, M::DIM, M::DIM),
        Token::Fill => look(0x5CC8FF, 0x0063B1, Color::Cyan, PLAIN, PLAIN),
        Token::User => look(0x5CC8FF, 0x0063B1, Color::Cyan, M::BOLD, M::BOLD),
        Token::Model => look(0xC9A6FF, 0x6B3FA0, Color::Magenta, PLAIN, M::UNDERLINED),
        Token::Series => look(0x56B4E9, 0x0072B2, Color::Cyan, PLAIN, PLAIN),
        Token::SeriesSecond => look(0xE69F00, 0x9A5B00, Color::Yellow, PLAIN, M::BOLD),
        Token::Compared(line) => COMPARED[line as usize % COMPARED.len()],
        Token::Raw => look(0x7D8896, 0x6A737D, Color::DarkGray, PLAIN, M::DIM),
        Token::Danger => look(0xFF7A70, 0xB42318, Color::Red, M::BOLD, M::BOLD),
    }
}

impl Theme {
    /// Chooses from the environment: `NO_COLOR`, `COLORTERM`, `TERM`.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Theme {
        let term = variable("TERM").unwrap_or_default();
        let colorterm = variable("COLORTERM").unwrap_or_default();
        let depth = if variable("NO_COLOR").is_some_and(|v| !v.is_empty()) || term == "dumb" {
            Depth::Mono
        } else if colorterm.contains("truecolor") || colorterm.contains("24bit") || term.contains("direct") {
            Depth::True
        } else if term.contains("256color") {
            Depth::Indexed
        } else {
            Depth::Sixteen
        };
        Theme { palette: Palette::Terminal, depth }
    }

    /// What a token looks like.
    pub(crate) fn style(&self, token: Token) -> Style {
        let look = of(token);
        if self.depth == Depth::Mono {
            return Style::new().add_modifier(look.mono);
        }
        let hex = match self.palette {
            Palette::Terminal => return Style::new().fg(look.sixteen).add_modifier(look.modifier),
            Palette::Contrast => {
                let modifier = look.modifier.difference(Modifier::DIM);
                let color = if look.sixteen == Color::DarkGray { Color::Reset } else { look.sixteen };
                return Style::new().fg(color).add_modifier(modifier | look.mono.difference(Modifier::DIM));
            }
            Palette::Dark => look.dark,
            Palette::Light => look.light,
        };
        let modifier = look.modifier.difference(Modifier::DIM);
        let color = match self.depth {
            Depth::True => Color::Rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8),
            Depth::Indexed => Color::Indexed(nearest_indexed(hex)),
            Depth::Sixteen | Depth::Mono => look.sixteen,
        };
        Style::new().fg(color).add_modifier(modifier)
    }
}

/// The entry of the xterm colour cube (16..=231) or grey ramp (232..=255) nearest to a colour, by squared distance.
fn nearest_indexed(hex: u32) -> u8 {
    const LEVELS: [i32; 6] = [0, 95, 135, 175, 215, 255];
    let [r, g, b] = [16, 8, 0].map(|shift| (hex >> shift & 255) as i32);
    let distance = |x: i32, y: i32, z: i32| (x - r).pow(2) + (y - g).pow(2) + (z - b).pow(2);
    let cube = (0u8..216).map(|i| {
        let at = |n: u8| LEVELS[usize::from(n % 6)];
        (distance(at(i / 36), at(i / 6), at(i)), 16 + i)
    });
    let greys = (0u8..24).map(|i| {
        let level = 8 + 10 * i32::from(i);
        (distance(level, level, level), 232 + i)
    });
    cube.chain(greys).min().map_or(7, |(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Token; 29] = [
        Token::Text,
        Token::Muted,
        Token::Faint,
        Token::Accent,
        Token::Heading,
        Token::Selected,
        Token::SelectedIdle,
        Token::Match,
        Token::Ok,
        Token::Running,
        Token::Waiting,
        Token::Warn,
        Token::Error,
        Token::Stale,
        Token::Fill,
        Token::User,
        Token::Model,
        Token::Series,
        Token::SeriesSecond,
        Token::Raw,
        Token::Danger,
        Token::Compared(0),
        Token::Compared(1),
        Token::Compared(2),
        Token::Compared(3),
        Token::Compared(4),
        Token::Compared(5),
        Token::Compared(6),
        Token::Compared(7),
    ];

    /// Relative luminance, WCAG 2.2.
    fn luminance(hex: u32) -> f64 {
        let channel = |shift: u32| {
            let c = f64::from(hex >> shift & 255) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0)
    }

    fn contrast(a: u32, b: u32) -> f64 {
        let (x, y) = (luminance(a), luminance(b));
        (x.max(y) + 0.05) / (x.min(y) + 0.05)
    }

    #[test]
    fn every_token_is_readable_on_its_reference_background() {
        for token in ALL {
            let look = of(token);
            assert!(contrast(look.dark, 0x111418) >= 4.5, "{token:?} dark {}", contrast(look.dark, 0x111418));
            assert!(contrast(look.light, 0xFFFFFF) >= 4.5, "{token:?} light {}", contrast(look.light, 0xFFFFFF));
        }
    }

    #[test]
    fn no_color_leaves_modifiers_only_and_no_theme_paints_the_background() {
        let env = |name: &str| match name {
            "NO_COLOR" => Some("1".to_owned()),
            "COLORTERM" => Some("truecolor".to_owned()),
            _ => None,
        };
        let theme = Theme::from_environment(env);
        assert_eq!(theme.depth, Depth::Mono);
        for token in ALL {
            assert_eq!(theme.style(token).fg, None);
            for palette in [Palette::Terminal, Palette::Dark, Palette::Light, Palette::Contrast] {
                for depth in [Depth::True, Depth::Indexed, Depth::Sixteen] {
                    assert_eq!(Theme { palette, depth }.style(token).bg, None, "{token:?}");
                }
            }
        }
    }

    #[test]
    fn pure_colours_find_their_index() {
        assert_eq!(nearest_indexed(0xFF0000), 196);
        assert_eq!(nearest_indexed(0x080808), 232);
    }
}
