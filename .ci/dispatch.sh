# The stage `dispatch`, read by .ci/run: the CPU code is chosen at start, gives the same text everywhere, and
# costs nothing.

[ "$(uname -sm)" = "Linux x86_64" ] || { skip "dispatch (needs Linux on x86-64)"; return; }
has qemu-x86_64-static || install qemu-user-static ||
    { skip "dispatch (no qemu: apt-get install qemu-user-static)"; return; }

target=${CARGO_TARGET_DIR:-target}
cargo build --locked --release --package gpt2-edge-tools
CARGO_TARGET_DIR=$target/dispatch cargo build --locked --release --package gpt2-edge-tools --features dispatch
native=$target/release/gpt2 dispatch=$target/dispatch/release/gpt2

# The tokens of a greedy continuation.
tokens() { "$@" generate -p "It was a dark night, and" -n 48 -t 1 --json 2>/dev/null | grep -o '"ids":\[[0-9,]*\]' | tail -n1; }
# The name of the CPU code that runs.
variant() { "$@" --version | sed -n 's/^CPU code: \([^ ]*\).*/\1/p'; }
# Fails unless the command after $1 runs variant $1 and writes the same text.
expect() {
    local name=$1 found
    shift
    found=$(variant "$@")
    [ "$found" = "$name" ] || { echo "expected CPU code $name, found '$found': $*" >&2; return 1; }
    found=$(tokens "$@")
    [ "$found" = "$expected" ] || { echo "$name: expected $expected, found $found: $*" >&2; return 1; }
    echo "$name: the same text ($*)"
}

expected=$(tokens "$native")
[ -n "$expected" ]
expect x86-64-v2 qemu-x86_64-static -cpu Nehalem "$dispatch"
expect x86-64-v2 qemu-x86_64-static -cpu qemu64,+ssse3,+sse4.1,+sse4.2 "$dispatch"
expect x86-64-v3 qemu-x86_64-static -cpu Haswell "$dispatch"
best=$(variant "$dispatch")
expect "$best" "$dispatch"
for name in x86-64-v2 x86-64-v3; do
    [ "$name" \> "$best" ] || expect "$name" env "GPT2_CPU=$name" "$dispatch"
done

# Refused, not ended by an illegal instruction: CPU code that the processor lacks.
said=$(qemu-x86_64-static -E GPT2_CPU=v3 -cpu Nehalem "$dispatch" generate -p x -n 1 2>&1) && status=0 || status=$?
[ $status = 1 ] && grep -q "^error: .*lacks .*avx2" <<<"$said" || { echo "status $status: $said" >&2; return 1; }
echo "$said"

# Nothing of ggml's CPU code is visible but what is registered.
archive=$(ls -t "$target"/dispatch/release/build/gpt2-edge-*/out/libggml.a | head -n1)
if nm -g --defined-only "$archive" 2>/dev/null | grep -E ' [TDBRVW] (ggml_compute_forward|ggml_vec_dot|ggml_threadpool)'; then
    echo "the CPU code's symbols are visible in $archive" >&2
    return 1
fi

# Speed, side by side: alternated, and the median of the ratios.
rate() { "$@" bench -p "$prefill" -n "$decode" -r 1 --json 2>/dev/null | grep -o '"mean":[0-9.]*' | head -n1 | cut -d: -f2; }
for test in "prefill 256 0" "decode 0 96"; do
    read -r name prefill decode <<<"$test"
    ratios=
    for _ in 1 2 3 4 5 6 7; do
        ratios+=$(echo "$(rate "$dispatch") $(rate "$native")" | awk '{ printf "%.3f\n", $1 / $2 }')$'\n'
    done
    median=$(sort -n <<<"${ratios%$'\n'}" | sed -n 4p)
    note "dispatch: $best against native, $name: ratio $median (median of 7 alternated pairs)"
    # A busy machine is noisy; slower by a tenth is another code.
    awk -v ratio="$median" 'BEGIN { exit ratio < 0.9 }' || { echo "$name: $median of the native build's speed" >&2; return 1; }
done
