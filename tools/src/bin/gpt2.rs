//! Runs GPT-2 models.

fn main() -> std::process::ExitCode {
    gpt2_edge_tools::gpt2()
}
