//! ggml's table of GELU.

use std::sync::OnceLock;

use half::f16;

use super::backend::Backends;
use super::context::Context;
use super::device::Device;
use super::graph::{Allocator, Graph};
use crate::error::{Error, Result};
use crate::gguf::TensorType;
use gpt2_kernels::f16_table::ENTRIES;

/// GELU of every f16 in the order of their bits, as ggml on the CPU computes it. Computed by ggml
/// itself, since its values depend on the compiler and the mathematical library it was built with.
///
/// # Errors
/// Those of a small graph, the first time.
pub(crate) fn gelu_table() -> Result<&'static [f16; ENTRIES]> {
    static TABLE: OnceLock<Box<[f16; ENTRIES]>> = OnceLock::new();
    if let Some(table) = TABLE.get() {
        return Ok(table);
    }
    let device = Device::cpu()?;
    let arguments: Vec<f32> = (0..=u16::MAX)
        .map(|bits| f16::from_bits(bits).to_f32())
        .collect();
    let context = Context::new(2)?;
    let mut graph = Graph::new(&context)?;
    let input = context.tensor("f16 values", TensorType::F32, &[ENTRIES])?;
    input.mark_input();
    let output = context.gelu(&input)?;
    output.mark_output();
    graph.expand(&output)?;
    let mut backends = Backends::start(&[], device, 1)?;
    let allocator = Allocator::new(&backends, &graph)?;
    let mut graph = graph.allocate(allocator)?;
    graph.write(&input, &arguments)?;
    graph.compute(&mut backends)?;
    let mut values = vec![0.0; ENTRIES];
    graph.read(&output, &mut values)?;
    let table: Box<[f16]> = values.into_iter().map(f16::from_f32).collect();
    let table = table.try_into().map_err(|_| Error::Ggml {
        operation: "gelu",
        message: format!("expected {ENTRIES} values"),
    })?;
    Ok(TABLE.get_or_init(|| table))
}
