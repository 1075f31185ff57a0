# The stage `dispatch`, read by .ci/run: the CPU code is chosen at start, gives the same text on
# every processor, and costs no speed. GPT2_DISPATCH=text or speed runs one part; the second needs
# an idle machine.
#
# For the speed: GPT2_DISPATCH_MODEL (the demo model unless given), GPT2_DISPATCH_PAIRS (15),
# GPT2_DISPATCH_THREADS.

[ "$(uname -sm)" = "Linux x86_64" ] || { skip "dispatch (needs Linux on x86-64)"; return; }

target=${CARGO_TARGET_DIR:-target}
native=$target/release/gpt2 dispatch=$target/dispatch/release/gpt2

# The tokens of a greedy continuation.
tokens() {
    "$@" generate -p "It was a dark night, and" -n 48 -t 1 --json 2>/dev/null |
        grep -o '"ids":\[[0-9,]*\]' | tail -n1
}
# The name of the CPU code that runs.
variant() { "$@" --version | sed -n 's/^CPU code: \([^ ]*\).*/\1/p'; }
# Fails unless the command after $1 runs variant $1 and writes the same text.
expect() {
    local name=$1 found
    shift
    found=$(variant "$@")
    [ "$found" = "$name" ] || { echo "expected CPU code $name, found '$found': $*" >&2; return 1; }
    found=$(tokens "$@")
    [ "$found" = "$expected" ] ||
        { echo "$name: expected $expected, found $found: $*" >&2; return 1; }
    echo "$name: the same text ($*)"
}

dispatch_text() {
    local expected said status name archive hidden
    has qemu-x86_64-static || install qemu-user-static ||
        { skip "dispatch on other processors (no qemu: apt-get install qemu-user-static)"; return; }
    expected=$(tokens "$native")
    [ -n "$expected" ]
    expect x86-64-v2 qemu-x86_64-static -cpu Nehalem "$dispatch"
    expect x86-64-v2 qemu-x86_64-static -cpu qemu64,+ssse3,+sse4.1,+sse4.2 "$dispatch"
    # AVX without AVX2.
    expect x86-64-v2 qemu-x86_64-static -cpu SandyBridge "$dispatch"
    expect x86-64-v3 qemu-x86_64-static -cpu Haswell "$dispatch"
    expect "$best" "$dispatch"
    for name in x86-64-v2 x86-64-v3; do
        [ "$name" \> "$best" ] || expect "$name" env "GPT2_CPU=$name" "$dispatch"
    done
    note "dispatch: the same text without AVX, without AVX2, with it, and on this processor ($best)"

    # Refused, not ended by an illegal instruction: CPU code that the processor lacks.
    status=0
    said=$(qemu-x86_64-static -E GPT2_CPU=v3 -cpu Nehalem "$dispatch" generate -p x -n 1 2>&1) ||
        status=$?
    [ $status = 1 ] && grep -q "^error: .*lacks .*avx2" <<<"$said" ||
        { echo "status $status: $said" >&2; return 1; }
    echo "$said"

    # Nothing of ggml's CPU code is visible but what is registered.
    archive=$(ls -t "$target"/dispatch/release/build/gpt2-edge-*/out/libggml.a | head -n1)
    hidden='ggml_compute_forward|ggml_vec_dot|ggml_threadpool_(new|free|pause|resume)'
    if nm -g --defined-only "$archive" 2>/dev/null | grep -E " [TDBRVW] ($hidden)"; then
        echo "the CPU code's symbols are visible in $archive" >&2
        return 1
    fi
}

# Tokens a second of one test.
rate() {
    "$@" bench ${GPT2_DISPATCH_MODEL:+-m "$GPT2_DISPATCH_MODEL"} \
        ${GPT2_DISPATCH_THREADS:+-t "$GPT2_DISPATCH_THREADS"} \
        --kernels "$kernels" -p "$prefill" -n "$decode" -r 1 --json 2>/dev/null |
        grep -o '"mean":[0-9.]*' | head -n1 | cut -d: -f2
}

# Both programs side by side: alternated, each of a pair first in turn, and the median of the pairs'
# ratios. Our kernels are the same in both; ggml's are compiled with other flags.
dispatch_speed() {
    local test name prefill decode kernels pair ratios range median there here slow=0
    local pairs=${GPT2_DISPATCH_PAIRS:-15}
    for kernels in own ggml; do
        for test in "prefill 256 0" "decode 0 96"; do
            read -r name prefill decode <<<"$test"
            ratios=
            for ((pair = 0; pair < pairs; pair++)); do
                if ((pair % 2)); then
                    there=$(rate "$dispatch") here=$(rate "$native")
                else
                    here=$(rate "$native") there=$(rate "$dispatch")
                fi
                ratios+=$(awk -v a="$there" -v b="$here" 'BEGIN { printf "%.3f", a / b }')$'\n'
            done
            ratios=$(sort -n <<<"${ratios%$'\n'}")
            median=$(sed -n $(((pairs + 1) / 2))p <<<"$ratios")
            range="from $(head -n1 <<<"$ratios") to $(tail -n1 <<<"$ratios")"
            note "dispatch: $best against native, $kernels kernels, $name: ratio $median" \
                "(median of $pairs pairs, $range)"
            if awk -v ratio="$median" 'BEGIN { exit ratio >= 0.97 }'; then
                echo "$kernels kernels, $name: $median of the native speed, more than 3 % less" >&2
                slow=1
            fi
        done
    done
    return $slow
}

cargo build --locked --release --package gpt2-edge-tools
CARGO_TARGET_DIR=$target/dispatch \
    cargo build --locked --release --package gpt2-edge-tools --features dispatch
best=$(variant "$dispatch")
part=${GPT2_DISPATCH:-all}
[[ $part =~ ^(all|text|speed)$ ]] ||
    { echo "GPT2_DISPATCH: expected text or speed, found '$part'" >&2; return 1; }
if [ "$part" != speed ]; then dispatch_text; fi
if [ "$part" != text ]; then dispatch_speed; fi
