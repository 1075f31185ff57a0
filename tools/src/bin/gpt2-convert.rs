//! Converts checkpoints to GGUF.

fn main() -> std::process::ExitCode {
    gpt2_edge_tools::gpt2_convert()
}
