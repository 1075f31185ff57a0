#!/bin/sh
# Builds gpt2-edge, converts the demo checkpoint to GGUF and lets it write.
# Needs Rust and a C++ compiler; the compiler is installed when it is missing and apt-get may be
# used.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-target}

has() { command -v "$1" >/dev/null 2>&1; }
stop() { echo "demo.sh: $1" >&2; exit 1; }

has cargo || PATH="$HOME/.cargo/bin:$PATH"
has cargo || stop "Rust is missing: install it as https://rustup.rs says and start this again"

# rustc links with `cc`; ggml is C and C++.
if ! { has cc && has "${CXX:-c++}"; }; then
    has apt-get ||
        stop "a C++ compiler is missing: install g++ or clang with your system's package manager"
    [ "$(id -u)" = 0 ] || stop "a C++ compiler is missing: sudo apt-get install g++"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++
fi

cargo build --release --locked --package gpt2-edge-tools
"$target/release/gpt2-convert" models/austen-gpt2 -o "$target/austen-q8_0.gguf" --type q8_0 --force

prompt="It is a truth universally acknowledged, that"
printf '\n%s' "$prompt"
"$target/release/gpt2" generate -m "$target/austen-q8_0.gguf" -p "$prompt" -n 120 \
    --do-sample --temperature 0.7 --top-k 40 --seed 4
