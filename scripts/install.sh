#!/bin/sh
# Builds the C library and installs it: gpt2.h, gpt2.hpp, libgpt2.a, libgpt2.so, gpt2.pc and files
# for CMake.
#
#   scripts/install.sh [--prefix DIR] [--libdir DIR] [--only static|shared] [--profile PROFILE]
#       [--target TARGET] [--features LIST] [--no-default-features]
#   scripts/install.sh --from BUILT [--prefix DIR] [--libdir DIR]
#   scripts/install.sh --uninstall [--prefix DIR] [--libdir DIR]
#
# DIR is /usr/local unless given; DESTDIR is prepended to it, as packagers expect. PROFILE is
# release, TARGET this machine. BUILT is a folder with libgpt2.a and libgpt2.so, such as
# target/release after `cargo build --release --workspace`: nothing is compiled then.
# AR, LD, NM, OBJCOPY name other binutils (for another TARGET they are looked for under its name).
# Needs what building the library needs (Rust and a C++ compiler), and GNU binutils.
set -eu

usage() { sed -n '2,14s/^# \{0,1\}//p' "$0"; }
stop() { echo "error: $1" >&2; exit "${2:-1}"; }
has() { command -v "$1" >/dev/null 2>&1; }

here=$(cd "$(dirname "$0")/.." && pwd)
prefix=/usr/local libdir='' only='' profile=release target='' uninstall='' features='' from=''
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --libdir | --only | --profile | --target | --features | --from)
        [ $# -ge 2 ] || stop "$1 needs a value; see --help" 2 ;;
    esac
    case $1 in
    --prefix) prefix=$2; shift ;;
    --libdir) libdir=$2; shift ;;
    --only) only=$2; shift ;;
    --from) from=$2; shift ;;
    --profile) profile=$2; shift ;;
    --target) target=$2; shift ;;
    --features) features="$features --features $2"; shift ;;
    --no-default-features) features="$features --no-default-features" ;;
    --uninstall) uninstall=yes ;;
    --help | -h) usage; exit 0 ;;
    *) stop "unknown argument '$1'; see --help" 2 ;;
    esac
    shift
done
case $only in
'' | static | shared) ;;
*) stop "--only: expected static or shared, found '$only'" 2 ;;
esac
case $prefix in /*) ;; *) stop "--prefix: expected an absolute path, found '$prefix'" 2 ;; esac
[ "$(uname -s)" = Linux ] || stop "this script supports Linux only; on other systems use the \
output of 'cargo build --release --package gpt2-edge-capi' as it is"

if [ -n "$from" ]; then
    [ -z "$only$target$features" ] ||
        stop "--from installs what was built: it takes no option of a build" 2
    from=$(cd "$from" && pwd)
fi

cd "$here"
version=$(cargo pkgid --package gpt2-edge-capi | sed 's/.*[#@]//')
major=${version%%.*}
soname=libgpt2.so.$major
[ -n "$libdir" ] || libdir=$prefix/lib
to_lib=${DESTDIR:-}$libdir
to_include=${DESTDIR:-}$prefix/include

if [ -n "$uninstall" ]; then
    rm -f "$to_include/gpt2.h" "$to_include/gpt2.hpp" "$to_lib/libgpt2.a" "$to_lib/libgpt2.so" \
        "$to_lib/$soname" "$to_lib/libgpt2.so.$version" "$to_lib/pkgconfig/gpt2.pc" \
        "$to_lib/cmake/gpt2/gpt2-config.cmake" "$to_lib/cmake/gpt2/gpt2-config-version.cmake"
    [ ! -d "$to_lib/cmake/gpt2" ] || rmdir "$to_lib/cmake/gpt2"
    exit 0
fi

# The binutils of the target.
tools=''
if [ -n "$target" ]; then tools=$(echo "$target" | sed 's/-unknown//')-; fi
tool() {
    for name in "$1" "$tools$2" "$2"; do
        if [ -n "$name" ] && has "$name"; then echo "$name"; return; fi
    done
    stop "$tools$2 is missing (Debian: apt-get install binutils)"
}
LD=$(tool "${LD:-}" ld) NM=$(tool "${NM:-}" nm)
OBJCOPY=$(tool "${OBJCOPY:-}" objcopy) AR=$(tool "${AR:-}" ar)

types=staticlib,cdylib
case $only in static) types=staticlib ;; shared) types=cdylib ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Builds the library; the names of the system's libraries come back in a message.
build() {
    # shellcheck disable=SC2086 # a list of words
    if ! cargo rustc --locked --package gpt2-edge-capi --lib --profile "$profile" \
        ${target:+--target "$target"} $features --crate-type "$types" \
        --message-format json-diagnostic-short -- --print native-static-libs >"$work/messages"; then
        sed -n 's/.*"rendered":"\([^"]*\)".*/\1/p' "$work/messages" >&2
        stop "the library could not be built"
    fi
    archive=$(artifact a)
    shared=$(artifact so)
    needed=$(sed -n 's/.*native-static-libs: \([^"\\]*\).*/\1/p' "$work/messages" | tail -n1)
}
artifact() { tr ',"[]' '\n\n\n\n' <"$work/messages" | grep "/libgpt2\\.$1\$" | tail -n1; }

