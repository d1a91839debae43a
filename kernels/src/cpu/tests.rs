//! The kernels against plain loops, for shapes with every kind of remainder and on one and two threads.

use std::cell::RefCell;

use super::panels::pack_block;
use crate::arch::Activation;

use super::trial::for_each_isa;
use super::{
    Isa, PANEL, Packing, Scratch, Sight, Term, Width, add_outer, attention, attention_back, gated_back, geglu, norm,
    norm_back, packed_form, stored, sum_of_products,
};
use crate::ggml::{self, Backend, Context, F32, Graph, GraphMemory, I32, Q4_0, Q4_1, Q4_K, Tensor, Type};

/// Values in [-1, 1).
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7919 + seed * 104_729 + at * at % 977) % 256) as f32 / 128.0 - 1.0).collect()
}

/// Writes `matrix` [outputs, inner], outputs contiguous, as panels, and returns what the panels hold.
fn write_packed(width: Width, tensor: Tensor, matrix: &[f32], outputs: usize, inner: usize) -> Vec<f32> {
    let mut held = vec![0.0; outputs * inner];
    for panel in 0..outputs / PANEL {
        let mut bytes = vec![0; width.panel_bytes(inner)];
        let steps: Vec<f32> =
            (0..inner).flat_map(|step| matrix[step * outputs + panel * PANEL..][..PANEL].to_vec()).collect();
        for (block, steps) in steps.chunks(width.block() * PANEL).enumerate() {
            let (numbers_at, scales_at) = width.block_places(inner, 0, block);
            let (numbers, scales) = bytes.split_at_mut(inner * width.step_bytes());
            let scales = &mut scales[scales_at - numbers.len()..][..width.block_scales() * size_of::<f32>()];
            pack_block(width, steps, &mut numbers[numbers_at..][..steps.len() / PANEL * width.step_bytes()], scales);
        }
        tensor.write_bytes(&bytes, panel * bytes.len());
        let (numbers, scales) = bytes.split_at(inner * width.step_bytes());
        let number = |step: usize, output: usize| match width {
            Width::Wide => {
                let at = 4 * PANEL * (step / 2) + 4 * output + step % 2 * 2;
                f32::from(i16::from_le_bytes([numbers[at], numbers[at + 1]]))
            }
            Width::Octet | Width::LongOctet => {
                f32::from(numbers[4 * PANEL * (step / 4) + 4 * output + step % 4]) - 128.0
            }
            _ => f32::from(numbers[2 * PANEL * (step / 2) + 2 * output + step % 2] as i8),
        };
        let scale = |step: usize, place: usize| {
            let at = (step / width.block() * width.block_scales() + place) * size_of::<f32>();
            f32::from_le_bytes(scales[at..][..4].try_into().unwrap())
        };
        for (step, output) in (0..inner).flat_map(|step| (0..PANEL).map(move |output| (step, output))) {
            held[step * outputs + panel * PANEL + output] = number(step, output) * scale(step, output);
        }
    }
    held
}

/// What stored columns of `inner` steps hold.
fn held_by_columns(width: Width, bytes: &[u8], inner: usize) -> Vec<f32> {
    let column = |bytes: &[u8]| -> Vec<f32> {
        let (steps, scales) = bytes.split_at(width.column_step() * inner);
        let scale_at = |step: usize| step / width.block() * width.column_scales() * 4;
        let scale = |step: usize| f32::from_le_bytes(scales[scale_at(step)..][..4].try_into().unwrap());
        let value = |step: usize| match width {
            Width::Nibble | Width::Octet | Width::LongOctet => f32::from(steps[step] as i8),
            _ => f32::from(i16::from_le_bytes([steps[2 * step], steps[2 * step + 1]])),
        };
        (0..inner).map(|step| value(step) * scale(step)).collect()
    };
    bytes.chunks_exact(width.column_bytes(inner)).flat_map(column).collect()
}

