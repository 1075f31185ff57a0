//! What is done with the results of a product while they are in the cache.

use crate::rows;

/// What follows a product, in this order: a bias is added, an activation applied, a residual added.
///
/// Kernels take the operands as slices ([`SliceEpilogue`]); whoever describes a computation puts
/// there what stands for them, and fills in the slices with [`Epilogue::map`].
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<Operand, Function> {
    /// A value for each row of the matrix, `[rows]`.
    pub bias: Option<Operand>,
    /// A function of each element, applied in place.
    pub activation: Option<Function>,
    /// A value for each result, `[tokens, rows]`.
    pub residual: Option<Operand>,
}

/// A function of each element, in place.
pub type ElementwiseFn = dyn Fn(&mut [f32]) + Send + Sync;

/// An epilogue as kernels apply it.
pub type SliceEpilogue<'a> = Epilogue<&'a [f32], &'a ElementwiseFn>;

impl<Operand, Function> Epilogue<Operand, Function> {
    /// Results are left as they are.
    pub const NONE: Self = Self {
        bias: None,
        activation: None,
        residual: None,
    };

    /// The same steps with other operands and another function.
    pub fn map<'a, O, F>(
        &'a self,
        operand: impl Fn(&'a Operand) -> O,
        function: impl FnOnce(&'a Function) -> F,
    ) -> Epilogue<O, F> {
        Epilogue {
            bias: self.bias.as_ref().map(&operand),
            activation: self.activation.as_ref().map(function),
            residual: self.residual.as_ref().map(operand),
        }
    }
}

impl SliceEpilogue<'_> {
    /// Checks that the operands are those of `results` results of a matrix of `rows` rows.
    ///
    /// # Panics
    /// When one has another length.
    pub(super) fn check(&self, rows: usize, results: usize) {
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), rows, "bias");
        }
        if let Some(residual) = self.residual {
            assert_eq!(residual.len(), results, "residual");
        }
    }

    /// Applies it to `values`, results of one token from row `first_row` of the matrix on;
    /// `offset` is the first one's index in `[tokens, rows]`.
    ///
    /// # Panics
    /// When an operand is too short.
    pub fn apply(&self, values: &mut [f32], first_row: usize, offset: usize) {
        let bias = self.bias.map(|bias| &bias[first_row..][..values.len()]);
        let residual = self.residual.map(|all| &all[offset..][..values.len()]);
        if let (Some(bias), None, Some(residual)) = (bias, self.activation, residual) {
            rows::add_bias_and_residual(values, bias, residual);
            return;
        }
        if let Some(bias) = bias {
            rows::add_bias(values, bias);
        }
        if let Some(activation) = self.activation {
            activation(values);
        }
        if let Some(residual) = residual {
            // A residual of one token is added as a bias is.
            rows::add_bias(values, residual);
        }
    }
}