# Takes what was built. The shared library names what it is linked with, and the static one, of the
# same code, needs the same.
take() {
    archive=$from/libgpt2.a shared=$from/libgpt2.so
    for file in "$archive" "$shared"; do
        [ -e "$file" ] || stop "$file is missing: cargo build --release --workspace makes it"
    done
    needed=$(readelf -d "$shared" | sed -n 's/.*(NEEDED).*\[lib\(.*\)\.so.*/-l\1/p' | tr '\n' ' ')
}

# One object that exports gpt2_* and nothing else: neither ggml nor Rust's library meets another
# copy of itself in the program. What the interface does not reach is left out; functions stay in
# sections of their own, for --gc-sections.
hide() {
    "$NM" --defined-only --extern-only "$1" 2>/dev/null |
        awk '$3 ~ /^gpt2_/ { print $3 }' | sort -u >"$work/symbols"
    [ -s "$work/symbols" ] || stop "$1 has no symbols that begin with gpt2_"
    # shellcheck disable=SC2046 # a list of words
    "$LD" -r --force-group-allocation $(sed 's/^/-u /' "$work/symbols") -o "$work/whole.o" "$1"
    # Bitcode (of Rust's library) is of no use once merged, and confuses tools that look into it.
    "$OBJCOPY" --strip-debug --remove-section .llvmbc --remove-section .llvmcmd \
        --keep-global-symbols="$work/symbols" "$work/whole.o" "$work/gpt2.o"
    rm -f "$work/libgpt2.a"
    "$AR" rcs "$work/libgpt2.a" "$work/gpt2.o"
}

if [ -n "$from" ]; then take; else build; fi
# Every driver of a linker adds what its compiler's runtime needs: libgcc_s, or with -static, where
# there is no such library, libgcc_eh; clang without libgcc its own.
# shellcheck disable=SC2086 # a list of words
needed=$(printf '%s\n' $needed | grep -vx -e -lgcc_s -e -lgcc_eh -e -lgcc -e -lc | tr '\n' ' ')
mkdir -p "$to_include" "$to_lib/pkgconfig" "$to_lib/cmake/gpt2"
install -m 644 crates/capi/include/gpt2.h crates/capi/include/gpt2.hpp "$to_include/"
if [ "$only" != shared ]; then
    [ -n "$needed" ] ||
        stop "it is not known which of the system's libraries the static library needs"
    hide "$archive"
    install -m 644 "$work/libgpt2.a" "$to_lib/libgpt2.a"
fi
if [ "$only" != static ]; then
    install -m 755 "$shared" "$to_lib/libgpt2.so.$version"
    ln -sf "libgpt2.so.$version" "$to_lib/$soname"
    ln -sf "$soname" "$to_lib/libgpt2.so"
fi

cat >"$to_lib/pkgconfig/gpt2.pc" <<END
prefix=$prefix
libdir=$libdir
includedir=\${prefix}/include

Name: gpt2
Description: GPT-2 models on small computers
Version: $version
Libs: -L\${libdir} -lgpt2
Libs.private: $needed
Cflags: -I\${includedir}
END

# CMake finds what lies beside its file, wherever that was put.
up=$(echo "${libdir#"$prefix"/}" | sed 's|[^/][^/]*|..|g')
include_dir="\${CMAKE_CURRENT_LIST_DIR}/../../$up/include"
case $libdir in "$prefix"/*) ;; *) include_dir=$prefix/include ;; esac
{
    cat <<END
# find_package(gpt2): the targets gpt2::shared and gpt2::static, as installed, and gpt2::gpt2, the
# shared one if there is one.
set(_gpt2_libdir "\${CMAKE_CURRENT_LIST_DIR}/../..")
function(_gpt2_target name kind file)
  if(NOT TARGET gpt2::\${name})
    add_library(gpt2::\${name} \${kind} IMPORTED)
    set_target_properties(gpt2::\${name} PROPERTIES IMPORTED_LOCATION "\${_gpt2_libdir}/\${file}"
      INTERFACE_INCLUDE_DIRECTORIES "$include_dir")
  endif()
endfunction()
END
    [ "$only" = static ] || cat <<END
_gpt2_target(shared SHARED libgpt2.so.$version)
set_target_properties(gpt2::shared PROPERTIES IMPORTED_SONAME $soname)
END
    [ "$only" = shared ] || cat <<END
_gpt2_target(static STATIC libgpt2.a)
set_target_properties(gpt2::static PROPERTIES
  INTERFACE_LINK_LIBRARIES "$(echo "$needed" | sed 's/^ *//; s/ *$//; s/  */;/g')")
END
    cat <<END
if(NOT TARGET gpt2::gpt2)
  add_library(gpt2::gpt2 INTERFACE IMPORTED)
  set_target_properties(gpt2::gpt2 PROPERTIES
    INTERFACE_LINK_LIBRARIES gpt2::$([ "$only" = static ] && echo static || echo shared))
endif()
END
} >"$to_lib/cmake/gpt2/gpt2-config.cmake"
cat >"$to_lib/cmake/gpt2/gpt2-config-version.cmake" <<END
set(PACKAGE_VERSION $version)
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION
   OR NOT PACKAGE_FIND_VERSION_MAJOR STREQUAL "$major")
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
if(NOT PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
END
echo "gpt2 $version: $to_include/gpt2.h, $(ls -d "$to_lib"/libgpt2.* | tr '\n' ' ')"