/// Plain loops: M [outputs, inner] times X given as a function of (inner, column).
fn naive(m: &[f32], outputs: usize, inner: usize, columns: usize, x: &dyn Fn(usize, usize) -> f32) -> Vec<f64> {
    let mut out = vec![0.0; outputs * columns];
    for column in 0..columns {
        for step in 0..inner {
            for output in 0..outputs {
                out[column * outputs + output] += f64::from(m[step * outputs + output]) * f64::from(x(step, column));
            }
        }
    }
    out
}

fn compute(threads: usize, graph: &Graph, result: Tensor) -> Vec<f32> {
    let backend = Backend::cpu(threads).unwrap();
    graph.keep(result);
    graph.run(result);
    let _memory = GraphMemory::new(&backend, graph).unwrap();
    backend.compute(graph).unwrap();
    result.to_vec()
}

/// Every value of `held` is within `share` of the largest magnitude, which is about 1, of `original`.
fn close_within(held: &[f32], original: &[f32], share: f32) {
    assert_eq!(held.len(), original.len());
    for (at, (held, original)) in held.iter().zip(original).enumerate() {
        assert!((held - original).abs() <= share, "value {at}: {held} for {original}");
    }
}

fn close(ours: &[f32], exact: &[f64]) {
    assert_eq!(ours.len(), exact.len());
    for (at, (ours, exact)) in ours.iter().zip(exact).enumerate() {
        assert!(
            (f64::from(*ours) - exact).abs() < 2e-5 * (10.0 + exact.abs()),
            "value {at}: {ours} instead of {exact}"
        );
    }
}

#[test]
fn sums_of_packed_and_plain_terms_equal_plain_loops() {
    let wide = RefCell::new(Vec::new());
    for_each_isa(|isa| {
        wide.borrow_mut().push(sums_of_width(Width::Wide));
        for &width in rounded_widths(isa) {
            sums_of_width(width);
        }
    });
    assert!(wide.borrow().windows(2).all(|two| two[0] == two[1]), "instructions change no bit of the same panels");
}

/// Widths of 8 bits that an instruction set multiplies.
fn rounded_widths(isa: Isa) -> &'static [Width] {
    if isa == Isa::Avx512 { &[Width::Octet, Width::LongOctet] } else { &[Width::Narrow] }
}

/// Checks the sums of several shapes and returns them.
fn sums_of_width(width: Width) -> Vec<Vec<f32>> {
    let shapes: [(usize, usize, usize, usize); 6] =
        [(16, 2, 1, 1), (48, 38, 3, 13), (64, 3000, 8, 70), (160, 64, 8, 5), (32, 384, 4, 200), (16, 130, 2, 385)];
    let sums = shapes.into_iter().map(|(outputs, inner, rank, columns)| {
        // Octets come in fours, and so does what can be packed.
        let bytes = matches!(width, Width::Octet | Width::LongOctet);
        let inner = if bytes { inner.next_multiple_of(PANEL) } else { inner };
        let mut results = Vec::new();
        for threads in [1, 2, 3] {
            let backend = Backend::cpu(threads).unwrap();
            let context = Context::new(8, 0).unwrap();
            let (kind, dims) = packed_form(width, outputs, inner);
            let w = context.tensor(kind, &dims);
            let (x, l, u, start) = (
                context.tensor(F32, &[inner, columns]),
                context.tensor(F32, &[outputs, rank]),
                context.tensor(F32, &[rank, columns]),
                context.tensor(F32, &[outputs, columns]),
            );
            let _buffer = backend.allocate(&context, "a test").unwrap();
            let m = values(outputs * inner, 1);
            let held = write_packed(width, w, &m, outputs, inner);
            close_within(&held, &m, if width == Width::Wide { 1.0 / 4000.0 } else { 1.0 / 250.0 });
            let [xv, lv, uv, sv] = [(x, 2), (l, 3), (u, 4), (start, 5)].map(|(tensor, seed)| {
                let v = values(tensor.elements(), seed);
                tensor.write(&v);
                v
            });
            let graph = Graph::new(8).unwrap();
            let stored = stored(&graph, x, width);
            graph.keep(stored);
            let terms = [Term { matrix: w, columns: stored }, Term { matrix: l, columns: u }];
            let sum = sum_of_products(&graph, [outputs, columns, 1, 1], Some(start), &terms);
            graph.keep(sum);
            graph.run(sum);
            let _memory = GraphMemory::new(&backend, &graph).unwrap();
            backend.compute(&graph).unwrap();
            let ours: Vec<f32> = sum.to_vec();
            let xh = held_by_columns(width, &stored.to_bytes(), inner);
            close_within(&xh, &xv, if bytes { 1.0 / 250.0 } else { 1.0 / 16_000.0 });
            let first = naive(&held, outputs, inner, columns, &|step, column| xh[column * inner + step]);
            let second = naive(&lv, outputs, rank, columns, &|step, column| uv[column * rank + step]);
            let exact: Vec<f64> =
                first.iter().zip(&second).zip(&sv).map(|((a, b), start)| a + b + f64::from(*start)).collect();
            close(&ours, &exact);
            results.push(ours);
        }
        assert!(results.iter().all(|result| *result == results[0]), "threads change no bit");
        results.swap_remove(0)
    });
    sums.collect()
}

