# The editor page, read by .ci/run: `page_lint` for the gate, `browser_all` for the stage `browser`.
#
# The stage drives Debian's Chromium, first against a stand-in server that can be slow, busy and
# broken, then against `gpt2 serve`. Pictures of every state are kept in the build folder.

PAGE_TESTS=crates/server/tests/browser
PAGE_LIMIT=100000
# In the build folder, never committed.
PAGE_TOOLS=$CHECKS/page
PAGE_TYPESCRIPT=typescript@7.0.2
PAGE_DRIVER=(playwright-core@1.65.1 axe-core@4.14.1)

# Whether node is there and reads modules by their contents.
page_node() {
    has node && has npm && node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1);'
}

# The npm packages $@, in the folder of tools.
page_install() {
    mkdir -p "$PAGE_TOOLS"
    npm install --prefix "$PAGE_TOOLS" --no-audit --no-fund --no-package-lock --silent "$@"
}

# Its size; no address of another host in it; its types; the parts that need no browser.
page_lint() {
    local bytes
    bytes=$(cat crates/server/page/* | wc -c)
    [ "$bytes" -le $PAGE_LIMIT ] ||
        { echo "the page has $bytes bytes, more than $PAGE_LIMIT" >&2; return 1; }
    if grep -nE '(https?|wss?):|[^:/]//[a-z0-9-]+\.[a-z]|@import|url\(' crates/server/page/*; then
        echo "the page names another host" >&2
        return 1
    fi
    if awk 'length > 100 { print FILENAME ": " $0; found = 1 } END { exit !found }' \
        crates/server/page/*.js "$PAGE_TESTS"/*.mjs; then
        echo "lines of more than 100 columns" >&2
        return 1
    fi
    page_node || { skip "the page's types and unit tests (needs node 20.19 and npm)"; return; }
    node --test "$PAGE_TESTS/unit.test.mjs" >"$CHECKS/page.log" ||
        { cat "$CHECKS/page.log"; return 1; }
    if [ ! -x "$PAGE_TOOLS/node_modules/.bin/tsc" ] && ! page_install "$PAGE_TYPESCRIPT"; then
        skip "the page's types (npm cannot fetch $PAGE_TYPESCRIPT)"
        return
    fi
    "$PAGE_TOOLS/node_modules/.bin/tsc" --project "$PAGE_TESTS/tsconfig.json"
}

# The tests in the files $@ against the server $1: a program, or nothing for the stand-in.
browser_tests() {
    local server=$1 name=$2 log
    shift 2
    log=$CHECKS/browser-$name.log
    mkdir -p "$BROWSER_OUTPUTS/$name"
    GPT2_SERVER=$server GPT2_SCREENSHOTS=$BROWSER_OUTPUTS/$name \
        GPT2_NODE_MODULES=$PAGE_TOOLS/node_modules GPT2_CHROMIUM=$BROWSER \
        node --test --test-concurrency=1 --test-reporter=spec "$@" 2>&1 | tee "$log"
    note "browser, $name: $(sed -n 's/^ℹ \(pass\|fail\|skipped\) /\1 /p' "$log" | paste -sd,)"
}

browser_all() {
    local target=${CARGO_TARGET_DIR:-target}
    page_node || { skip "browser (needs node 20.19 and npm)"; return; }
    has chromium || install chromium fonts-dejavu-core ||
        { skip "browser (no Chromium: apt-get install chromium)"; return; }
    page_install "${PAGE_DRIVER[@]}" ||
        { skip "browser (npm cannot fetch ${PAGE_DRIVER[*]})"; return; }
    page_lint
    BROWSER=$(command -v chromium)
    BROWSER_OUTPUTS=$(realpath "$target")/browser
    rm -rf "$BROWSER_OUTPUTS"
    browser_tests "" stand-in "$PAGE_TESTS/page.test.mjs"
    cargo build --locked --release --package gpt2-edge-tools
    browser_tests "$(realpath "$target/release/gpt2")" serve \
        "$PAGE_TESTS/page.test.mjs" "$PAGE_TESTS/origins.test.mjs"
    note "browser: pictures in $target/browser"
}
