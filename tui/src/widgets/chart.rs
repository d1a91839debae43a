//! A line chart of a run: raw points, their debiased exponential average, evaluation points, a cursor. Axes do not
//! slide: the range to the right is fixed or grows in jumps, so that a new point touches few cells.

use ratatui::layout::Rect;

use super::canvas::Canvas;
use crate::theme::Token;

/// Cells of the left gutter: five for a number and one for the axis.
const GUTTER: u16 = 6;

/// What is drawn.
pub(crate) struct Chart<'a> {
    /// Points of the main series, by step. Values that are not finite are marked on the bottom axis.
    pub(crate) raw: &'a [(f64, f64)],
    /// Points drawn as `o`, never smoothed.
    pub(crate) marks: &'a [(f64, f64)],
    /// Weight of the past in the average; 0 draws the raw line alone.
    pub(crate) smoothing: f64,
    /// Logarithmic values; ignored when some are not positive.
    pub(crate) log: bool,
    /// Right end of the axis.
    pub(crate) x_end: f64,
    /// Step under the cursor.
    pub(crate) cursor: Option<f64>,
}

/// Debiased exponential average: m ← β·m + (1−β)·v, read as m / (1 − βⁿ). Points that are not finite are left out.
pub(crate) fn average(points: &[(f64, f64)], beta: f64) -> Vec<(f64, f64)> {
    let (mut mean, mut weight) = (0.0, 1.0);
    let finite = points.iter().filter(|(_, v)| v.is_finite());
    finite
        .map(|(x, v)| {
            mean = beta * mean + (1.0 - beta) * v;
            weight *= beta;
            (*x, if beta == 0.0 { *v } else { mean / (1.0 - weight) })
        })
        .collect()
}

/// The right end of an axis that has to hold `step`: grows in jumps of a quarter.
pub(crate) fn axis_end(step: f64) -> f64 {
    let mut end: f64 = 20.0;
    while end < step {
        end = (end * 1.25).ceil();
    }
    end
}

/// From the 1st to the 99th percentile of the values, widened so that they do not stick to the frame.
fn range(values: &[f64]) -> (f64, f64) {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if sorted.is_empty() {
        return (0.0, 1.0);
    }
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (at(0.01), at(0.99));
    let margin = ((high - low) * 0.05).max(high.abs() * 0.05 - (high - low) / 2.0).max(1e-12);
    // What is never negative gets no room below zero.
    let floor = if sorted[0] >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
    ((low - margin).max(floor), high + margin)
}

/// A number in at most five cells.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if !(1e-2..1e5).contains(&size) {
        format!("{value:.0e}")
    } else if size >= 1000.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Dots of a plane of braille cells, 2 by 4 each.
struct Dots {
    width: usize,
    height: usize,
    bits: Vec<u8>,
}

impl Dots {
    fn new(cells: Rect) -> Dots {
        let (width, height) = (usize::from(cells.width), usize::from(cells.height));
        Dots { width, height, bits: vec![0; width * height] }
    }

    fn set(&mut self, x: i64, y: i64) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x >= self.width * 2 || y >= self.height * 4 {
            return;
        }
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        self.bits[y / 4 * self.width + x / 2] |= BITS[y % 4][x % 2];
    }

    fn line(&mut self, from: (i64, i64), to: (i64, i64)) {
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
        for i in 0..=steps {
            self.set(from.0 + (to.0 - from.0) * i / steps, from.1 + (to.1 - from.1) * i / steps);
        }
    }
}

