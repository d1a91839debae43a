//! A graph under construction: the operations that training uses, each one line over ggml. Shapes in comments are
//! fastest dimension first, as ggml has them.

use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::ptr;
use std::time::Instant;

use llama_cpp_sys_2 as sys;

use super::{Backend, BackendError, Context, F32, Tensor, Type, Work};

/// Nodes in the order in which they run, and the descriptions of their tensors.
pub(crate) struct Graph {
    context: Context,
    raw: *mut sys::ggml_cgraph,
    /// Of the custom operations, which point to it.
    #[expect(clippy::vec_box, reason = "the list may move, its members may not")]
    works: RefCell<Vec<Box<Work>>>,
}

// SAFETY: the graph lives in its context, which it owns.
unsafe impl Send for Graph {}

/// Defines methods that call a ggml operation of one or two tensors.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),+) = $raw:ident;)*) => {
        impl Graph {
            $($(#[$doc])* pub(crate) fn $name(&self, $($arg: Tensor),+) -> Tensor {
                // SAFETY: context and operands live (module rule); ggml checks shapes itself.
                Tensor::wrap(unsafe { sys::$raw(self.context.as_ptr(), $($arg.as_ptr()),+) })
            })*
        }
    };
}

operations! {
    /// A contiguous copy.
    cont(a) = ggml_cont;
    /// Dimensions 0 and 1 exchanged, as a view.
    transpose(a) = ggml_transpose;
    /// x * sigmoid(x).
    silu(a) = ggml_silu;
    /// 1 / (1 + exp(-x)).
    sigmoid(a) = ggml_sigmoid;
    /// Hyperbolic tangent.
    tanh(a) = ggml_tanh;
    /// Natural logarithm.
    log(a) = ggml_log;
    /// Softmax over dimension 0.
    soft_max(a) = ggml_soft_max;
    /// `a` [k, m], `b` [k, n] -> [m, n].
    mul_mat(a, b) = ggml_mul_mat;
    /// `a` [m, k], `b` [n, k] -> [m, n].
    out_prod(a, b) = ggml_out_prod;
    /// a + b, `b` repeated as needed.
    add(a, b) = ggml_add;
    /// a += b.
    add_inplace(a, b) = ggml_add_inplace;
    /// a * b, `b` repeated as needed.
    mul(a, b) = ggml_mul;
    /// Rows of `a` [n, rows] chosen by the I32 indices `b`.
    get_rows(a, b) = ggml_get_rows;
    /// Gradient of SiLU: `a` is the output's gradient, `b` the input.
    silu_back(a, b) = ggml_silu_back;
    /// silu(a) * b.
    swiglu(a, b) = ggml_swiglu_split;
    /// Copies `a` into the memory of `b`.
    copy(a, b) = ggml_cpy;
    /// Writes rows `b` into `a` at the I64 indices `c`.
    set_rows(a, b, c) = ggml_set_rows;
    /// Sums rows `a` into a zero tensor of the shape of `c` at the I32 indices `b`.
    get_rows_back(a, b, c) = ggml_get_rows_back;
    /// One AdamW step: parameters, gradient, first and second moment, and the seven numbers of ggml.
    adamw(a, gradient, first, second, numbers) = ggml_opt_step_adamw;
}

/// Numbers of a rotary embedding; see <https://arxiv.org/abs/2104.09864>.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rope {
    /// Dimensions of a head that are rotated.
    pub(crate) dims: usize,
    /// ggml's mode: 0 pairs neighbours, 2 pairs halves (NeoX).
    pub(crate) mode: i32,
    /// Base of the frequencies.
    pub(crate) base: f32,
    /// Factor on positions.
    pub(crate) scale: f32,
}

impl Graph {
    /// An empty graph with room for `nodes` nodes.
    pub(crate) fn new(nodes: usize) -> Result<Graph, BackendError> {
        // Every node is a tensor, and views take descriptions without becoming nodes of their own weight.
        let context = Context::new(nodes, nodes)?;
        // SAFETY: the context has room for the graph (its constructor counted it).
        let raw = unsafe { sys::ggml_new_graph_custom(context.as_ptr(), nodes, false) };
        Ok(Graph { context, raw, works: RefCell::default() })
    }

    pub(super) fn raw(&self) -> *mut sys::ggml_cgraph {
        self.raw
    }

    /// Appends `tensor` and what it needs, in order, to the nodes that run.
    pub(crate) fn run(&self, tensor: Tensor) {
        // SAFETY: graph and tensor live; ggml aborts when the graph is full.
        unsafe { sys::ggml_build_forward_expand(self.raw, tensor.as_ptr()) }
    }

    /// What the nodes compute, in their order.
    pub(crate) fn nodes(&self) -> Vec<(String, Tensor)> {
        // SAFETY: graph and nodes live; the index is below the count; the description is a static string.
        unsafe {
            let count = sys::ggml_graph_n_nodes(self.raw);
            let nodes = (0..count).map(|index| sys::ggml_graph_node(self.raw, index));
            nodes
                .map(|node| (CStr::from_ptr(sys::ggml_op_desc(node)).to_string_lossy().into(), Tensor::wrap(node)))
                .collect()
        }
    }

