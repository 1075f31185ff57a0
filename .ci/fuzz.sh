# The stage `fuzz`, read by .ci/run: libFuzzer with coverage and AddressSanitizer over everything
# that comes from outside. Each target runs GPT2_FUZZ_SECONDS (30); GPT2_FUZZ_TARGETS names some of
# them instead of all. Inputs that found something new are kept in the build folder, so that the
# next run goes on from there; findings are kept in fuzz/findings.
#
# The fuzzer is a package of its own, and libFuzzer comes with the crate libfuzzer-sys.
# RUSTC_BOOTSTRAP lets a stable compiler instrument it; ggml is instrumented for addresses as well.

FUZZ_SECONDS=${GPT2_FUZZ_SECONDS:-30}
# Megabytes; an input is below one.
FUZZ_MEMORY=${GPT2_FUZZ_MEMORY:-1024}
FUZZ_FOLDER=$CHECKS/fuzz
# Seconds for one input.
FUZZ_TIMEOUT=${GPT2_FUZZ_TIMEOUT:-20}

fuzz_build() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    # The commands, as users have them.
    cargo build --locked --release --package gpt2-edge-tools
    GPT2_FUZZ_PROGRAMS=$(realpath "${CARGO_TARGET_DIR:-target}/release")
    export GPT2_FUZZ_PROGRAMS
    # With a target named, build scripts and macros are not instrumented.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Cforce-frame-pointers=yes \
--cfg fuzzing" \
        cargo build --locked --release --manifest-path fuzz/Cargo.toml \
        --target-dir "$FUZZ_FOLDER" --target "$host"
    FUZZER=$FUZZ_FOLDER/$host/release/fuzz
    GPT2_FUZZ_SEEDS=$FUZZ_FOLDER/seeds "$FUZZER" -runs=1 >/dev/null 2>&1 </dev/null
}

# One target; a line of figures.
fuzz_target() {
    local name=$1 log=$FUZZ_FOLDER/$1.log corpus=$FUZZ_FOLDER/corpus/$1
    local status=0 runs coverage findings
    mkdir -p "$corpus" fuzz/findings
    GPT2_FUZZ_TARGET=$name "$FUZZER" "$corpus" "$FUZZ_FOLDER/seeds/$name" \
        -max_total_time="$FUZZ_SECONDS" -timeout="$FUZZ_TIMEOUT" -rss_limit_mb="$FUZZ_MEMORY" \
        -max_len=786432 -print_final_stats=1 -artifact_prefix="fuzz/findings/$name-" \
        >"$log" 2>&1 </dev/null || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n1)
    findings=$(grep -c '^artifact_prefix=' "$log" || true)
    note "fuzz $name: ${runs:-0} executions, ${coverage:-0} edges covered, $findings findings"
    tail -n1 "$NOTES"
    if [ $status != 0 ]; then
        grep -v '^#' "$log" | tail -n 60
        return 1
    fi
}

# The C interface: every function in random order with random arguments, from several threads.
fuzz_c() {
    local log=$FUZZ_FOLDER/c_calls.log status=0 calls
    GPT2_SANITIZE=address GPT2_SANITIZE_PROGRAMS=fuzz \
        GPT2_FUZZ_SECONDS=$FUZZ_SECONDS .ci/run sanitize >"$log" 2>&1 || status=$?
    calls=$(grep -h ' calls, ' "$log" | tr '\n' ';' || true)
    note "fuzz c_calls: ${calls:-no figures}"
    tail -n1 "$NOTES"
    [ $status = 0 ] || { tail -n 60 "$log"; return 1; }
}

fuzz_all() {
    local targets failed=0 name
    fuzz_build
    targets=(gguf model safetensors pickle nanogpt llm_c hdf5 msgpack tensorflow config lora
        tokenizer chat generate_command convert_command c_calls)
    [ -z "${GPT2_FUZZ_TARGETS:-}" ] || read -ra targets <<<"$GPT2_FUZZ_TARGETS"
    for name in "${targets[@]}"; do
        if [ "$name" = c_calls ]; then
            fuzz_c || failed=1
        else
            fuzz_target "$name" || failed=1
        fi
    done
    return $failed
}

fuzz_all