impl Chart<'_> {
    /// Columns that the plane has.
    pub(crate) fn columns(area: Rect) -> u16 {
        area.width.saturating_sub(GUTTER)
    }

    /// Draws axes and lines. Needs at least four rows.
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>, area: Rect) {
        if area.height < 4 || area.width < GUTTER + 4 {
            return;
        }
        let plane = Rect { x: area.x + GUTTER, y: area.y, width: area.width - GUTTER, height: area.height - 2 };
        let log = self.log && self.raw.iter().chain(self.marks).all(|(_, v)| *v > 0.0);
        let scale = |v: f64| if log { v.ln() } else { v };
        let smooth = average(self.raw, self.smoothing);
        let all: Vec<f64> = self.raw.iter().chain(self.marks).map(|(_, v)| scale(*v)).collect();
        let (low, high) = range(&all);
        let place = |x: f64, v: f64| {
            let px = x / self.x_end * f64::from(plane.width * 2 - 1);
            let py = (high - scale(v)) / (high - low) * f64::from(plane.height * 4 - 1);
            (px.round() as i64, py.round().clamp(-1.0, f64::from(plane.height) * 4.0) as i64)
        };
        self.draw_axes(canvas, area, plane, if log { (low.exp(), high.exp()) } else { (low, high) });
        let mut raw = Dots::new(plane);
        for (x, v) in self.raw.iter().filter(|(_, v)| v.is_finite()) {
            let (px, py) = place(*x, *v);
            raw.set(px, py);
        }
        let mut line = Dots::new(plane);
        for pair in smooth.windows(2) {
            line.line(place(pair[0].0, pair[0].1), place(pair[1].0, pair[1].1));
        }
        if let [only] = smooth[..] {
            let (px, py) = place(only.0, only.1);
            line.set(px, py);
        }
        if let Some(cursor) = self.cursor {
            let column = plane.x + (cursor / self.x_end * f64::from(plane.width - 1)).round().max(0.0) as u16;
            for y in plane.y..plane.bottom() {
                canvas.put(column.min(plane.right() - 1), y, 1, canvas.glyphs.cursor, Token::Muted);
            }
        }
        draw_dots(canvas, plane, &raw, &line);
        for (x, v) in self.marks {
            let (px, py) = place(*x, *v);
            let (cx, cy) = (plane.x + (px.max(0) / 2) as u16, plane.y + (py.max(0) / 4) as u16);
            canvas.put(cx.min(plane.right() - 1), cy.min(plane.bottom() - 1), 1, "o", Token::SeriesSecond);
        }
        for (x, _) in self.raw.iter().filter(|(_, v)| !v.is_finite()) {
            let column = plane.x + (place(*x, 1.0).0.max(0) / 2) as u16;
            canvas.put(column.min(plane.right() - 1), plane.bottom(), 1, "N", Token::Error);
        }
    }

    fn draw_axes(&self, canvas: &mut Canvas<'_>, area: Rect, plane: Rect, (low, high): (f64, f64)) {
        let tick = |canvas: &mut Canvas<'_>, y: u16, value: f64| {
            canvas.put_right(area.x + GUTTER - 1, y, GUTTER - 1, &short(value), Token::Muted);
        };
        for y in plane.y..plane.bottom() {
            canvas.put(plane.x - 1, y, 1, canvas.glyphs.bar, Token::Faint);
        }
        let ticks: &[u16] = if plane.height >= 8 { &[0, 1, 2] } else { &[0, 2] };
        for i in ticks {
            let y = plane.y + (plane.height - 1) * i / 2;
            let share = f64::from(y - plane.y) / f64::from((plane.height - 1).max(1));
            canvas.put(plane.x - 1, y, 1, canvas.glyphs.tick, Token::Faint);
            // No numbers before there is a value.
            if self.raw.is_empty() && self.marks.is_empty() {
                continue;
            }
            let value = if self.log && low > 0.0 {
                (high.ln() + (low.ln() - high.ln()) * share).exp()
            } else {
                high + (low - high) * share
            };
            tick(canvas, y, value);
        }
        let rule = canvas.glyphs.rule.repeat(usize::from(plane.width));
        canvas.put(plane.x - 1, plane.bottom(), 1, canvas.glyphs.corner, Token::Faint);
        canvas.put(plane.x, plane.bottom(), plane.width, &rule, Token::Faint);
        let y = plane.bottom() + 1;
        canvas.put(plane.x, y, 2, "0", Token::Muted);
        let end = format!("{:.0}", self.x_end);
        canvas.put_right(plane.right(), y, 8, &end, Token::Muted);
        if plane.width > 30 {
            let middle = format!("{:.0}", self.x_end / 2.0);
            canvas.put(plane.x + plane.width / 2 - middle.len() as u16 / 2, y, 8, &middle, Token::Muted);
        }
    }
}

/// Lines of one series from several runs in one plane. Each carries a letter, so that colour alone tells nothing.
pub(crate) struct Overlay<'a> {
    /// Points of each line, by step.
    pub(crate) lines: Vec<&'a [(f64, f64)]>,
    /// As in [`Chart`].
    pub(crate) smoothing: f64,
    /// As in [`Chart`].
    pub(crate) log: bool,
    /// Right end of the axis.
    pub(crate) x_end: f64,
    /// Step under the cursor.
    pub(crate) cursor: Option<f64>,
}

/// The letter of a compared line.
pub(crate) fn letter(line: usize) -> char {
    char::from(b'a' + (line % 26) as u8)
}