/// Random rows [inner, outputs] as a file stores them in `kind`, written as nibbles, and what these are, outputs contiguous.
fn write_nibbles(kind: Type, tensor: Tensor, outputs: usize, inner: usize) -> Vec<f32> {
    let rows = values(outputs * inner, 1);
    let mut stored = vec![0; ggml::row_bytes(kind, inner) * outputs];
    ggml::encode(kind, &rows, inner, &mut stored);
    let mut decoded = vec![0.0; rows.len()];
    ggml::decode(kind, &stored, &mut decoded);
    let packing = Packing { kind, input: inner, output: outputs, width: Width::Nibble, transposed: false };
    let mut scratch = Scratch::new();
    for (panel, rows) in stored.chunks(PANEL * ggml::row_bytes(kind, inner)).enumerate() {
        packing.pack(rows, panel * PANEL, &mut scratch, |place, bytes| tensor.write_bytes(bytes, place));
    }
    (0..inner)
        .flat_map(|step| (0..outputs).map(move |output| (step, output)))
        .map(|(s, o)| decoded[o * inner + s])
        .collect()
}

#[test]
fn products_of_nibbles_equal_plain_loops_and_are_exact_in_the_weights() {
    let results = RefCell::new(Vec::new());
    for_each_isa(|_| results.borrow_mut().push(products_of_nibbles()));
    assert!(results.borrow().windows(2).all(|two| two[0] == two[1]), "instructions change no bit of the same panels");
}

/// Checks the products of several shapes and types and returns them.
fn products_of_nibbles() -> Vec<Vec<f32>> {
    let mut products = Vec::new();
    let shapes: [(usize, usize, usize); 5] =
        [(16, 32, 1), (48, 96, 13), (64, 3072, 70), (32, 5120, 200), (16, 256, 385)];
    for (kind, (outputs, inner, columns)) in
        [Q4_0, Q4_1, Q4_K].into_iter().flat_map(|kind| shapes.map(|shape| (kind, shape)))
    {
        if !inner.is_multiple_of(ggml::block_elements(kind)) {
            continue;
        }
        let mut results = Vec::new();
        for threads in [1, 2, 3] {
            let backend = Backend::cpu(threads).unwrap();
            let context = Context::new(8, 0).unwrap();
            let (packed, dims) = packed_form(Width::Nibble, outputs, inner);
            let w = context.tensor(packed, &dims);
            let (x, start) = (context.tensor(F32, &[inner, columns]), context.tensor(F32, &[outputs, columns]));
            let _buffer = backend.allocate(&context, "a test").unwrap();
            let held = write_nibbles(kind, w, outputs, inner);
            let (xv, sv) = (values(inner * columns, 2), values(outputs * columns, 5));
            x.write(&xv);
            start.write(&sv);
            let graph = Graph::new(8).unwrap();
            let stored = stored(&graph, x, Width::Nibble);
            graph.keep(stored);
            let sum =
                sum_of_products(&graph, [outputs, columns, 1, 1], Some(start), &[Term { matrix: w, columns: stored }]);
            graph.keep(sum);
            graph.run(sum);
            let _memory = GraphMemory::new(&backend, &graph).unwrap();
            backend.compute(&graph).unwrap();
            let xh = held_by_columns(Width::Nibble, &stored.to_bytes(), inner);
            close_within(&xh, &xv, 1.0 / 250.0);
            let exact = naive(&held, outputs, inner, columns, &|step, column| xh[column * inner + step]);
            let exact: Vec<f64> = exact.iter().zip(&sv).map(|(a, start)| a + f64::from(*start)).collect();
            let ours: Vec<f32> = sum.to_vec();
            close(&ours, &exact);
            results.push(ours);
        }
        assert!(results.iter().all(|result| *result == results[0]), "threads change no bit");
        products.push(results.swap_remove(0));
    }
    products
}

