//! Causal grouped-query attention inside documents, forward and backward, in one pass over keys without the
//! probabilities ever being in memory (<https://arxiv.org/abs/2205.14135>): the forward keeps one number per query and
//! head, the logarithm of its softmax's denominator, from which the backward computes the probabilities again.
//!
//! Tokens lie flat, [head_dim, heads, T]; query t sees the keys from `first[t]` to t. K and V are also wanted turned, in panels of 16 keys, so
//! that scores come out 16 at a time. The backward goes once over the scores, a document and a head at a time, and leaves what each query
//! head adds to the gradients of the keys that it shares; a second pass adds those up: so every value is computed by one thread in a
//! fixed order. With P = softmax(s K^T Q), D = sum(dO O): dS = s P (V^T dO - D), dQ = K dS, dK = Q dS^T, dV = dO P^T; where scores z are capped, dS
//! also has the factor 1 - (z / cap)^2.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::slice;

use llama_cpp_sys_2 as sys;

use super::PANEL;
use super::avx2::{self, PlainRun, TILE};
use super::avx512;
use super::math::{self, exp};
use crate::ggml::Work;

/// Queries that are worked on together: two tiles.
const QUERIES: usize = 2 * TILE;
/// Panels of keys whose scores exist at the same time.
const PANELS: usize = 16;
/// Largest head.
pub(super) const HEAD_DIM_MAX: usize = 256;

/// Scores of some queries and keys, or what becomes of them.
type Scores = [[f32; PANELS * PANEL]; QUERIES];
/// Sums over a head for some rows, the head in panels of 16.
type Rows<const N: usize> = [[[f32; PANEL]; N]; HEAD_DIM_MAX / PANEL];

/// What the operations agree on.
#[derive(Clone, Copy)]
struct Shape<'a> {
    head_dim: usize,
    heads: usize,
    kv_heads: usize,
    tokens: usize,
    scale: f32,
    /// c of c tanh(score / c); 0: not capped.
    cap: f32,
    /// Whether [`super::Isa::Avx512`] multiplies.
    wide_registers: bool,
    first: &'a [i32],
}

impl<'a> Shape<'a> {
    /// From Q [head_dim, heads, T], K's panels [16 head_dim, panels, kv_heads], the first keys and the flags.
    unsafe fn of(q: &sys::ggml_tensor, turned: &sys::ggml_tensor, first: &'a sys::ggml_tensor, flags: usize) -> Self {
        let tokens = q.ne[2] as usize;
        Shape {
            head_dim: q.ne[0] as usize,
            heads: q.ne[1] as usize,
            kv_heads: turned.ne[2] as usize,
            tokens,
            scale: f32::from_bits(flags as u32),
            cap: f32::from_bits((flags >> 32) as u32).abs(),
            wide_registers: f32::from_bits((flags >> 32) as u32).is_sign_negative(),
            // SAFETY: the caller passes the I32 tensor of T values.
            first: unsafe { slice::from_raw_parts(first.data.cast(), tokens) },
        }
    }

    fn panels(&self) -> usize {
        self.tokens.div_ceil(PANEL)
    }

    /// Values from one token's queries to the next.
    fn query_stride(&self) -> usize {
        self.heads * self.head_dim
    }

