//! What `gpt2-convert` tells: the plan on stderr, the result on stdout.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use gpt2::convert::{Plan, PlannedTensor};
use gpt2::gguf::TensorType;
use serde_json::{Value, json};

use crate::memory::peak_rss;
use crate::report::bytes;

/// How many tensors get which type, the size to expect, and the warnings, a line each.
pub(super) fn plan_text(plan: &Plan) -> String {
    let mut counts: BTreeMap<(&str, &str), (usize, u64)> = BTreeMap::new();
    for tensor in &plan.tensors {
        let entry = counts
            .entry((tensor.tensor_type.name(), tensor.source_dtype.as_str()))
            .or_default();
        entry.0 += 1;
        entry.1 += tensor.bytes;
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    for ((to, from), (count, size)) in counts {
        let _ = writeln!(
            text,
            "{count:5} tensors  {from:>5} -> {to:<6} {:>10}",
            bytes(size)
        );
    }
    let _ = writeln!(
        text,
        "{} bytes, {:.2} bits per weight",
        plan.bytes, plan.bits_per_weight
    );
    for warning in &plan.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// One line about the result.
pub(super) fn summary(plan: &Plan, output: &Path, seconds: f64, dry_run: bool) -> String {
    let size = format!(
        "{} bytes, {:.2} bits per weight",
        plan.bytes, plan.bits_per_weight
    );
    if dry_run {
        format!("nothing written; the file would have {size}\n")
    } else {
        format!("{}: {size}, {seconds:.1} s\n", output.display())
    }
}

/// The report as a JSON document.
pub(super) fn json(plan: &Plan, output: &Path, seconds: f64) -> Value {
    json!({
        "output": output.to_string_lossy(),
        "bytes": plan.bytes,
        "bits_per_weight": plan.bits_per_weight,
        "seconds": seconds,
        "peak_rss_bytes": peak_rss(),
        "tensors": plan.tensors.iter().map(tensor).collect::<Vec<_>>(),
        "warnings": plan.warnings,
    })
}

fn tensor(tensor: &PlannedTensor) -> Value {
    json!({
        "name": tensor.name,
        "shape": tensor.shape,
        "source_dtype": tensor.source_dtype,
        "type": tensor.tensor_type.name(),
        "fallback_from": tensor.fallback_from.map(TensorType::name),
        "bytes": tensor.bytes,
    })
}