#[test]
fn values_that_are_no_numbers_reach_the_sums() {
    for_each_isa(|isa| {
        for bad in [f32::NAN, f32::INFINITY] {
            for &width in rounded_widths(isa).iter().chain(&[Width::Wide, Width::Nibble]) {
                a_bad_value_reaches_the_sums(bad, width);
            }
        }
    });
}

fn a_bad_value_reaches_the_sums(bad: f32, width: Width) {
    let backend = Backend::cpu(1).unwrap();
    let context = Context::new(2, 0).unwrap();
    let (kind, dims) = packed_form(width, 16, 256);
    let w = context.tensor(kind, &dims);
    let x = context.tensor(F32, &[256, 2]);
    let _buffer = backend.allocate(&context, "a test").unwrap();
    match width {
        Width::Nibble => write_nibbles(Q4_1, w, 16, 256),
        _ => write_packed(width, w, &values(16 * 256, 1), 16, 256),
    };
    let mut columns = values(512, 2);
    columns[256 + 200] = bad;
    x.write(&columns);
    let graph = Graph::new(4).unwrap();
    let term = Term { matrix: w, columns: stored(&graph, x, width) };
    let ours = compute(1, &graph, sum_of_products(&graph, [16, 2, 1, 1], None, &[term]));
    assert!(ours[..16].iter().all(|value| value.is_finite()) && !ours[16..].iter().any(|value| value.is_finite()));
}

#[test]
fn norms_and_their_gradients_equal_the_formula() {
    let eps = 1e-5;
    for (width, heads, tokens) in [(576, 1, 19), (64, 3, 5), (50, 1, 1), (16, 2, 70)] {
        let backend = Backend::cpu(2).unwrap();
        let context = Context::new(8, 0).unwrap();
        let [x, dy, more] = [(); 3].map(|()| context.tensor(F32, &[width, heads, tokens]));
        let weight = context.tensor(F32, &[width]);
        let _buffer = backend.allocate(&context, "a test").unwrap();
        let [xv, dv, mv, wv] = [(x, 1), (dy, 2), (more, 3), (weight, 4)].map(|(tensor, seed)| {
            let v = values(tensor.elements(), seed);
            tensor.write(&v);
            v
        });
        let graph = Graph::new(8).unwrap();
        let all = [
            norm(&graph, x, weight, eps),
            norm_back(&graph, dy, x, weight, None, eps),
            norm_back(&graph, dy, x, weight, Some(more), eps),
        ];
        for tensor in all {
            graph.keep(tensor);
            graph.run(tensor);
        }
        let _memory = GraphMemory::new(&backend, &graph).unwrap();
        backend.compute(&graph).unwrap();
        let mut exact: [Vec<f64>; 3] = Default::default();
        for (row, x) in xv.chunks_exact(width).enumerate() {
            let of_row =
                |values: &[f32]| values[row * width..][..width].iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            let (dy, more) = (of_row(&dv), of_row(&mv));
            let mean = |terms: &dyn Fn(usize) -> f64| (0..width).map(terms).sum::<f64>() / width as f64;
            let r = 1.0 / (mean(&|at| f64::from(x[at]).powi(2)) + f64::from(eps)).sqrt();
            let along = mean(&|at| f64::from(wv[at]) * dy[at] * f64::from(x[at]));
            for at in 0..width {
                let (value, w) = (f64::from(x[at]), f64::from(wv[at]));
                let dx = r * w * dy[at] - r.powi(3) * value * along;
                exact[0].push(value * r * w);
                exact[1].push(dx);
                exact[2].push(dx + more[at]);
            }
        }
        for (ours, exact) in all.iter().zip(&exact) {
            close(&ours.to_vec::<f32>(), exact);
        }
    }
}

