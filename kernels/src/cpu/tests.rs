//! The kernels against plain loops, for shapes with every kind of remainder and on one and two threads.

use super::{PANEL, Term, add_outer, available, outer, packed_dims, sum_of_products, swiglu_back};
use crate::ggml::{self, Backend, Context, F16, F32, Graph, GraphMemory, Tensor};

/// Values in [-1, 1) that F16 holds exactly, so that packing changes nothing.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7919 + seed * 104_729 + at * at % 977) % 256) as f32 / 128.0 - 1.0).collect()
}

/// `matrix` [outputs, inner], outputs contiguous, as panels.
fn packed(context: &Context, outputs: usize, inner: usize) -> Tensor {
    context.tensor(F16, &packed_dims(outputs, inner))
}

fn write_packed(tensor: Tensor, matrix: &[f32], outputs: usize, inner: usize) {
    let mut panels = Vec::new();
    for panel in 0..outputs / PANEL {
        for step in 0..inner {
            panels.extend_from_slice(&matrix[step * outputs + panel * PANEL..][..PANEL]);
        }
    }
    let mut stored = vec![0; tensor.bytes()];
    ggml::encode(F16, &panels, panels.len(), &mut stored);
    tensor.write_bytes(&stored, 0);
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

fn close(ours: &[f32], exact: &[f64]) {
    assert_eq!(ours.len(), exact.len());
    for (at, (ours, exact)) in ours.iter().zip(exact).enumerate() {
        assert!((f64::from(*ours) - exact).abs() < 1e-3 * (1.0 + exact.abs()), "value {at}: {ours} instead of {exact}");
    }
}

#[test]
fn sums_of_packed_and_plain_terms_equal_plain_loops() {
    assert!(available(), "this test needs AVX2, FMA and F16C");
    for (outputs, inner, rank, columns) in [(16, 1, 1, 1), (48, 37, 3, 13), (64, 3000, 8, 70), (160, 64, 8, 5)] {
        let mut results = Vec::new();
        for threads in [1, 2] {
            let backend = Backend::cpu(threads).unwrap();
            let context = Context::new(8, 0).unwrap();
            let w = packed(&context, outputs, inner);
            let (x, l, u, start) = (
                context.tensor(F32, &[inner, columns]),
                context.tensor(F32, &[outputs, rank]),
                context.tensor(F32, &[rank, columns]),
                context.tensor(F32, &[outputs, columns]),
            );
            let _buffer = backend.allocate(&context, "a test").unwrap();
            let m = values(outputs * inner, 1);
            write_packed(w, &m, outputs, inner);
            let [xv, lv, uv, sv] = [(x, 2), (l, 3), (u, 4), (start, 5)].map(|(tensor, seed)| {
                let v = values(tensor.elements(), seed);
                tensor.write(&v);
                v
            });
            let graph = Graph::new(8).unwrap();
            let terms = [Term { matrix: w, columns: x }, Term { matrix: l, columns: u }];
            let ours = compute(threads, &graph, sum_of_products(&graph, [outputs, columns, 1, 1], Some(start), &terms));
            let first = naive(&m, outputs, inner, columns, &|step, column| xv[column * inner + step]);
            let second = naive(&lv, outputs, rank, columns, &|step, column| uv[column * rank + step]);
            let exact: Vec<f64> =
                first.iter().zip(&second).zip(&sv).map(|((a, b), start)| a + b + f64::from(*start)).collect();
            close(&ours, &exact);
            results.push(ours);
        }
        assert_eq!(results[0], results[1], "threads change no bit");
    }
}

#[test]
fn outer_products_equal_plain_loops_for_grouped_heads_and_in_place() {
    let (outputs, columns, inner, heads) = (32, 11, 29, 3);
    let backend = Backend::cpu(2).unwrap();
    let context = Context::new(8, 0).unwrap();
    let matrix = context.tensor(F32, &[outputs, inner, heads]);
    let turned = context.tensor(F32, &[columns, inner, heads]);
    let into = context.tensor(F32, &[outputs, columns]);
    let _buffer = backend.allocate(&context, "a test").unwrap();
    let (m, x, begin) =
        (values(outputs * inner * heads, 1), values(columns * inner * heads, 2), values(outputs * columns, 3));
    matrix.write(&m);
    turned.write(&x);
    into.write(&begin);
    let graph = Graph::new(8).unwrap();
    let term = Term { matrix, columns: turned };
    let ours = compute(2, &graph, outer(&graph, [outputs, columns, heads, 1], term));
    let mut exact = Vec::new();
    for head in 0..heads {
        let x = &x[head * columns * inner..];
        exact.extend(naive(&m[head * outputs * inner..], outputs, inner, columns, &|step, column| {
            x[step * columns + column]
        }));
    }
    close(&ours, &exact);

    let graph = Graph::new(8).unwrap();
    let (first, second) =
        (graph.view_2d(matrix, outputs, inner, outputs, 0), graph.view_2d(turned, columns, inner, columns, 0));
    graph.run(add_outer(&graph, into, Term { matrix: first, columns: second }));
    let _memory = GraphMemory::new(&backend, &graph).unwrap();
    backend.compute(&graph).unwrap();
    let exact: Vec<f64> = exact.iter().zip(&begin).map(|(sum, begin)| sum + f64::from(*begin)).collect();
    close(&into.to_vec::<f32>(), &exact);
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
fn swiglu_back_equals_the_formula() {
    let backend = Backend::cpu(2).unwrap();
    let context = Context::new(4, 0).unwrap();
    let [dh, gate, up] = [(); 3].map(|()| context.tensor(F32, &[19, 5]));
    let _buffer = backend.allocate(&context, "a test").unwrap();
    let [hv, gv, uv] = [(dh, 1.0f32, 1), (gate, 30.0, 2), (up, 2.0, 3)].map(|(tensor, factor, seed)| {
        let v: Vec<f32> = values(95, seed).iter().map(|value| value * factor).collect();
        tensor.write(&v);
        v
    });
    let graph = Graph::new(8).unwrap();
    let (d_gate, d_up) = swiglu_back(&graph, dh, gate, up);
    graph.run(d_gate);
    graph.run(d_up);
    let _memory = GraphMemory::new(&backend, &graph).unwrap();
    backend.compute(&graph).unwrap();
    let exact = |at: usize| {
        let (dh, g, u) = (f64::from(hv[at]), f64::from(gv[at]), f64::from(uv[at]));
        let s = 1.0 / (1.0 + (-g).exp());
        (dh * u * s * (1.0 + g * (1.0 - s)), dh * g * s)
    };
    close(&d_up.to_vec::<f32>(), &(0..95).map(|at| exact(at).1).collect::<Vec<_>>());
    close(&d_gate.to_vec::<f32>(), &(0..95).map(|at| exact(at).0).collect::<Vec<_>>());
}
