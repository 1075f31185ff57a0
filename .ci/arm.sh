# The stage `arm`, read by .ci/run: built with scripts/cross.sh, run under qemu as the boards'
# processors.

[ "$(uname -s)" = Linux ] || { skip "arm (needs Linux)"; return; }
has qemu-aarch64-static || install qemu-user-static ||
    { skip "arm (no qemu: apt-get install qemu-user-static)"; return; }
for gnu in aarch64-linux-gnu arm-linux-gnueabihf; do
    has $gnu-g++ || install g++-$gnu ||
        { skip "arm (no cross compiler: apt-get install g++-$gnu)"; return; }
done

target=${CARGO_TARGET_DIR:-target}
cross=$target/cross
arm64=aarch64-unknown-linux-gnu
features=dispatch,pickle,hdf5,msgpack

# The tokens of a greedy continuation.
tokens() {
    "$@" generate -p "It was a dark night, and" -n 24 -t 1 --json 2>/dev/null |
        grep -o '"ids":\[[0-9,]*\]' | tail -n1
}

# Instructions that a token takes, with our kernels and with ggml's: not more with ours.
instructions_per_token() {
    has qemu-aarch64 || install qemu-user ||
        { skip "arm: instructions per token (apt-get install qemu-user)"; return 0; }
    local cpu format own ggml failed=0
    cc -shared -fPIC -O2 -Wall -Wextra -Werror -o "$cross/instructions.so" benches/instructions.c
    executed() { # CPU MODEL KERNELS TOKENS
        qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$1" -plugin "$cross/instructions.so" \
            "$cross/$arm64/release/gpt2" generate -m "$2" -p "It was a dark night, and" -n "$4" \
            -t 1 --ignore-eos --kernels "$3" 2>&1 >/dev/null | sed -n 's/^instructions: //p'
    }
    per_token() {
        local more few
        more=$(executed "$@" 40)
        few=$(executed "$@" 8)
        [ -n "$more" ] && [ -n "$few" ] ||
            { echo "no instructions were counted: $*" >&2; return 1; }
        echo $(((more - few) / 32))
    }
    for format in q4_0 q8_0 q4_k q5_k q6_k f16; do
        "$target/release/gpt2-convert" models/austen-gpt2 -o "$cross/$format.gguf" \
            --type $format --force 2>/dev/null
        for cpu in cortex-a53 cortex-a76; do
            own=$(per_token $cpu "$cross/$format.gguf" own)
            ggml=$(per_token $cpu "$cross/$format.gguf" ggml)
            note "arm: instructions per token, $cpu, $format: $own, with ggml's kernels $ggml"
            if [ "$own" -gt "$ggml" ]; then
                echo "$cpu, $format: $own instructions per token, ggml's kernels take $ggml" >&2
                failed=1
            fi
        done
    done
    return $failed
}

cargo build --locked --release --package gpt2-edge-tools
expected=$(tokens "$target/release/gpt2")
[ -n "$expected" ]

# Size, stripped and without the demo model.
scripts/cross.sh $arm64 build --locked --release --package gpt2-edge-tools \
    --no-default-features --features $features
aarch64-linux-gnu-strip -o "$cross/gpt2-stripped" "$cross/$arm64/release/gpt2"
bytes=$(stat -c %s "$cross/gpt2-stripped")
note "arm: gpt2 for $arm64 without the demo model, stripped: $bytes bytes"
[ "$bytes" -le 12000000 ] || { echo "gpt2 has $bytes bytes, more than 12 MB" >&2; return 1; }

scripts/cross.sh $arm64 build --locked --release --package gpt2-edge-tools --features dispatch
# Processor, and the CPU code it runs: Raspberry Pi 3, 4 and 5, and all that qemu knows.
for board in "cortex-a53 armv8.0" "cortex-a72 armv8.0" "cortex-a76 armv8.2-dotprod" \
    "max armv8.6-i8mm"; do
    read -r cpu name <<<"$board"
    gpt2="qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu $cpu $cross/$arm64/release/gpt2"
    $gpt2 --version | tee "$cross/version.txt"
    grep -q "^CPU code: $name " "$cross/version.txt" ||
        { echo "$cpu: expected $name" >&2; return 1; }
    found=$(tokens $gpt2)
    [ "$found" = "$expected" ] || { echo "$cpu: expected $expected, found $found" >&2; return 1; }
done
arm_tests() { QEMU_CPU=$1 scripts/cross.sh $arm64 test --locked --release "${@:2}"; }
for cpu in cortex-a53 cortex-a72 cortex-a76; do
    arm_tests $cpu --package gpt2-edge --features dispatch --test inference golden:: -- \
        --test-threads=1
done
# The kernels against their portable versions: a processor without dot products, one with them, and
# all that qemu supports.
for cpu in cortex-a53 cortex-a76 max; do
    arm_tests $cpu --package gpt2-edge-kernels --lib -- --test-threads=1
done
# Code for ARM is linted nowhere else; nothing is compiled but Rust.
if has rustup && rustup target list --installed | grep -qx $arm64; then
    DOCS_RS=1 CARGO_TARGET_DIR=$CHECKS \
        cargo clippy --locked --workspace --all-targets --target $arm64 -- -D warnings
else
    skip "lint for $arm64 (rustup target add $arm64)"
fi

# A C program that only generates, with the library in it.
prefix=$(realpath "$cross")/prefix
scripts/cross.sh $arm64 -- scripts/install.sh --target $arm64 --only static --prefix "$prefix"
rm -rf "$cross/c" && cp -r crates/capi/examples "$cross/c"
make --directory "$cross/c" LINK=static CC=aarch64-linux-gnu-gcc \
    PKG_CONFIG_PATH="$prefix/lib/pkgconfig" generate
aarch64-linux-gnu-strip "$cross/c/generate"
bytes=$(stat -c %s "$cross/c/generate")
note "arm: a C program that generates, for $arm64, stripped: $bytes bytes"
[ "$bytes" -le 4000000 ] ||
    { echo "a C program that generates has $bytes bytes, more than 4 MB" >&2; return 1; }
qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu cortex-a53 "$cross/c/generate" \
    models/austen-gpt2-q8_0.gguf "It was a dark night" >"$cross/c/text.txt"
[ "$(wc -c <"$cross/c/text.txt")" -gt 20 ]

instructions_per_token

# 32 bits: built, and a text written.
arm32=armv7-unknown-linux-gnueabihf
if scripts/cross.sh $arm32 build --locked --release --package gpt2-edge-tools; then
    gpt2="qemu-arm-static -L /usr/arm-linux-gnueabihf -cpu cortex-a7 $cross/$arm32/release/gpt2"
    $gpt2 --version
    found=$(tokens $gpt2)
    [ "$found" = "$expected" ] || { echo "$arm32: expected $expected, found $found" >&2; return 1; }
else
    return 1
fi