#[test]
fn outer_products_are_added_in_place() {
    for_each_isa(|_| {
        for columns in [11, 12, 31] {
            an_outer_product_is_added_in_place(columns);
        }
    });
}

fn an_outer_product_is_added_in_place(columns: usize) {
    let (outputs, inner) = (32, 29);
    let backend = Backend::cpu(2).unwrap();
    let context = Context::new(8, 0).unwrap();
    let matrix = context.tensor(F32, &[outputs, inner]);
    let turned = context.tensor(F32, &[columns, inner]);
    let into = context.tensor(F32, &[outputs, columns]);
    let _buffer = backend.allocate(&context, "a test").unwrap();
    let (m, x, begin) = (values(outputs * inner, 1), values(columns * inner, 2), values(outputs * columns, 3));
    matrix.write(&m);
    turned.write(&x);
    into.write(&begin);
    let graph = Graph::new(8).unwrap();
    graph.run(add_outer(&graph, into, Term { matrix, columns: turned }));
    let _memory = GraphMemory::new(&backend, &graph).unwrap();
    backend.compute(&graph).unwrap();
    let exact = naive(&m, outputs, inner, columns, &|step, column| x[step * columns + column]);
    let exact: Vec<f64> = exact.iter().zip(&begin).map(|(sum, begin)| sum + f64::from(*begin)).collect();
    close(&into.to_vec::<f32>(), &exact);
}

/// Sizes of one case of attention.
#[derive(Debug, Clone)]
struct Case {
    head_dim: usize,
    heads: usize,
    kv_heads: usize,
    window: usize,
    /// 0: scores are not capped.
    cap: f64,
    /// Tokens of each document.
    documents: Vec<usize>,
}

/// Attention by its definition, and the gradients of Q, K and V for the output's gradient.
fn naive_attention(case: &Case, scale: f64, [q, k, v, d_out]: [&[f32]; 4]) -> [Vec<f64>; 4] {
    let Case { head_dim, heads, kv_heads, window, cap, .. } = *case;
    let value =
        |a: &[f32], count: usize, t: usize, head: usize, at: usize| f64::from(a[(t * count + head) * head_dim + at]);
    let [mut out, mut dq] = [(); 2].map(|()| vec![0.0; q.len()]);
    let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; k.len()]);
    let mut begin = 0;
    for &len in &case.documents {
        for (t, head) in (begin..begin + len).flat_map(|t| (0..heads).map(move |head| (t, head))) {
            let (shared, own) = (head * kv_heads / heads, (t * heads + head) * head_dim);
            let first = if window > 0 { begin.max((t + 1).saturating_sub(window)) } else { begin };
            let dot = |a: &[f32], b: &[f32], key: usize| -> f64 {
                (0..head_dim).map(|at| value(a, heads, t, head, at) * value(b, kv_heads, key, shared, at)).sum()
            };
            let capped = |score: f64| if cap > 0.0 { cap * (score / cap).tanh() } else { score };
            let scores: Vec<f64> = (first..=t).map(|key| capped(scale * dot(q, k, key))).collect();
            let weights: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
            let total: f64 = weights.iter().sum();
            let slopes: Vec<f64> = (first..=t).map(|key| dot(d_out, v, key)).collect();
            let mean: f64 = weights.iter().zip(&slopes).map(|(weight, slope)| weight / total * slope).sum();
            for (key, (weight, slope)) in (first..=t).zip(weights.iter().zip(&slopes)) {
                let (p, other) = (weight / total, (key * kv_heads + shared) * head_dim);
                let bend = if cap > 0.0 { 1.0 - (scores[key - first] / cap).powi(2) } else { 1.0 };
                let ds = scale * bend * p * (slope - mean);
                for at in 0..head_dim {
                    out[own + at] += p * f64::from(v[other + at]);
                    dq[own + at] += ds * f64::from(k[other + at]);
                    dk[other + at] += ds * f64::from(q[own + at]);
                    dv[other + at] += p * f64::from(d_out[own + at]);
                }
            }
        }
        begin += len;
    }
    [out, dq, dk, dv]
}

