# The stage `arm`, read by .ci/run: built with ./cross.sh, run under qemu as the boards' processors.

[ "$(uname -s)" = Linux ] || { skip "arm (needs Linux)"; return; }
has qemu-aarch64-static || install qemu-user-static ||
    { skip "arm (no qemu: apt-get install qemu-user-static)"; return; }
for gnu in aarch64-linux-gnu arm-linux-gnueabihf; do
    has $gnu-g++ || install g++-$gnu || { skip "arm (no cross compiler: apt-get install g++-$gnu)"; return; }
done

cross=${CARGO_TARGET_DIR:-target}/cross
arm64=aarch64-unknown-linux-gnu
features=dispatch,pickle,hdf5,msgpack

# The tokens of a greedy continuation.
tokens() { "$@" generate -p "It was a dark night, and" -n 24 -t 1 --json 2>/dev/null | grep -o '"ids":\[[0-9,]*\]' | tail -n1; }

cargo build --locked --release --package gpt2-edge-tools
expected=$(tokens "${CARGO_TARGET_DIR:-target}/release/gpt2")
[ -n "$expected" ]

# Size, stripped and without the demo model.
./cross.sh $arm64 build --locked --release --package gpt2-edge-tools --no-default-features --features $features
aarch64-linux-gnu-strip -o "$cross/gpt2-stripped" "$cross/$arm64/release/gpt2"
bytes=$(stat -c %s "$cross/gpt2-stripped")
note "arm: gpt2 for $arm64 without the demo model, stripped: $bytes bytes"
[ "$bytes" -le 12000000 ] || { echo "gpt2 has $bytes bytes, more than 12 MB" >&2; return 1; }

./cross.sh $arm64 build --locked --release --package gpt2-edge-tools --features dispatch
# Processor, and the CPU code it runs: Raspberry Pi 3, 4 and 5, and all that qemu knows.
for board in "cortex-a53 armv8.0" "cortex-a72 armv8.0" "cortex-a76 armv8.2-dotprod" "max armv8.6-i8mm"; do
    read -r cpu name <<<"$board"
    gpt2="qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu $cpu $cross/$arm64/release/gpt2"
    $gpt2 --version | tee "$cross/version.txt"
    grep -q "^CPU code: $name " "$cross/version.txt" || { echo "$cpu: expected $name" >&2; return 1; }
    found=$(tokens $gpt2)
    [ "$found" = "$expected" ] || { echo "$cpu: expected $expected, found $found" >&2; return 1; }
done
for cpu in cortex-a53 cortex-a72 cortex-a76; do
    QEMU_CPU=$cpu ./cross.sh $arm64 test --locked --release --package gpt2-edge --features dispatch --test golden -- --test-threads=1
done

# 32 bits: built, and a text written.
arm32=armv7-unknown-linux-gnueabihf
if ./cross.sh $arm32 build --locked --release --package gpt2-edge-tools; then
    gpt2="qemu-arm-static -L /usr/arm-linux-gnueabihf -cpu cortex-a7 $cross/$arm32/release/gpt2"
    $gpt2 --version
    found=$(tokens $gpt2)
    [ "$found" = "$expected" ] || { echo "$arm32: expected $expected, found $found" >&2; return 1; }
else
    return 1
fi