impl Overlay<'_> {
    /// Draws axes, lines and letters. Needs at least four rows.
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>, area: Rect) {
        if area.height < 4 || area.width < GUTTER + 4 {
            return;
        }
        let plane = Rect { x: area.x + GUTTER, y: area.y, width: area.width - GUTTER, height: area.height - 2 };
        let smooth: Vec<Vec<(f64, f64)>> = self.lines.iter().map(|points| average(points, self.smoothing)).collect();
        let all: Vec<(f64, f64)> = smooth.iter().flatten().copied().collect();
        let log = self.log && all.iter().all(|(_, v)| *v > 0.0);
        let scale = |v: f64| if log { v.ln() } else { v };
        let (low, high) = range(&all.iter().map(|(_, v)| scale(*v)).collect::<Vec<_>>());
        let place = |(x, v): (f64, f64)| {
            let px = x / self.x_end * f64::from(plane.width * 2 - 1);
            let py = (high - scale(v)) / (high - low) * f64::from(plane.height * 4 - 1);
            (px.round() as i64, py.round().clamp(0.0, f64::from(plane.height) * 4.0 - 1.0) as i64)
        };
        let axes = Chart { raw: &all, marks: &[], smoothing: 0.0, log, x_end: self.x_end, cursor: None };
        axes.draw_axes(canvas, area, plane, if log { (low.exp(), high.exp()) } else { (low, high) });
        if let Some(cursor) = self.cursor {
            let column = plane.x + (cursor / self.x_end * f64::from(plane.width - 1)).round().max(0.0) as u16;
            for y in plane.y..plane.bottom() {
                canvas.put(column.min(plane.right() - 1), y, 1, canvas.glyphs.cursor, Token::Muted);
            }
        }
        // Where lines cross, a cell shows the dots of all of them in the colour of the last.
        let mut all_dots = Dots::new(plane);
        for (index, points) in smooth.iter().enumerate() {
            let mut dots = Dots::new(plane);
            for pair in points.windows(2) {
                dots.line(place(pair[0]), place(pair[1]));
            }
            draw_line(canvas, plane, &dots, &mut all_dots, index);
        }
        // Letters last, over all lines: in the middle and at the end of each.
        for (index, points) in smooth.iter().enumerate() {
            let middle = points.get(points.len() / 2).filter(|_| points.len() > 8);
            for point in middle.into_iter().chain(points.last()) {
                let (px, py) = place(*point);
                let (x, y) = (plane.x + (px.max(0) / 2) as u16, plane.y + (py.max(0) / 4) as u16);
                let token = Token::Compared(index as u8);
                let sign = letter(index);
                canvas.put(
                    x.min(plane.right() - 1),
                    y.min(plane.bottom() - 1),
                    1,
                    sign.encode_utf8(&mut [0; 4]),
                    token,
                );
            }
        }
    }
}

fn draw_line(canvas: &mut Canvas<'_>, plane: Rect, dots: &Dots, all: &mut Dots, index: usize) {
    for row in 0..plane.height {
        for column in 0..plane.width {
            let at = usize::from(row) * dots.width + usize::from(column);
            if dots.bits[at] == 0 {
                continue;
            }
            all.bits[at] |= dots.bits[at];
            let bits = all.bits[at];
            let braille = char::from_u32(0x2800 + u32::from(bits)).filter(|_| canvas.glyphs.braille);
            let sign = braille.unwrap_or_else(|| letter(index));
            let token = Token::Compared(index as u8);
            canvas.put(plane.x + column, plane.y + row, 1, sign.encode_utf8(&mut [0; 4]), token);
        }
    }
}

fn draw_dots(canvas: &mut Canvas<'_>, plane: Rect, raw: &Dots, line: &Dots) {
    for row in 0..plane.height {
        for column in 0..plane.width {
            let at = usize::from(row) * raw.width + usize::from(column);
            let (behind, front) = (raw.bits[at], line.bits[at]);
            if behind | front == 0 {
                continue;
            }
            let token = if front != 0 { Token::Series } else { Token::Raw };
            let sign = if !canvas.glyphs.braille {
                if front != 0 { '*' } else { '.' }
            } else {
                char::from_u32(0x2800 + u32::from(if front != 0 { front } else { behind })).unwrap_or('*')
            };
            canvas.put(plane.x + column, plane.y + row, 1, sign.encode_utf8(&mut [0; 4]), token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_not_drawn_towards_zero_at_the_start() {
        let points: Vec<(f64, f64)> = (1..=5).map(|i| (f64::from(i), 2.0)).collect();
        for (_, v) in average(&points, 0.9) {
            assert!((v - 2.0).abs() < 1e-12);
        }
        assert_eq!(average(&[(1.0, f64::NAN), (2.0, 3.0)], 0.6).len(), 1);
    }

    #[test]
    fn one_spike_does_not_flatten_the_picture() {
        let mut values = vec![1.0; 300];
        values[7] = 1e6;
        assert!(range(&values).1 < 2.0);
        assert_eq!(range(&[]), (0.0, 1.0));
    }

    #[test]
    fn what_is_never_negative_gets_no_room_below_zero() {
        assert_eq!(range(&[0.0, 1e-6, 2e-3]).0, 0.0);
        assert!(range(&[-1.0, 1.0]).0 < -1.0);
        assert!(range(&[4.0, 5.0]).0 > 3.0);
    }

    #[test]
    fn the_axis_grows_in_jumps() {
        assert_eq!(axis_end(1.0), axis_end(19.0));
        assert!(axis_end(26.0) >= 26.0);
    }

    #[test]
    fn numbers_fit_their_gutter() {
        for v in [0.0, 1.234, 12.34, 1234.5, 2e-4, 1e9, -1.5, f64::NAN] {
            assert!(short(v).len() <= 6, "{}", short(v));
        }
    }
}