#[test]
fn attention_and_its_gradients_equal_their_definition() {
    let all = RefCell::new(Vec::new());
    for_each_isa(|_| all.borrow_mut().push(attentions()));
    assert!(all.borrow().windows(2).all(|two| two[0] == two[1]), "instructions change no bit");
}

/// Checks attention for several cases and returns outputs and gradients.
fn attentions() -> Vec<[Vec<f32>; 4]> {
    let mut found = Vec::new();
    let case = |head_dim, heads, kv_heads, window, cap, documents: &[usize]| Case {
        head_dim,
        heads,
        kv_heads,
        window,
        cap,
        documents: documents.to_vec(),
    };
    for case in [
        case(16, 1, 1, 0, 0.0, &[1]),
        case(64, 9, 3, 0, 0.0, &[70, 1, 1, 38]),
        case(32, 4, 4, 0, 2.0, &[16, 32, 5]),
        case(16, 2, 1, 0, 0.0, &[600]),
        case(16, 2, 1, 20, 1.5, &[300, 33]),
        case(256, 2, 2, 0, 0.0, &[13, 29]),
    ] {
        let tokens: usize = case.documents.iter().sum();
        let mut results = Vec::new();
        for threads in [1, 2, 3] {
            let backend = Backend::cpu(threads).unwrap();
            let context = Context::new(8, 0).unwrap();
            let [q, d_out] = [(); 2].map(|()| context.tensor(F32, &[case.head_dim, case.heads, tokens]));
            let [k, v] = [(); 2].map(|()| context.tensor(F32, &[case.head_dim, case.kv_heads, tokens]));
            let first = context.tensor(I32, &[tokens]);
            let _buffer = backend.allocate(&context, "a test").unwrap();
            let starts = case.documents.iter().scan(0, |begin, &len| {
                let start = *begin;
                *begin += len;
                let window = if case.window > 0 { case.window } else { len };
                Some((start..start + len).map(|t| start.max((t + 1).saturating_sub(window)) as i32).collect::<Vec<_>>())
            });
            first.write(&starts.flatten().collect::<Vec<i32>>());
            let [qv, kv, vv, dv] = [(q, 1), (k, 2), (v, 3), (d_out, 4)].map(|(tensor, seed)| {
                let v = values(tensor.elements(), seed);
                tensor.write(&v);
                v
            });
            let graph = Graph::new(32).unwrap();
            let scale = 3.0 / (case.head_dim as f32).sqrt();
            let sight = Sight { first, scale, cap: case.cap as f32 };
            let (out, result) = attention(&graph, [q, k, v], sight);
            let gradients = attention_back(&graph, [q, k, v], result, d_out, sight);
            let all = [out, gradients[0], gradients[1], gradients[2]];
            graph.keep(result);
            let all = all.map(|tensor| {
                let copy = graph.cont(tensor);
                graph.keep(copy);
                graph.run(copy);
                copy
            });
            let _memory = GraphMemory::new(&backend, &graph).unwrap();
            backend.compute(&graph).unwrap();
            let exact = naive_attention(&case, f64::from(scale), [&qv, &kv, &vv, &dv]);
            let ours = all.map(|tensor| tensor.to_vec::<f32>());
            for (ours, exact) in ours.iter().zip(&exact) {
                close(ours, exact);
            }
            results.push(ours);
        }
        assert!(results.iter().all(|result| *result == results[0]), "threads change no bit: {case:?}");
        found.push(results.swap_remove(0));
    }
    found
}

