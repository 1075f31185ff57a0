//! The operations GPT-2's graph is made of. What ggml would assert is checked here first.

use std::ffi::c_int;
use std::sync::Arc;

use super::context::{Context, Tensor};
use super::{sys, types};
use crate::error::{Error, Result};
use crate::gguf::TensorType;

/// Functions of a single value that ggml has on every device, under its names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ElementFunction {
    GeluErf,
    GeluQuick,
    Relu,
    LeakyRelu(f32),
    Silu,
    Tanh,
    Sigmoid,
    HardSwish,
    Square,
    /// Between two bounds.
    Clamp(f32, f32),
}

fn refuse<T>(operation: &'static str, expected: &str, tensors: &[&Tensor]) -> Result<T> {
    let found: Vec<String> = tensors.iter().map(|tensor| tensor.describe()).collect();
    Err(Error::Ggml {
        operation,
        message: format!("expected {expected}; found {}", found.join(" and ")),
    })
}

/// Whether the elements of each row of `tensor` follow each other and it is f32.
fn is_f32_rows(tensor: &Tensor) -> bool {
    tensor.get().type_ == sys::GGML_TYPE_F32 && tensor.has_contiguous_rows()
}

impl Context {
    /// `weight · activations`: `[k, n, …] · [k, m, …] → [n, m, …]` in f32. The outer dimensions of
    /// `weight` are repeated to those of `activations`.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the shapes do not fit, `weight` is transposed, or `activations` is not
    /// f32 in contiguous rows.
    pub(crate) fn mul_mat(
        self: &Arc<Self>,
        weight: &Tensor,
        activations: &Tensor,
    ) -> Result<Tensor> {
        const OPERATION: &str = "mul_mat";
        let (a, b) = (weight.shape(), activations.shape());
        let strides = weight.strides();
        let fits = a[0] == b[0] && b[2] % a[2] == 0 && b[3] % a[3] == 0;
        if !fits
            || !weight.has_contiguous_rows()
            || strides[0] > strides[1]
            || !is_f32_rows(activations)
        {
            return refuse(
                OPERATION,
                "[k, n] and f32 [k, m], both in contiguous rows",
                &[weight, activations],
            );
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room and ggml's conditions (ggml_can_mul_mat, not transposed) hold.
        unsafe {
            let raw = sys::ggml_mul_mat(arena, weight.raw(), activations.raw());
            if !raw.is_null() {
                // GPUs would accumulate in f16; the CPU never does.
                sys::ggml_prec_set_acc(raw, sys::GGML_PREC_F32);
            }
            self.adopt(OPERATION, raw, &[weight, activations])
        }
    }

    /// `left + right`, `right` repeated to the shape of `left`; both f32.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the shapes do not repeat or a tensor is not f32 in contiguous rows.
    pub(crate) fn add(self: &Arc<Self>, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        self.binary("add", sys::ggml_add, left, right)
    }

    fn binary(
        self: &Arc<Self>,
        operation: &'static str,
        function: unsafe extern "C" fn(
            *mut sys::ggml_context,
            *mut sys::ggml_tensor,
            *mut sys::ggml_tensor,
        ) -> *mut sys::ggml_tensor,
        left: &Tensor,
        right: &Tensor,
    ) -> Result<Tensor> {
        let repeats = left
            .shape()
            .iter()
            .zip(right.shape())
            .all(|(l, r)| l % r == 0);
        if !repeats || !is_f32_rows(left) || !is_f32_rows(right) {
            let expected = "f32 tensors, the second repeating to the first";
            return refuse(operation, expected, &[left, right]);
        }
        let arena = self.room(operation)?;
        // SAFETY: the arena has room, both are live, and the second repeats to the first.
        unsafe {
            let raw = function(arena, left.raw(), right.raw());
            self.adopt(operation, raw, &[left, right])
        }
    }

    /// `left · right` element by element, `right` repeated to the shape of `left`; both f32.
    ///
    /// # Errors
    /// As [`Context::add`].
    pub(crate) fn mul(self: &Arc<Self>, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        self.binary("mul", sys::ggml_mul, left, right)
    }

    /// Each row of `x` brought to mean 0 and variance 1: `(x − mean) / √(variance + epsilon)`.
    ///
    /// # Errors
    /// [`Error::Ggml`] when `x` is not f32 in contiguous rows or `epsilon` is negative.
    pub(crate) fn norm(self: &Arc<Self>, x: &Tensor, epsilon: f32) -> Result<Tensor> {
        const OPERATION: &str = "norm";
        if !is_f32_rows(x) || epsilon.is_nan() || epsilon < 0.0 {
            return refuse(OPERATION, "f32 rows and a non-negative epsilon", &[x]);
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room; the operand is f32 rows, epsilon is not negative.
        unsafe { self.adopt(OPERATION, sys::ggml_norm(arena, x.raw(), epsilon), &[x]) }
    }

    /// ggml's GELU, `½x(1 + tanh(√(2/π)(x + 0.044715x³)))` from a table of f16, of each element.
    ///
    /// # Errors
    /// [`Error::Ggml`] when `x` is not contiguous f32.
    pub(crate) fn gelu(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        const OPERATION: &str = "gelu";
        if !is_f32_rows(x) || !x.is_contiguous() {
            return refuse(OPERATION, "contiguous f32", &[x]);
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room; the operand is contiguous f32.
        unsafe { self.adopt(OPERATION, sys::ggml_gelu(arena, x.raw()), &[x]) }
    }

    /// One of ggml's functions of a single value, applied to each element. Devices other than the
    /// CPU have them too.
    ///
    /// # Errors
    /// [`Error::Ggml`] when `x` is not contiguous f32.
    pub(crate) fn elementwise(
        self: &Arc<Self>,
        function: ElementFunction,
        x: &Tensor,
    ) -> Result<Tensor> {
        const OPERATION: &str = "elementwise";
        if !is_f32_rows(x) || !x.is_contiguous() {
            return refuse(OPERATION, "contiguous f32", &[x]);
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room; the operand is contiguous f32, which is all that these need.
        unsafe {
            let raw = match function {
                ElementFunction::GeluErf => sys::ggml_gelu_erf(arena, x.raw()),
                ElementFunction::GeluQuick => sys::ggml_gelu_quick(arena, x.raw()),
                ElementFunction::Relu => sys::ggml_relu(arena, x.raw()),
                ElementFunction::LeakyRelu(slope) => {
                    sys::ggml_leaky_relu(arena, x.raw(), slope, false)
                }
                ElementFunction::Silu => sys::ggml_silu(arena, x.raw()),
                ElementFunction::Tanh => sys::ggml_tanh(arena, x.raw()),
                ElementFunction::Sigmoid => sys::ggml_sigmoid(arena, x.raw()),
                ElementFunction::HardSwish => sys::ggml_hardswish(arena, x.raw()),
                ElementFunction::Square => sys::ggml_sqr(arena, x.raw()),
                ElementFunction::Clamp(least, most) => sys::ggml_clamp(arena, x.raw(), least, most),
            };
            self.adopt(OPERATION, raw, &[x])
        }
    }

    /// Rows of a `[columns, rows]` table chosen by `indices` (`[count]`, i32, each below `rows`
    /// when the graph runs): `[columns, count]` in f32.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the shapes or the type of the indices do not fit.
    pub(crate) fn get_rows(self: &Arc<Self>, table: &Tensor, indices: &Tensor) -> Result<Tensor> {
        const OPERATION: &str = "get_rows";
        let (t, i) = (table.shape(), indices.shape());
        let is_list = i[1..] == [1, 1, 1] && indices.get().type_ == sys::GGML_TYPE_I32;
        if t[2..] != [1, 1] || !is_list || !table.has_contiguous_rows() {
            return refuse(
                OPERATION,
                "a table [columns, rows] and a list of i32",
                &[table, indices],
            );
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room; the outer dimensions are all 1, the indices i32.
        unsafe {
            let raw = sys::ggml_get_rows(arena, table.raw(), indices.raw());
            self.adopt(OPERATION, raw, &[table, indices])
        }
    }

    /// Writes `rows` (`[columns, count]`, f32) to the rows of `table` that `indices` (`[count]`,
    /// i64, each below the table's rows when the graph runs) name, converting to the table's type.
    /// The result is the changed table.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the shapes or types do not fit.
    pub(crate) fn set_rows(
        self: &Arc<Self>,
        table: &Tensor,
        rows: &Tensor,
        indices: &Tensor,
    ) -> Result<Tensor> {
        const OPERATION: &str = "set_rows";
        let (t, r, i) = (table.shape(), rows.shape(), indices.shape());
        let is_list = i[1..] == [1, 1, 1] && indices.get().type_ == sys::GGML_TYPE_I64;
        let fits = t[0] == r[0] && r[1] == i[0] && t[2..] == [1, 1] && r[2..] == [1, 1];
        if !fits || !is_list || !is_f32_rows(rows) || !table.has_contiguous_rows() {
            return refuse(
                OPERATION,
                "a table, f32 rows and a list of i64",
                &[table, rows, indices],
            );
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room; shapes, types and contiguity are what ggml asserts.
        unsafe {
            let raw = sys::ggml_set_rows(arena, table.raw(), rows.raw(), indices.raw());
            self.adopt(OPERATION, raw, &[table, rows, indices])
        }
    }

    /// A window into `source`: `shape` elements from byte `offset` on, `strides` bytes apart along
    /// the second and third dimension.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the window is not inside the source.
    pub(crate) fn view(
        self: &Arc<Self>,
        source: &Tensor,
        shape: [usize; 3],
        strides: [usize; 2],
        offset: usize,
    ) -> Result<Tensor> {
        const OPERATION: &str = "view";
        let row = source.tensor_type()?.row_bytes(shape[0] as u64)? as usize;
        let span =
            |count: usize, stride: usize| count.checked_sub(1).and_then(|n| n.checked_mul(stride));
        let end = span(shape[1], strides[0])
            .zip(span(shape[2], strides[1]))
            .and_then(|(rows, planes)| {
                rows.checked_add(planes)?
                    .checked_add(row)?
                    .checked_add(offset)
            });
        if shape.contains(&0) || end.is_none_or(|end| end > source.bytes()) {
            return refuse(
                OPERATION,
                &format!("{shape:?} at byte {offset} inside the source"),
                &[source],
            );
        }
        let arena = self.room(OPERATION)?;
        let ne = shape.map(|n| n as i64);
        // SAFETY: the arena has room and the window ends inside the source, as checked.
        unsafe {
            let raw = sys::ggml_view_3d(
                arena,
                source.raw(),
                ne[0],
                ne[1],
                ne[2],
                strides[0],
                strides[1],
                offset,
            );
            self.adopt(OPERATION, raw, &[source])
        }
    }

    /// `source` with another shape of as many elements.
    ///
    /// # Errors
    /// [`Error::Ggml`] when it is not contiguous or the counts differ.
    pub(crate) fn reshape(self: &Arc<Self>, source: &Tensor, shape: [usize; 3]) -> Result<Tensor> {
        const OPERATION: &str = "reshape";
        let elements = shape
            .iter()
            .try_fold(1usize, |product, &n| product.checked_mul(n));
        if !source.is_contiguous() || elements != Some(source.elements()) {
            return refuse(
                OPERATION,
                &format!("a contiguous tensor with the elements of {shape:?}"),
                &[source],
            );
        }
        let arena = self.room(OPERATION)?;
        let ne = shape.map(|n| n as i64);
        // SAFETY: the arena has room, the source is contiguous and has as many elements.
        unsafe {
            let raw = sys::ggml_reshape_3d(arena, source.raw(), ne[0], ne[1], ne[2]);
            self.adopt(OPERATION, raw, &[source])
        }
    }

    /// `source` with its dimensions in another order: dimension `i` becomes dimension `axes[i]`.
    ///
    /// # Errors
    /// [`Error::Ggml`] when `axes` is not a permutation of 0 to 3.
    pub(crate) fn permute(self: &Arc<Self>, source: &Tensor, axes: [usize; 4]) -> Result<Tensor> {
        const OPERATION: &str = "permute";
        let mut sorted = axes;
        sorted.sort_unstable();
        if sorted != [0, 1, 2, 3] {
            return refuse(
                OPERATION,
                &format!("a permutation of 0 to 3, not {axes:?}"),
                &[source],
            );
        }
        let arena = self.room(OPERATION)?;
        let [a, b, c, d] = axes.map(|axis| axis as c_int);
        // SAFETY: the arena has room and the axes are a permutation.
        unsafe {
            self.adopt(
                OPERATION,
                sys::ggml_permute(arena, source.raw(), a, b, c, d),
                &[source],
            )
        }
    }

    /// A contiguous copy of `source`, converted to `tensor_type`.
    ///
    /// # Errors
    /// [`Error::Ggml`] when ggml's CPU device does not convert between the types.
    pub(crate) fn cast(
        self: &Arc<Self>,
        source: &Tensor,
        tensor_type: TensorType,
    ) -> Result<Tensor> {
        const OPERATION: &str = "cast";
        let raw_type = types::to_raw(tensor_type)?;
        if !matches!(tensor_type, TensorType::F32 | TensorType::F16) {
            return refuse(OPERATION, "f32 or f16 as the target", &[source]);
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room; the types convert.
        unsafe {
            self.adopt(
                OPERATION,
                sys::ggml_cast(arena, source.raw(), raw_type),
                &[source],
            )
        }
    }

    /// A contiguous copy of `source`.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the arena is full.
    pub(crate) fn contiguous(self: &Arc<Self>, source: &Tensor) -> Result<Tensor> {
        const OPERATION: &str = "cont";
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room.
        unsafe { self.adopt(OPERATION, sys::ggml_cont(arena, source.raw()), &[source]) }
    }

    /// `softmax(scale · scores + mask)` along the rows: scores `[keys, queries, heads]` f32, mask
    /// `[keys, queries]` f16.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the shapes or types do not fit.
    pub(crate) fn soft_max(
        self: &Arc<Self>,
        scores: &Tensor,
        mask: &Tensor,
        scale: f32,
    ) -> Result<Tensor> {
        const OPERATION: &str = "soft_max";
        let (s, m) = (scores.shape(), mask.shape());
        let fits = m[0] == s[0] && m[1] >= s[1] && m[2..] == [1, 1];
        let types =
            scores.get().type_ == sys::GGML_TYPE_F32 && mask.get().type_ == sys::GGML_TYPE_F16;
        if !fits || !types || !scores.is_contiguous() || !mask.is_contiguous() {
            return refuse(
                OPERATION,
                "f32 scores and an f16 mask of the same keys and queries",
                &[scores, mask],
            );
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room; shapes, types and contiguity are what ggml asserts.
        unsafe {
            let raw = sys::ggml_soft_max_ext(arena, scores.raw(), mask.raw(), scale, 0.0);
            self.adopt(OPERATION, raw, &[scores, mask])
        }
    }

    /// Attention without the score matrix in memory: queries `[head size, queries, heads]` f32,
    /// keys and values `[head size, keys, heads]`, mask `[keys, queries]` f16 → `[head size, heads,
    /// queries]` f32.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the shapes or types do not fit.
    pub(crate) fn flash_attention(
        self: &Arc<Self>,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: &Tensor,
        scale: f32,
    ) -> Result<Tensor> {
        const OPERATION: &str = "flash_attn_ext";
        let (q, k, v, m) = (queries.shape(), keys.shape(), values.shape(), mask.shape());
        let fits = q[0] == k[0] && k == v && q[2] == k[2] && q[3] == 1 && k[3] == 1;
        let masked = m[0] == k[1] && m[1] >= q[1] && m[2..] == [1, 1];
        let rows =
            is_f32_rows(queries) && keys.has_contiguous_rows() && values.has_contiguous_rows();
        let mask_type = mask.get().type_ == sys::GGML_TYPE_F16 && mask.is_contiguous();
        if !fits || !masked || !rows || !mask_type {
            return refuse(
                OPERATION,
                "f32 queries, keys and values of one shape, and an f16 mask",
                &[queries, keys, values, mask],
            );
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room; shapes, types and contiguity are what ggml asserts here and
        // when the graph runs.
        unsafe {
            let raw = sys::ggml_flash_attn_ext(
                arena,
                queries.raw(),
                keys.raw(),
                values.raw(),
                mask.raw(),
                scale,
                0.0,
                0.0,
            );
            if raw.is_null() {
                return self.adopt(OPERATION, raw, &[]);
            }
            sys::ggml_flash_attn_ext_set_prec(raw, sys::GGML_PREC_F32);
            self.adopt(OPERATION, raw, &[queries, keys, values, mask])
        }
    }
}
