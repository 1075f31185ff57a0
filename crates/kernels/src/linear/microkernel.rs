//! What every processor's kernels have in common.

/// What a kernel works on: a panel of rows, or some that it takes together, and a tile of tokens.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    /// The rows, as [`super::Matrix`] holds them, panel after panel.
    pub(super) panel: &'a [u8],
    /// Bytes from one panel to the next; 0 when there is one.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "kernels there take one panel")
    )]
    pub(super) other: usize,
    /// How many rows there are, at most eight of each panel.
    pub(super) rows: usize,
    /// Blocks of a row.
    pub(super) blocks: usize,
    /// The tokens, as [`super::quantize_activations`] arranges them.
    pub(super) tile: &'a [u8],
}

/// How many tokens there are in all, as far as the order of sums depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// One, or as if there were.
    One,
    /// Some.
    Few,
    /// At least as many as an instruction set calls many.
    Many,
}

/// Computes the products of the panels' rows with a tile's tokens: row r of token t goes to `output[t * stride + r]`.
///
/// # Safety
/// The processor has the kernel's instructions; panel and tile are as long as rows, blocks and the kernel's tokens
/// say; `output` has places for `rows` values of each token.
pub(super) type Kernel = unsafe fn(job: Job<'_>, output: *mut f32, stride: usize);

/// How the panels of a format are expanded once for many tokens, where kernels take them so.
#[derive(Clone, Copy)]
pub(super) struct Expansion {
    /// Bytes of an expanded block of eight rows.
    pub(super) block_bytes: usize,
    /// Writes `blocks` blocks of a panel of so many rows; rows that are missing become 0. The processor must have the
    /// instructions of the set that has the expansion.
    pub(super) expand: Expand,
}

/// See [`Expansion`].
pub(super) type Expand = unsafe fn(panel: &[u8], rows: usize, blocks: usize, expanded: &mut [u8]);