#[test]
fn matrices_are_shared_by_groups_of_heads() {
    let (outputs, inner, columns) = (16, 20, 7);
    let backend = Backend::cpu(2).unwrap();
    let context = Context::new(8, 0).unwrap();
    let matrix = context.tensor(F32, &[outputs, inner, 2, 2]);
    let x = context.tensor(F32, &[inner, columns, 6, 2]);
    let _buffer = backend.allocate(&context, "a test").unwrap();
    let (mv, xv) = (values(matrix.elements(), 1), values(x.elements(), 2));
    matrix.write(&mv);
    x.write(&xv);
    let graph = Graph::new(8).unwrap();
    let ours =
        compute(2, &graph, sum_of_products(&graph, [outputs, columns, 6, 2], None, &[Term { matrix, columns: x }]));
    let mut exact = Vec::new();
    for lane in 0..2 {
        for head in 0..6 {
            let m = &mv[(lane * 2 + head / 3) * outputs * inner..];
            let x = &xv[(lane * 6 + head) * inner * columns..];
            exact.extend(naive(m, outputs, inner, columns, &|step, column| x[column * inner + step]));
        }
    }
    close(&ours, &exact);
}

#[test]
fn gated_activations_and_their_gradients_equal_the_formula() {
    let silu = |g: f64| 1.0 / (1.0 + (-g).exp());
    let gelu = |g: f64| silu(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044_715 * g.powi(3)));
    let gates: [(Activation, &dyn Fn(f64) -> f64); 2] = [(Activation::Silu, &silu), (Activation::Gelu, &gelu)];
    for (activation, gate_of) in gates {
        let backend = Backend::cpu(2).unwrap();
        let context = Context::new(4, 0).unwrap();
        let [dh, gate, up] = [(); 3].map(|()| context.tensor(F32, &[19, 5]));
        let _buffer = backend.allocate(&context, "a test").unwrap();
        let [hv, gv, uv] = [(dh, 1.0f32, 1), (gate, 12.0, 2), (up, 2.0, 3)].map(|(tensor, factor, seed)| {
            let v: Vec<f32> = values(95, seed).iter().map(|value| value * factor).collect();
            tensor.write(&v);
            v
        });
        let graph = Graph::new(8).unwrap();
        let (d_gate, d_up) = gated_back(&graph, activation, dh, gate, up);
        let product = geglu(&graph, gate, up);
        for tensor in [d_gate, d_up, product] {
            graph.run(tensor);
            graph.keep(tensor);
        }
        let _memory = GraphMemory::new(&backend, &graph).unwrap();
        backend.compute(&graph).unwrap();
        let active = |g: f64| g * gate_of(g);
        let exact = |at: usize| {
            let (dh, g, u) = (f64::from(hv[at]), f64::from(gv[at]), f64::from(uv[at]));
            let slope = (active(g + 1e-5) - active(g - 1e-5)) / 2e-5;
            (dh * u * slope, dh * active(g), active(g) * u)
        };
        close(&d_gate.to_vec::<f32>(), &(0..95).map(|at| exact(at).0).collect::<Vec<_>>());
        close(&d_up.to_vec::<f32>(), &(0..95).map(|at| exact(at).1).collect::<Vec<_>>());
        if activation == Activation::Gelu {
            close(&product.to_vec::<f32>(), &(0..95).map(|at| exact(at).2).collect::<Vec<_>>());
        }
    }
}
