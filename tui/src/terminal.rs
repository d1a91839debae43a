//! The terminal as a place to draw: our own thin output backend, entering and leaving the full screen, and the panic
//! hook that restores it. One write per frame inside synchronized output (mode 2026), nothing at all when nothing
//! changed, and no cursor move after a wide character. Input stays with crossterm; no query is ever sent, so no
//! late reply can be taken for a key. Never here: what is drawn.

use std::io::{self, Write};

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::{execute, terminal};
use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

/// Bytes kept for one frame; a bigger frame grows the buffer once and still goes out in one write.
pub(crate) const FRAME_BYTES: usize = 64 * 1024;

const SYNC_BEGIN: &[u8] = b"\x1b[?2026h";
const SYNC_END: &[u8] = b"\x1b[?2026l";

/// Where cells become bytes.
pub(crate) struct Screenful<W: Write> {
    out: W,
    frame: Vec<u8>,
    /// Where the terminal's cursor is, as far as can be trusted.
    at: Option<(u16, u16)>,
    /// Where the cursor shall stand after the frame; none for hidden.
    wanted: Option<(u16, u16)>,
    /// What the terminal was last told about the cursor.
    shown: Option<(u16, u16)>,
    size: fn() -> io::Result<Size>,
    bytes: u64,
}

impl<W: Write> Screenful<W> {
    /// A backend over a writer; `size` asks the terminal for columns and rows.
    pub(crate) fn new(out: W, size: fn() -> io::Result<Size>) -> Self {
        Screenful { out, frame: Vec::with_capacity(FRAME_BYTES), at: None, wanted: None, shown: None, size, bytes: 0 }
    }

    /// Bytes written so far.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The writer.
    #[cfg(test)]
    pub(crate) fn out(&self) -> &W {
        &self.out
    }

    /// Sends something that is no cell (a copy to the clipboard) at once.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    fn move_to(&mut self, x: u16, y: u16) {
        match self.at {
            Some((ax, ay)) if (ax, ay) == (x, y) => {}
            Some((ax, ay)) if ay == y && x > ax => match x - ax {
                1 => self.frame.extend_from_slice(b"\x1b[C"),
                n => self.frame.extend_from_slice(format!("\x1b[{n}C").as_bytes()),
            },
            _ => self.frame.extend_from_slice(format!("\x1b[{};{}H", y + 1, x + 1).as_bytes()),
        }
        self.at = Some((x, y));
    }
}

/// Whether every terminal agrees on how wide this symbol is.
fn width_is_certain(symbol: &str) -> bool {
    let mut chars = symbol.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return false };
    match c as u32 {
        0x20..=0x7e | 0xa1..=0x2ff => true,
        // Box drawing, blocks and braille are drawn by the terminal itself; `narrow` avoids the ambiguous ones.
        0x2500..=0x259f | 0x2800..=0x28ff | 0x25b8 | 0x2713 | 0x2717 | 0x2026 | 0x2190..=0x2193 => true,
        // Wide: CJK punctuation, kana, ideographs, hangul, full-width forms.
        0x3000..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xac00..=0xd7a3 | 0xff01..=0xff60 => true,
        _ => false,
    }
}

fn color(out: &mut Vec<u8>, color: Color, foreground: bool) {
    let base: u32 = if foreground { 30 } else { 40 };
    let text = match color {
        Color::Reset => format!("\x1b[{}m", base + 9),
        Color::Rgb(r, g, b) => format!("\x1b[{};2;{r};{g};{b}m", base + 8),
        Color::Indexed(i) => format!("\x1b[{};5;{i}m", base + 8),
        named => {
            let index = match named {
                Color::Black => 0,
                Color::Red => 1,
                Color::Green => 2,
                Color::Yellow => 3,
                Color::Blue => 4,
                Color::Magenta => 5,
                Color::Cyan => 6,
                Color::Gray => 7,
                Color::DarkGray => 60,
                Color::LightRed => 61,
                Color::LightGreen => 62,
                Color::LightYellow => 63,
                Color::LightBlue => 64,
                Color::LightMagenta => 65,
                Color::LightCyan => 66,
                _ => 67,
            };
            format!("\x1b[{}m", base + index)
        }
    };
    out.extend_from_slice(text.as_bytes());
}