    fn key_stride(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Keys that query `t` sees.
    fn keys(&self, t: usize) -> Range<usize> {
        self.first[t] as usize..t + 1
    }

    /// Runs of tokens that see none before and are seen by none behind.
    fn documents(&self) -> impl Iterator<Item = Range<usize>> {
        let begins = |t: usize| self.first[t] as usize == t;
        (0..self.tokens)
            .filter(move |&t| begins(t))
            .map(move |start| start..(start + 1..self.tokens).find(|&t| begins(t)).unwrap_or(self.tokens))
    }

    /// In the result of [`backward`], what query head `head` adds to the gradients of keys (0) or values (1): panel `part` of the
    /// head, for some tokens.
    ///
    /// # Safety
    /// `result` is that node's memory, and nobody else uses this part of it.
    unsafe fn added<'b>(
        &self,
        result: *mut f32,
        kind: usize,
        head: usize,
        part: usize,
        tokens: Range<usize>,
    ) -> &'b mut [[f32; PANEL]] {
        let panels = self.head_dim / PANEL;
        let row = ((1 + kind) * self.heads + head) * panels * self.tokens + part * self.tokens + tokens.start;
        // SAFETY: the caller's part lies inside the memory.
        unsafe { slice::from_raw_parts_mut(result.add(row * PANEL).cast(), tokens.len()) }
    }

    /// Factor that is left on scores after [`Shape::cap`].
    fn factor(&self) -> f32 {
        if self.cap > 0.0 { 1.0 } else { self.scale }
    }

    /// Scales and caps scores where the model caps them.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn cap(&self, scores: &mut [[f32; PANEL]]) {
        if self.cap > 0.0 {
            let (inner, cap) = (2.0 * self.scale / self.cap, self.cap);
            // tanh(x) = 1 - 2 / (1 + e^2x)
            scores
                .as_flattened_mut()
                .iter_mut()
                .for_each(|score| *score = cap - 2.0 * cap / (1.0 + exp(*score * inner)));
        }
    }

    /// Slope of the cap at a score that has gone through it.
    #[inline(always)]
    fn bend(&self, score: f32) -> f32 {
        if self.cap > 0.0 { 1.0 - (score / self.cap) * (score / self.cap) } else { 1.0 }
    }

    /// Panels that some queries see.
    fn panels_of(&self, queries: Range<usize>) -> Range<usize> {
        let first = queries.clone().map(|t| self.keys(t).start).min().unwrap_or(0);
        first / PANEL..queries.end.div_ceil(PANEL)
    }
}

/// Address of the panel `panel` of key head `head` in a turned tensor.
unsafe fn panel_of(shape: &Shape<'_>, turned: *const f32, head: usize, panel: usize) -> *const f32 {
    // SAFETY: the caller names a panel that exists.
    unsafe { turned.add((head * shape.panels() + panel) * PANEL * shape.head_dim) }
}

/// ggml's entry: A [head_dim, kv_heads, T] -> its panels [16 head_dim, panels, kv_heads], zeros behind the last token.
pub(super) unsafe extern "C" fn turn(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `attention_panels` from a contiguous tensor; workers write disjoint panels.
    unsafe {
        let (dst, a, work) = (&*dst, &*(*dst).src[0], Work::of(data));
        let [head_dim, heads, tokens] = [a.ne[0], a.ne[1], a.ne[2]].map(|n| n as usize);
        let panels = dst.ne[1] as usize;
        let source: *const f32 = a.data.cast();
        for unit in work.units(heads * panels, nth) {
            let (head, panel) = (unit / panels, unit % panels);
            let out = slice::from_raw_parts_mut(dst.data.cast::<f32>().add(unit * PANEL * head_dim), PANEL * head_dim);
            out.fill(0.0);
            for at in 0..PANEL.min(tokens - panel * PANEL) {
                let row = source.add(((panel * PANEL + at) * heads + head) * head_dim);
                for (step, value) in slice::from_raw_parts(row, head_dim).iter().enumerate() {
                    out[step * PANEL + at] = *value;
                }
            }
        }
    }
}

/// Products of a panel of keys with some queries, unscaled: `out[query][16]`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn scores_of_panel(
    shape: &Shape<'_>,
    panel: *const f32,
    queries: *const f32,
    count: usize,
    out: &mut [[f32; PANEL]],
) {
    let run = PlainRun {
        matrix: panel,
        matrix_step: PANEL * size_of::<f32>(),
        columns: queries,
        step: 1,
        column_stride: shape.query_stride(),
        len: shape.head_dim,
    };
    out[..count].fill([0.0; PANEL]);
    // SAFETY: the panel has head_dim runs of 16 keys, the queries head_dim values each.
    unsafe { add_rows(shape.wide_registers, run, &mut out[..count]) };
}

