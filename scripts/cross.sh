#!/usr/bin/env bash
# Cross-compiles: scripts/cross.sh [TARGET [CARGO ARGUMENT... | -- COMMAND...]]
#
# gpt2 and gpt2-convert for 64-bit ARM, and for 32-bit systems (Raspberry Pi 2 and later):
#   scripts/cross.sh
#   scripts/cross.sh armv7-unknown-linux-gnueabihf
# Tests, under qemu; QEMU_CPU=cortex-a53 chooses a processor:
#   scripts/cross.sh aarch64-unknown-linux-gnu test --test inference golden::
# The C library:
#   scripts/cross.sh aarch64-unknown-linux-gnu -- scripts/install.sh \
#       --target aarch64-unknown-linux-gnu --prefix /opt/arm64
#
# What it needs it installs where it may: a C++ compiler and, for tests, qemu from Debian; Rust's
# standard library of the target from rustup or else, unpacked into the build folder, from Debian's
# rustc-web. The programs end up in target/cross/TARGET/release.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=${1:-aarch64-unknown-linux-gnu}
[ $# -gt 0 ] && shift
case $TARGET in
aarch64-unknown-linux-gnu) GNU=aarch64-linux-gnu DEBIAN=arm64 QEMU=qemu-aarch64-static ;;
armv7-unknown-linux-gnueabihf) GNU=arm-linux-gnueabihf DEBIAN=armhf QEMU=qemu-arm-static ;;
*)
    echo "error: expected aarch64-unknown-linux-gnu or armv7-unknown-linux-gnueabihf," \
        "found $TARGET" >&2
    exit 2
    ;;
esac
[ $# -gt 0 ] || set -- build --release --package gpt2-edge-tools --features dispatch
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cross

has() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages when that is possible.
install() {
    if has apt-get && [ "$(id -u)" = 0 ]; then
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
                "$@" >/dev/null && return
    fi
    echo "error: install $* (Debian's names), then run this again" >&2
    exit 1
}

has "$GNU-g++" || install "g++-$GNU"
[ "$1" != test ] && [ "$1" != run ] || has "$QEMU" || install qemu-user-static

# Unpacks Debian's Rust with the target's standard library into $1. The machine's own packages and
# settings are left alone.
debian_rust() {
    local folder=$1 apt names standard=libstd-rust-web-dev triplet
    has apt-get && has dpkg || return 1
    mkdir -p "$folder"/{lists/partial,cache/archives/partial,debs}
    folder=$(realpath "$folder")
    apt=(-qq -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder/cache"
        -o APT::Sandbox::User=root -o "APT::Architectures::=$(dpkg --print-architecture)"
        -o "APT::Architectures::=$DEBIAN")
    # An index of another kind of machine may be missing for a moment.
    apt-get "${apt[@]}" update ||
        echo "warning: some of Debian's package lists could not be read" >&2
    names=$(apt-cache "${apt[@]}" depends --recurse --important rustc-web |
        grep -E '^(libstd-rust-web|libllvm)' | grep -v :)
    # shellcheck disable=SC2086
    (cd "$folder/debs" &&
        apt-get "${apt[@]}" download rustc-web $names $standard "$standard:$DEBIAN") || return 1
    for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder/root"; done
    [ -d "$folder/root/usr/lib/rustlib/$TARGET" ] || return 1
    triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
    cat >"$folder/rustc" <<END
#!/bin/sh
LD_LIBRARY_PATH=\$(dirname "\$0")/root/usr/lib/$triplet \\
    exec "\$(dirname "\$0")/root/usr/bin/rustc" "\$@"
END
    chmod +x "$folder/rustc"
    "$folder/rustc" --version
}

standard_library() { [ -d "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$TARGET/lib" ]; }
if ! standard_library && ! { has rustup && rustup target add "$TARGET" 2>/dev/null; }; then
    DEBIAN_RUST=$CARGO_TARGET_DIR/rust-$DEBIAN
    if [ ! -x "$DEBIAN_RUST/rustc" ]; then
        echo "rustup has no $TARGET here; taking Debian's" >&2
        debian_rust "$DEBIAN_RUST" || {
            echo "error: no standard library of Rust for $TARGET: rustup target add $TARGET, on a" \
                "machine where that works" >&2
            exit 1
        }
    fi
    RUSTC=$(realpath "$DEBIAN_RUST/rustc")
    export RUSTC
fi

variable=${TARGET//-/_}
export "CARGO_TARGET_${variable^^}_LINKER=$GNU-gcc"
export "CARGO_TARGET_${variable^^}_RUNNER=$QEMU -L /usr/$GNU"
# The cc crate looks for the target's compiler by itself; a compiler named for this machine is not
# it.
wrapper=
[[ ${CC:-} != ccache* ]] || wrapper="ccache "
export "CC_$variable=$wrapper$GNU-gcc" "CXX_$variable=$wrapper$GNU-g++"
if [ "$1" = -- ]; then
    shift
    exec "$@"
fi
exec cargo "$1" --target "$TARGET" "${@:2}"