const MODIFIERS: [(Modifier, &[u8]); 5] = [
    (Modifier::BOLD, b"\x1b[1m"),
    (Modifier::DIM, b"\x1b[2m"),
    (Modifier::ITALIC, b"\x1b[3m"),
    (Modifier::UNDERLINED, b"\x1b[4m"),
    (Modifier::REVERSED, b"\x1b[7m"),
];

impl<W: Write> Backend for Screenful<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let (mut fg, mut bg, mut modifier) = (Color::Reset, Color::Reset, Modifier::empty());
        for (x, y, cell) in content {
            self.move_to(x, y);
            if cell.modifier != modifier {
                // Taking one modifier away has no portable code; a reset also forgets the colours.
                if !cell.modifier.contains(modifier) {
                    self.frame.extend_from_slice(b"\x1b[0m");
                    (fg, bg, modifier) = (Color::Reset, Color::Reset, Modifier::empty());
                }
                for (flag, code) in MODIFIERS {
                    if cell.modifier.contains(flag) && !modifier.contains(flag) {
                        self.frame.extend_from_slice(code);
                    }
                }
                modifier = cell.modifier;
            }
            if cell.fg != fg {
                color(&mut self.frame, cell.fg, true);
                fg = cell.fg;
            }
            if cell.bg != bg {
                color(&mut self.frame, cell.bg, false);
                bg = cell.bg;
            }
            let symbol = cell.symbol();
            self.frame.extend_from_slice(symbol.as_bytes());
            let wide = symbol.width().max(1) as u16;
            self.at = width_is_certain(symbol).then_some((x + wide, y));
        }
        if fg != Color::Reset || bg != Color::Reset || !modifier.is_empty() {
            self.frame.extend_from_slice(b"\x1b[0m");
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.wanted = None;
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.wanted = self.wanted.or(Some((0, 0)));
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // Answered from memory: asking the terminal would put a reply among the keys.
        let (x, y) = self.shown.unwrap_or((0, 0));
        Ok(Position { x, y })
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.wanted = self.wanted.map(|_| (x, y));
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, _: ClearType) -> io::Result<()> {
        self.frame.extend_from_slice(b"\x1b[0m\x1b[2J");
        self.at = None;
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        (self.size)()
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::new(0, 0) })
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.is_empty() && self.wanted == self.shown {
            return Ok(());
        }
        let mut frame = Vec::with_capacity(self.frame.len() + 64);
        frame.extend_from_slice(SYNC_BEGIN);
        if self.shown.is_some() && !self.frame.is_empty() {
            frame.extend_from_slice(b"\x1b[?25l");
        }
        let hidden_now = self.shown.is_none() || !self.frame.is_empty();
        frame.append(&mut self.frame);
        match self.wanted {
            Some((x, y)) => {
                frame.extend_from_slice(format!("\x1b[{};{}H", y + 1, x + 1).as_bytes());
                if hidden_now {
                    frame.extend_from_slice(b"\x1b[?25h");
                }
                self.at = Some((x, y));
            }
            None if !hidden_now => frame.extend_from_slice(b"\x1b[?25l"),
            None => {}
        }
        self.shown = self.wanted;
        frame.extend_from_slice(SYNC_END);
        self.bytes += frame.len() as u64;
        self.out.write_all(&frame)?;
        self.out.flush()
    }
}

/// The real terminal's size.
pub(crate) fn real_size() -> io::Result<Size> {
    terminal::size().map(|(columns, rows)| Size::new(columns, rows))
}

/// What asks the terminal for clicks and the wheel, or gives them back. Plain movement is never asked for: it would
/// wake the client for nothing.
pub(crate) fn mouse(on: bool) -> &'static [u8] {
    if on { b"\x1b[?1000h\x1b[?1006h" } else { b"\x1b[?1006l\x1b[?1000l" }
}