/// `sums` += the product of a run, a column for each.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_rows(wide_registers: bool, run: PlainRun, sums: &mut [[f32; PANEL]]) {
    let mut done = 0;
    while done < sums.len() {
        let columns = run.columns.wrapping_add(done * run.column_stride);
        // SAFETY: as the caller says; the features were detected before the node was made.
        unsafe {
            let sums = &mut sums[done..];
            if wide_registers && sums.len() >= avx512::TILE {
                avx512::rows(&PlainRun { columns, ..run }, sums.as_mut_ptr().cast());
                done += avx512::TILE;
            } else {
                let count = TILE.min(sums.len());
                avx2::plain(&PlainRun { columns, ..run }, count, sums.as_mut_ptr().cast());
                done += count;
            }
        }
    }
}

/// `sums[part][row]` += rows of `matrix` (tokens `stride` values apart) weighted by `weights`, one row of weights per
/// sum, `step` values from token to token and `row_stride` from row to row.
struct Weighted {
    wide_registers: bool,
    matrix: *const f32,
    stride: usize,
    weights: *const f32,
    step: usize,
    row_stride: usize,
    tokens: usize,
}

impl Weighted {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add_to<const N: usize>(&self, head_dim: usize, rows: usize, sums: &mut Rows<N>) {
        for (part, sums) in sums[..head_dim / PANEL].iter_mut().enumerate() {
            let run = PlainRun {
                matrix: self.matrix.wrapping_add(part * PANEL),
                matrix_step: self.stride * size_of::<f32>(),
                columns: self.weights,
                step: self.step,
                column_stride: self.row_stride,
                len: self.tokens,
            };
            // SAFETY: the matrix has `tokens` rows of head_dim values, the weights a value for each and row.
            unsafe { add_rows(self.wide_registers, run, &mut sums[..rows]) };
        }
    }
}