    /// Runs the nodes one by one and returns for each its operation, itself and its wall time in seconds.
    /// Every node pays for waking the threads, so the sum exceeds the time of the graph as a whole.
    pub(crate) fn time_nodes(&self, backend: &Backend) -> Result<Vec<(String, Tensor, f64)>, BackendError> {
        let single = Graph::new(1)?;
        let mut times = Vec::new();
        // SAFETY: graph and nodes live; `single` has room for one node, which is cleared before the next.
        unsafe {
            for index in 0..sys::ggml_graph_n_nodes(self.raw) {
                let node = sys::ggml_graph_node(self.raw, index);
                sys::ggml_graph_clear(single.raw);
                sys::ggml_graph_add_node(single.raw, node);
                let started = Instant::now();
                backend.compute(&single)?;
                let seconds = started.elapsed().as_secs_f64();
                let name = CStr::from_ptr(sys::ggml_op_desc(node)).to_string_lossy().into_owned();
                times.push((name, Tensor::wrap(node), seconds));
            }
        }
        Ok(times)
    }

    /// factor * a.
    pub(crate) fn scale(&self, a: Tensor, factor: f32) -> Tensor {
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe { sys::ggml_scale(self.context.as_ptr(), a.as_ptr(), factor) })
    }

    /// factor * a + bias.
    pub(crate) fn scale_bias(&self, a: Tensor, factor: f32, bias: f32) -> Tensor {
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe { sys::ggml_scale_bias(self.context.as_ptr(), a.as_ptr(), factor, bias) })
    }

    /// a / sqrt(mean(a^2) + eps) over dimension 0.
    pub(crate) fn rms_norm(&self, a: Tensor, eps: f32) -> Tensor {
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe { sys::ggml_rms_norm(self.context.as_ptr(), a.as_ptr(), eps) })
    }

    /// Gradient of `rms_norm` at `input` for the output gradient `gradient`.
    pub(crate) fn rms_norm_back(&self, gradient: Tensor, input: Tensor, eps: f32) -> Tensor {
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe { sys::ggml_rms_norm_back(self.context.as_ptr(), gradient.as_ptr(), input.as_ptr(), eps) })
    }

    /// softmax(scale * a + mask) over dimension 0.
    pub(crate) fn soft_max_masked(&self, a: Tensor, mask: Tensor, scale: f32) -> Tensor {
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe { sys::ggml_soft_max_ext(self.context.as_ptr(), a.as_ptr(), mask.as_ptr(), scale, 0.0) })
    }

    /// Gradient of `soft_max_masked` with output `output` for the output gradient `gradient`.
    pub(crate) fn soft_max_back(&self, gradient: Tensor, output: Tensor, scale: f32) -> Tensor {
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe {
            sys::ggml_soft_max_ext_back(self.context.as_ptr(), gradient.as_ptr(), output.as_ptr(), scale, 0.0)
        })
    }

    /// Rotates `a` [head, heads, tokens] by the I32 `positions` [tokens]; `factors` divide the frequencies.
    pub(crate) fn rope(&self, a: Tensor, positions: Tensor, factors: Option<Tensor>, rope: Rope) -> Tensor {
        self.rotate(sys::ggml_rope_ext, a, positions, factors, rope)
    }

    /// Gradient of `rope`: the rotation the other way.
    pub(crate) fn rope_back(&self, a: Tensor, positions: Tensor, factors: Option<Tensor>, rope: Rope) -> Tensor {
        self.rotate(sys::ggml_rope_ext_back, a, positions, factors, rope)
    }

    fn rotate(&self, call: RopeCall, a: Tensor, positions: Tensor, factors: Option<Tensor>, rope: Rope) -> Tensor {
        let factors = factors.map_or(ptr::null_mut(), Tensor::as_ptr);
        // Without YaRN (ext_factor 0) the original context length and the betas are not read.
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe {
            call(
                self.context.as_ptr(),
                a.as_ptr(),
                positions.as_ptr(),
                factors,
                rope.dims as i32,
                rope.mode,
                0,
                rope.base,
                rope.scale,
                0.0,
                1.0,
                32.0,
                1.0,
            )
        })
    }

    /// `a` and `b` one after the other along dimension 0.
    pub(crate) fn concat(&self, a: Tensor, b: Tensor) -> Tensor {
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe { sys::ggml_concat(self.context.as_ptr(), a.as_ptr(), b.as_ptr(), 0) })
    }

    /// The same data with other dimensions.
    pub(crate) fn reshape(&self, a: Tensor, dims: [usize; 4]) -> Tensor {
        let [n0, n1, n2, n3] = dims.map(|dim| dim as i64);
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe { sys::ggml_reshape_4d(self.context.as_ptr(), a.as_ptr(), n0, n1, n2, n3) })
    }

    /// Dimension i of `a` becomes dimension `axes[i]`, as a view.
    pub(crate) fn permute(&self, a: Tensor, axes: [i32; 4]) -> Tensor {
        let [x, y, z, w] = axes;
        // SAFETY: as in `operations!`.
        Tensor::wrap(unsafe { sys::ggml_permute(self.context.as_ptr(), a.as_ptr(), x, y, z, w) })
    }

    /// `len` elements of `a` from element `offset` on.
    pub(crate) fn view_1d(&self, a: Tensor, len: usize, offset: usize) -> Tensor {
        let width = a.strides()[0];
        // SAFETY: as in `operations!`; ggml asserts that the view lies inside `a`.
        Tensor::wrap(unsafe { sys::ggml_view_1d(self.context.as_ptr(), a.as_ptr(), len as i64, offset * width) })
    }

    /// `rows` rows of `width` elements of `a`, `stride` elements apart, from element `offset` on.
    pub(crate) fn view_2d(&self, a: Tensor, width: usize, rows: usize, stride: usize, offset: usize) -> Tensor {
        let element = a.strides()[0];
        // SAFETY: as in `operations!`; ggml asserts that the view lies inside `a`.
        Tensor::wrap(unsafe {
            sys::ggml_view_2d(
                self.context.as_ptr(),
                a.as_ptr(),
                width as i64,
                rows as i64,
                stride * element,
                offset * element,
            )
        })
    }

    /// Keeps the work of a custom operation.
    fn work(&self, flags: usize) -> *mut c_void {
        let work = Box::new(Work::new(flags));
        let address = (&raw const *work).cast_mut().cast();
        self.works.borrow_mut().push(work);
        address
    }

    /// A new F32 tensor that `function` computes from `operands`; `flags` are passed to it.
    pub(crate) fn custom(
        &self,
        dims: [usize; 4],
        operands: &[Tensor],
        function: CustomFunction,
        flags: usize,
    ) -> Tensor {
        self.custom_of(F32, dims, operands, function, flags)
    }

    /// The same with another type than F32.
    pub(crate) fn custom_of(
        &self,
        kind: Type,
        dims: [usize; 4],
        operands: &[Tensor],
        function: CustomFunction,
        flags: usize,
    ) -> Tensor {
        let [n0, n1, n2, n3] = dims.map(|dim| dim as i64);
        let mut raw: Vec<_> = operands.iter().map(|operand| operand.as_ptr()).collect();
        // SAFETY: as in `operations!`; ggml copies the list and asserts its length; the work lives as long as the graph.
        Tensor::wrap(unsafe {
            sys::ggml_custom_4d(
                self.context.as_ptr(),
                kind,
                n0,
                n1,
                n2,
                n3,
                raw.as_mut_ptr(),
                raw.len() as i32,
                Some(function),
                ALL_THREADS,
                self.work(flags),
            )
        })
    }

    /// `function` changes `a` in place; `a` is its first operand, then come `operands`.
    pub(crate) fn custom_inplace(
        &self,
        a: Tensor,
        operands: &[Tensor],
        function: CustomFunction,
        flags: usize,
    ) -> Tensor {
        let mut raw: Vec<_> = operands.iter().map(|operand| operand.as_ptr()).collect();
        // SAFETY: as in `custom`.
        Tensor::wrap(unsafe {
            sys::ggml_custom_inplace(
                self.context.as_ptr(),
                a.as_ptr(),
                raw.as_mut_ptr(),
                raw.len() as i32,
                Some(function),
                ALL_THREADS,
                self.work(flags),
            )
        })
    }

    /// Keeps the memory of `a` from being shared after its last use, so that it can be read after the run.
    pub(crate) fn keep(&self, a: Tensor) {
        // SAFETY: sets a flag of a live tensor.
        unsafe { sys::ggml_set_output(a.as_ptr()) }
    }

    /// Marks `a` as a trained parameter, which `adamw` asks of its first operand.
    pub(crate) fn mark_parameter(&self, a: Tensor) {
        // SAFETY: sets a flag of a live tensor that no operation made.
        unsafe { sys::ggml_set_param(a.as_ptr()) }
    }
}

/// ggml's GGML_N_TASKS_MAX, which the bindings leave out.
const ALL_THREADS: i32 = -1;

/// What ggml calls on each of its threads for a custom operation: destination, thread, number of threads, [`Work`].
pub(crate) type CustomFunction = unsafe extern "C" fn(*mut sys::ggml_tensor, i32, i32, *mut c_void);

type RopeCall = unsafe extern "C" fn(
    *mut sys::ggml_context,
    *mut sys::ggml_tensor,
    *mut sys::ggml_tensor,
    *mut sys::ggml_tensor,
    i32,
    i32,
    i32,
    f32,
    f32,
    f32,
    f32,
    f32,
    f32,
) -> *mut sys::ggml_tensor;
