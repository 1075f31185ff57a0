# The stage `sanitize`, read by .ci/run: the C tests under valgrind and with gcc's sanitizers, and
# the examples in C under valgrind. GPT2_SANITIZE names some of the tools instead of all,
# GPT2_SANITIZE_PROGRAMS some of the programs of crates/capi/tests/c. To call every function in
# random order with random arguments for a minute, with AddressSanitizer:
#
#   GPT2_SANITIZE=address GPT2_SANITIZE_PROGRAMS=fuzz GPT2_FUZZ_SECONDS=60 .ci/run sanitize
#
# RUSTC_BOOTSTRAP lets a stable compiler instrument this library. For ThreadSanitizer Rust's own
# library is compiled so as well: it must see the locks in there, or takes what they guard for a
# race. AddressSanitizer needs no more than its replacement of malloc there.

# What waits for a thread by spinning waits for long where one thread runs at a time. Its translator
# runs out of memory on the kernels' long straight lines of code, unless it takes them in pieces.
VALGRIND=(valgrind --quiet --fair-sched=yes --vex-guest-max-insns=20
    --error-exitcode=9 --leak-check=full
    --errors-for-leak-kinds=definite,indirect,possible
    --suppressions="$PWD/crates/capi/tests/c/valgrind.supp")
# One type whose products are ggml's, and one whose products are ours, with our threads.
MODEL_TYPES=(f32 q8_0)
read -ra PROGRAMS <<<"${GPT2_SANITIZE_PROGRAMS:-abi interface threads misuse freeing forks fuzz}"

# Runs the command after $1, its name, which must succeed; says how long it took.
timed() {
    local start=$SECONDS name=$1
    shift
    "$@" || { echo "$name: status $?" >&2; return 1; }
    echo "$name: $((SECONDS - start)) s"
}

# Makes cargo compile Rust's own library too, of which the source is needed.
build_rust_library() {
    export CARGO_UNSTABLE_BUILD_STD=std,panic_unwind
    [ -e "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ] ||
        { has rustup && rustup component add rust-src; }
}

# Builds library and C tests for one of the tools and runs them.
sanitize() {
    local kind=$1 flags='' names='' only=(--only static) run=() command=() tokens=() arguments=()
    local folder target program type libraries tests=crates/capi/tests/c
    target=$(rustc -vV | sed -n 's/^host: //p')
    folder=$(mktemp -d)
    # The variable is out of scope when the trap runs.
    # shellcheck disable=SC2064
    trap "rm -rf '$folder'" EXIT
    export CARGO_TARGET_DIR=$CHECKS/$kind
    if [ "$kind" = valgrind ]; then
        # It does not know the newest instructions.
        [ "$(uname -m)" != x86_64 ] || export GGML_CPU_ARCH=x86-64-v3
        run=("${VALGRIND[@]}") only=()
        # Computing takes a hundred times as long there: fewer tokens of each text.
        tokens=(4)
    else
        flags="-fsanitize=$kind -fno-omit-frame-pointer -g1"
        export RUSTC_BOOTSTRAP=1 CFLAGS=$flags CXXFLAGS=$flags
        export RUSTFLAGS="-Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer"
        if [ "$kind" = thread ]; then
            names=$tests/tsan_names.c
            build_rust_library || return 3
        fi
        export ASAN_OPTIONS=detect_leaks=1 TSAN_OPTIONS=halt_on_error=1
    fi
    scripts/install.sh --profile dev "${only[@]}" --target "$target" --prefix "$folder"
    libraries="$folder/lib/libgpt2.a $(PKG_CONFIG_PATH=$folder/lib/pkgconfig \
        pkg-config --static --libs --cflags gpt2 | sed 's/-lgpt2 *//')"
    for program in convert "${PROGRAMS[@]}"; do
        # shellcheck disable=SC2086 # lists of words
        gcc -std=gnu99 -g -O1 -pthread $flags -I$tests -o "$folder/$program" \
            "$tests/$program.c" $names $libraries -lm
    done
    for type in "${MODEL_TYPES[@]}"; do
        timed "$kind: convert $type" "${run[@]}" "$folder/convert" models/austen-gpt2 \
            "$folder/$type.gguf" "$type"
        for program in "${PROGRAMS[@]}"; do
            # A child waits for locks of the sanitizers that another thread held.
            if [ "$kind:$program" = address:forks ] || [ "$kind:$program" = thread:forks ]; then
                continue
            fi
            mkdir "$folder/scratch"
            case $program in
            abi | freeing) arguments=() ;;
            forks) arguments=("${tokens[@]}") ;;
            misuse | fuzz) arguments=("$folder/scratch") ;;
            *) arguments=("$folder/scratch" "${tokens[@]}") ;;
            esac
            command=("${run[@]}")
            # Children end with what the parent freed later. A hash table is known by a pointer into
            # its memory, which valgrind calls possibly lost.
            if [ "$kind:$program" = valgrind:forks ]; then
                command+=(--errors-for-leak-kinds=definite,indirect
                    --show-leak-kinds=definite,indirect)
            fi
            timed "$kind: $program $type ${tokens[*]}" "${command[@]}" "$folder/$program" \
                "$folder/$type.gguf" "${arguments[@]}"
            rm -r "$folder/scratch"
        done
    done
    if [ "$kind" = valgrind ]; then examples_under_valgrind "$folder"; fi
}

# The programs of crates/capi/examples with the library in $1, linked either way; greedy ones print
# under valgrind what they print without. What is sampled or printed with six digits may differ:
# valgrind has no AVX-512, whose kernels differ in last digits.
examples_under_valgrind() {
    local folder=$1 link program expected found must
    local prompt="It is a truth universally acknowledged, that"
    for link in static shared; do
        cp -r crates/capi/examples "$folder/examples-$link"
        make --quiet --directory "$folder/examples-$link" LINK=$link \
            PKG_CONFIG_PATH="$folder/lib/pkgconfig"
        while read -r must program arguments; do
            # shellcheck disable=SC2086 # a list of words
            set -- "$folder/examples-$link/$program" "$folder/q8_0.gguf" "$prompt" $arguments
            expected=$(LD_LIBRARY_PATH=$folder/lib "$@")
            found=$(LD_LIBRARY_PATH=$folder/lib "${VALGRIND[@]}" "$@")
            [ "$must" = same ] || expected=$found
            [ -n "$found" ] && [ "$found" = "$expected" ] ||
                { printf '%s %s: expected\n%s\nfound\n%s\n' "$link" "$program" "$expected" \
                    "$found" >&2; return 1; }
            echo "valgrind: $program $arguments, linked $link: no error, $must output"
        done <<'END'
same generate max_new_tokens=12
some generate max_new_tokens=12 do_sample=true temperature=0.8 top_k=40 seed=7
same generate_cpp max_new_tokens=12
same sampler 12
some embed Emma
END
    done
}

{ has gcc && has make && has pkg-config; } || install gcc make pkg-config || {
    skip "sanitize (no gcc, make or pkg-config)"
    return
}
for kind in ${GPT2_SANITIZE:-valgrind address thread}; do
    if [ "$kind" = valgrind ] && ! has valgrind && ! install valgrind; then
        skip "valgrind (it is not installed: apt-get install valgrind)"
        continue
    fi
    # In a shell of its own, which forgets the variables; not in a condition, where bash would
    # ignore -e.
    set +e
    (set -e; sanitize "$kind")
    status=$?
    set -e
    case $status in
    0) note "sanitize: $kind found nothing" ;;
    3) skip "sanitize: $kind (Rust's library has no source here: rustup component add rust-src)" ;;
    *) return $status ;;
    esac
done