/// ggml's entry. Operands: Q, panels of K, V, first keys. The destination gets O [head_dim, heads, T], then the
/// logarithms [heads, T].
pub(super) unsafe extern "C" fn forward(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `attention` from contiguous F32 tensors of fitting shapes; a unit writes the output
    // of its own queries and head only. The features were detected before the node was made.
    unsafe {
        let (dst, work) = (&*dst, Work::of(data));
        let operand = |index: usize| &*dst.src[index];
        let shape = Shape::of(operand(0), operand(1), operand(3), work.flags);
        let [q, turned, v]: [*const f32; 3] = [0, 1, 2].map(|index| operand(index).data.cast_const().cast());
        let out: *mut f32 = dst.data.cast();
        let logs = out.add(shape.tokens * shape.query_stride());
        let blocks = shape.tokens.div_ceil(QUERIES);
        for unit in work.units(shape.heads * blocks, nth) {
            let (head, block) = (unit / blocks, unit % blocks);
            let queries = block * QUERIES..shape.tokens.min((block + 1) * QUERIES);
            forward_unit(&shape, head, queries, [q, turned, v], out, logs);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn forward_unit(
    shape: &Shape<'_>,
    head: usize,
    queries: Range<usize>,
    [q, turned, v]: [*const f32; 3],
    out: *mut f32,
    logs: *mut f32,
) {
    let (count, kv_head) = (queries.len(), head * shape.kv_heads / shape.heads);
    let mut scores: Scores = [[0.0; PANELS * PANEL]; QUERIES];
    let mut sums: Rows<QUERIES> = [[[0.0; PANEL]; QUERIES]; HEAD_DIM_MAX / PANEL];
    let (mut largest, mut total) = ([f32::NEG_INFINITY; QUERIES], [0.0f32; QUERIES]);
    let visible = shape.panels_of(queries.clone());
    for begin in visible.clone().step_by(PANELS) {
        let panels = begin..visible.end.min(begin + PANELS);
        // SAFETY: tokens, heads and panels exist; see `forward`.
        unsafe {
            let columns = q.add(queries.start * shape.query_stride() + head * shape.head_dim);
            score_panels(shape, kv_head, panels.clone(), turned, columns, count, true, &mut scores);
            for (row, t) in queries.clone().enumerate() {
                let keys = shape.keys(t);
                let part = window_of(&keys, begin * PANEL, panels.len() * PANEL);
                let row_scores = &mut scores[row][..panels.len() * PANEL];
                let next = (math::largest(&row_scores[part.clone()]) * shape.factor()).max(largest[row]);
                // Scores that are no numbers are lost here but not on the sum below.
                let shrink = if next == largest[row] { 1.0 } else { exp(largest[row] - next) };
                largest[row] = next;
                row_scores[..part.start].fill(0.0);
                row_scores[part.end..].fill(0.0);
                for score in &mut row_scores[part.clone()] {
                    *score = exp(*score * shape.factor() - next);
                }
                total[row] = total[row] * shrink + math::sum(&row_scores[part]);
                if shrink != 1.0 {
                    for part in &mut sums[..shape.head_dim / PANEL] {
                        part[row].iter_mut().for_each(|value| *value *= shrink);
                    }
                }
            }
            let tokens = (panels.len() * PANEL).min(shape.tokens - begin * PANEL);
            let values = Weighted {
                wide_registers: shape.wide_registers,
                matrix: v.add(begin * PANEL * shape.key_stride() + kv_head * shape.head_dim),
                stride: shape.key_stride(),
                weights: scores.as_ptr().cast(),
                step: 1,
                row_stride: PANELS * PANEL,
                tokens,
            };
            values.add_to(shape.head_dim, count, &mut sums);
        }
    }
    for (row, t) in queries.enumerate() {
        // SAFETY: the place of query and head in the output.
        unsafe {
            *logs.add(t * shape.heads + head) = largest[row] + total[row].ln();
            let out = out.add(t * shape.query_stride() + head * shape.head_dim);
            for (part, sums) in sums[..shape.head_dim / PANEL].iter().enumerate() {
                for (at, value) in sums[row].iter().enumerate() {
                    *out.add(part * PANEL + at) = value / total[row];
                }
            }
        }
    }
}

/// The part of `len` keys from `begin` on that lies in `keys`, counted from `begin`.
fn window_of(keys: &Range<usize>, begin: usize, len: usize) -> Range<usize> {
    let start = keys.start.clamp(begin, begin + len) - begin;
    start..(keys.end.clamp(begin, begin + len) - begin).max(start)
}

/// Products of the keys of some panels with some queries: `out[query][key]`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn score_panels(
    shape: &Shape<'_>,
    kv_head: usize,
    panels: Range<usize>,
    turned: *const f32,
    columns: *const f32,
    count: usize,
    capped: bool,
    out: &mut Scores,
) {
    let mut tile = [[0.0; PANEL]; QUERIES];
    for (index, panel) in panels.enumerate() {
        // SAFETY: as the caller says.
        unsafe { scores_of_panel(shape, panel_of(shape, turned, kv_head, panel), columns, count, &mut tile) };
        if capped {
            shape.cap(&mut tile[..count]);
        }
        for (row, tile) in out.iter_mut().zip(&tile).take(count) {
            row[index * PANEL..][..PANEL].copy_from_slice(tile);
        }
    }
}

/// What the two passes of the backward read.
#[derive(Clone, Copy)]
struct Backward<'a> {
    shape: Shape<'a>,
    q: *const f32,
    k: *const f32,
    k_panels: *const f32,
    v_panels: *const f32,
    /// O and then the logarithms.
    forward: *const f32,
    d_out: *const f32,
}

impl<'a> Backward<'a> {
    /// Operands: Q, K, panels of K, panels of V, the forward's result, its gradient, first keys.
    unsafe fn of(dst: &'a sys::ggml_tensor, flags: usize) -> Backward<'a> {
        // SAFETY: both nodes are made with these operands.
        unsafe {
            let operand = |index: usize| &*dst.src[index];
            let values = |index: usize| operand(index).data.cast_const().cast();
            Backward {
                shape: Shape::of(operand(0), operand(2), operand(6), flags),
                q: values(0),
                k: values(1),
                k_panels: values(2),
                v_panels: values(3),
                forward: values(4),
                d_out: values(5),
            }
        }
    }

    unsafe fn log(&self, t: usize, head: usize) -> f32 {
        // SAFETY: the logarithms lie behind O.
        unsafe { *self.forward.add(self.shape.tokens * self.shape.query_stride() + t * self.shape.heads + head) }
    }

    /// Place of a token's head among queries.
    fn query(&self, t: usize, head: usize) -> usize {
        t * self.shape.query_stride() + head * self.shape.head_dim
    }
}

/// ggml's entry. The destination gets dQ [head_dim, heads, T], then what each query head adds to the gradients of its keys, in
/// panels of 16 values of the head: [16, T, head_dim / 16, heads], then the same for its values.
pub(super) unsafe extern "C" fn backward(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: as in `forward`; a unit writes what belongs to its tokens and head only.
    unsafe {
        let (dst, work) = (&*dst, Work::of(data));
        let back = Backward::of(dst, work.flags);
        let documents = back.shape.documents().count();
        for unit in work.units(documents * back.shape.heads, nth) {
            let document = back.shape.documents().nth(unit / back.shape.heads).expect("it was counted");
            backward_unit(&back, unit % back.shape.heads, document, dst.data.cast());
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn backward_unit(back: &Backward<'_>, head: usize, document: Range<usize>, out: *mut f32) {
    let shape = &back.shape;
    let kv_head = head * shape.kv_heads / shape.heads;
    let mut scores: Scores = [[0.0; PANELS * PANEL]; QUERIES];
    let mut slopes: Scores = [[0.0; PANELS * PANEL]; QUERIES];
    // SAFETY: tokens, heads and panels exist; see `forward`.
    unsafe {
        for part in 0..shape.head_dim / PANEL {
            for kind in 0..2 {
                shape.added(out, kind, head, part, document.clone()).fill([0.0; PANEL]);
            }
        }
        for begin in document.clone().step_by(QUERIES) {
            let queries = begin..document.end.min(begin + QUERIES);
            let (count, place) = (queries.len(), back.query(begin, head));
            let mut sums: Rows<QUERIES> = [[[0.0; PANEL]; QUERIES]; HEAD_DIM_MAX / PANEL];
            let visible = shape.panels_of(queries.clone());
            for first in visible.clone().step_by(PANELS) {
                let panels = first..visible.end.min(first + PANELS);
                back.probabilities_and_slopes(head, kv_head, queries.clone(), panels.clone(), &mut scores, &mut slopes);
                let keys = first * PANEL..(panels.end * PANEL).min(shape.tokens);
                let of_keys = Weighted {
                    wide_registers: shape.wide_registers,
                    matrix: back.k.add(keys.start * shape.key_stride() + kv_head * shape.head_dim),
                    stride: shape.key_stride(),
                    weights: slopes.as_ptr().cast(),
                    step: 1,
                    row_stride: PANELS * PANEL,
                    tokens: keys.len(),
                };
                of_keys.add_to(shape.head_dim, count, &mut sums);
                let own = keys.start.max(document.start)..keys.end.min(queries.end);
                for (kind, (matrix, weights)) in [(back.q, &slopes), (back.d_out, &scores)].into_iter().enumerate() {
                    for part in 0..shape.head_dim / PANEL {
                        let run = PlainRun {
                            matrix: matrix.add(place + part * PANEL),
                            matrix_step: shape.query_stride() * size_of::<f32>(),
                            columns: weights[0].as_ptr().add(own.start - keys.start),
                            step: PANELS * PANEL,
                            column_stride: 1,
                            len: count,
                        };
                        add_rows(shape.wide_registers, run, shape.added(out, kind, head, part, own.clone()));
                    }
                }
            }
            for (row, t) in queries.enumerate() {
                for (part, sums) in sums[..shape.head_dim / PANEL].iter().enumerate() {
                    out.add(back.query(t, head) + part * PANEL).cast::<[f32; PANEL]>().write_unaligned(sums[row]);
                }
            }
        }
    }
}

impl Backward<'_> {
    /// Of some queries and the keys of some panels: probabilities, and the gradients of scores; zero where a query does not
    /// see a key.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn probabilities_and_slopes(
        &self,
        head: usize,
        kv_head: usize,
        queries: Range<usize>,
        panels: Range<usize>,
        scores: &mut Scores,
        slopes: &mut Scores,
    ) {
        let (shape, place, count) = (&self.shape, self.query(queries.start, head), queries.len());
        // SAFETY: tokens, heads and panels exist; see `forward`.
        unsafe {
            let (q, d_out) = (self.q.add(place), self.d_out.add(place));
            score_panels(shape, kv_head, panels.clone(), self.k_panels, q, count, true, scores);
            score_panels(shape, kv_head, panels.clone(), self.v_panels, d_out, count, false, slopes);
            for (row, t) in queries.enumerate() {
                let [o, d_o] = [self.forward, self.d_out]
                    .map(|base| slice::from_raw_parts(base.add(self.query(t, head)), shape.head_dim));
                let (shared, log, len) = (math::dot(o, d_o), self.log(t, head), panels.len() * PANEL);
                let part = window_of(&shape.keys(t), panels.start * PANEL, len);
                for values in [&mut scores[row], &mut slopes[row]] {
                    values[..part.start].fill(0.0);
                    values[part.end..len].fill(0.0);
                }
                for (slope, score) in slopes[row][part.clone()].iter_mut().zip(&mut scores[row][part]) {
                    let probability = exp(*score * shape.factor() - log);
                    *slope = shape.scale * shape.bend(*score) * probability * (*slope - shared);
                    *score = probability;
                }
            }
        }
    }
}

/// Tokens of a unit of [`fold_keys`].
const FOLD: usize = 16;

/// ggml's entry. Operands: Q, K, the result of [`backward`]. The destination gets dK [head_dim, kv_heads, T], then dV: the
/// sums over the query heads that share a key head, in their order.
pub(super) unsafe extern "C" fn fold_keys(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node is made with these operands; a unit writes what belongs to its tokens only.
    unsafe {
        let (dst, work) = (&*dst, Work::of(data));
        let [q, k, added] = [0, 1, 2].map(|index| &*dst.src[index]);
        let shape = Shape {
            head_dim: q.ne[0] as usize,
            heads: q.ne[1] as usize,
            kv_heads: k.ne[1] as usize,
            tokens: q.ne[2] as usize,
            scale: 0.0,
            cap: 0.0,
            wide_registers: false,
            first: &[],
        };
        let (group, out): (usize, *mut f32) = (shape.heads / shape.kv_heads, dst.data.cast());
        for unit in work.units(shape.tokens.div_ceil(FOLD), nth) {
            let tokens = unit * FOLD..shape.tokens.min((unit + 1) * FOLD);
            for (kind, kv_head) in [0, 1].into_iter().flat_map(|kind| (0..shape.kv_heads).map(move |head| (kind, head)))
            {
                for part in 0..shape.head_dim / PANEL {
                    let of_head = |head: usize| shape.added(added.data.cast(), kind, head, part, tokens.clone());
                    let mut sums = [[0.0f32; PANEL]; FOLD];
                    for head in kv_head * group..(kv_head + 1) * group {
                        for (sum, more) in sums.as_flattened_mut().iter_mut().zip(of_head(head).as_flattened()) {
                            *sum += more;
                        }
                    }
                    for (t, sum) in tokens.clone().zip(sums) {
                        let place = (kind * shape.tokens + t) * shape.key_stride();
                        out.add(place + kv_head * shape.head_dim + part * PANEL)
                            .cast::<[f32; PANEL]>()
                            .write_unaligned(sum);
                    }
                }
            }
        }
    }
}