/// Takes the terminal over: raw keys, the alternate screen, pastes in brackets, no cursor, and the mouse when wished.
pub(crate) fn enter(with_mouse: bool) -> io::Result<()> {
    terminal::enable_raw_mode()?;
    execute!(io::stdout(), terminal::EnterAlternateScreen, EnableBracketedPaste, crossterm::cursor::Hide)?;
    if with_mouse { io::stdout().write_all(mouse(true)).and_then(|()| io::stdout().flush()) } else { Ok(()) }
}

/// Gives the terminal back as it was. Safe to call twice.
pub(crate) fn leave() -> io::Result<()> {
    // End a frame that a panic may have cut in the middle, or the terminal would go on holding it back.
    let mut out = io::stdout();
    out.write_all(SYNC_END)?;
    out.write_all(mouse(false))?;
    execute!(out, DisableBracketedPaste, terminal::LeaveAlternateScreen, crossterm::cursor::Show)?;
    terminal::disable_raw_mode()
}

/// Restores the terminal before a panic is printed, so that its text can be read.
pub(crate) fn restore_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = leave();
        before(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    fn backend() -> Terminal<Screenful<Vec<u8>>> {
        Terminal::new(Screenful::new(Vec::new(), || Ok(Size::new(40, 4)))).unwrap()
    }

    #[test]
    fn a_second_draw_of_the_same_picture_writes_nothing() {
        let mut terminal = backend();
        for _ in 0..3 {
            terminal.draw(|f| f.buffer_mut().set_string(0, 0, "训练 loss 1.2", Style::new())).unwrap();
        }
        let once = terminal.backend().bytes();
        terminal.draw(|f| f.buffer_mut().set_string(0, 0, "训练 loss 1.2", Style::new())).unwrap();
        assert_eq!(terminal.backend().bytes(), once);
    }

    #[test]
    fn wide_characters_need_no_cursor_moves_and_a_frame_is_synchronized() {
        let mut terminal = backend();
        terminal.draw(|f| f.buffer_mut().set_string(0, 0, "模型训练数据", Style::new())).unwrap();
        let text = String::from_utf8(terminal.backend().out().clone()).unwrap();
        assert_eq!(text, "\x1b[?2026h\x1b[1;1H模型训练数据\x1b[?2026l");
    }

    #[test]
    fn an_emoji_is_followed_by_an_absolute_move() {
        let mut terminal = backend();
        terminal.draw(|f| f.buffer_mut().set_string(0, 0, "🙂ok", Style::new())).unwrap();
        let text = String::from_utf8(terminal.backend().out().clone()).unwrap();
        assert!(text.contains("🙂\x1b[1;3Hok"), "{text:?}");
    }

    #[test]
    fn the_real_cursor_is_placed_last_and_only_when_it_moved() {
        let mut terminal = backend();
        let draw = |t: &mut Terminal<Screenful<Vec<u8>>>, x: u16| {
            t.draw(|f| {
                f.buffer_mut().set_string(0, 0, "> hi", Style::new());
                f.set_cursor_position((x, 0));
            })
            .unwrap();
        };
        draw(&mut terminal, 4);
        let text = String::from_utf8(terminal.backend().out().clone()).unwrap();
        assert!(text.ends_with("\x1b[1;5H\x1b[?25h\x1b[?2026l"), "{text:?}");
        let before = terminal.backend().bytes();
        draw(&mut terminal, 4);
        assert_eq!(terminal.backend().bytes(), before);
        draw(&mut terminal, 3);
        let text = String::from_utf8(terminal.backend().out()[before as usize..].to_vec()).unwrap();
        assert_eq!(text, "\x1b[?2026h\x1b[1;4H\x1b[?2026l");
    }

    #[test]
    fn a_frame_of_a_full_screen_is_one_write() {
        struct Counting(Vec<usize>);
        impl Write for Counting {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.len());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut terminal = Terminal::new(Screenful::new(Counting(Vec::new()), || Ok(Size::new(200, 50)))).unwrap();
        terminal
            .draw(|f| {
                let Rect { width, height, .. } = f.area();
                for y in 0..height {
                    f.buffer_mut().set_string(0, y, "x".repeat(usize::from(width)), Style::new());
                }
            })
            .unwrap();
        assert_eq!(terminal.backend().out().0.len(), 1);
    }
}
