# The stage `clients`, read by .ci/run: programs that speak OpenAI's interface, as their registries
# have them, against `gpt2 serve` with the demo model. Everything is installed into a folder of the
# build folder. GPT2_CLIENTS names some of `python node langchain harness` instead of all.

clients=${GPT2_CLIENTS:-python node langchain harness}
folder=$(cd "$CHECKS" && pwd)/clients
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$folder"

has python3 || { skip "clients (no python3)"; return; }
python3 -m venv --without-pip "$folder/empty" ||
    { skip "clients (python3 has no venv: apt-get install python3-venv)"; return; }

cargo build --release --locked --package gpt2-edge-tools
# In f32, so that differences to transformers are those of summation alone.
"$target/release/gpt2-convert" models/austen-gpt2 -o "$folder/austen.gguf" --type f32 --force

# An environment of its own for what $1 names; says why there is none.
environment() {
    local name=$1
    shift
    [ -x "$folder/$name/bin/python" ] || python3 -m venv "$folder/$name" || return 1
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

"$target/release/gpt2" serve -m "$folder/austen.gguf" --alias austen --port 0 \
    2>"$folder/server.log" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
address=
for _ in $(seq 100); do
    address=$(sed -n 's/^listening on //p' "$folder/server.log")
    [ -n "$address" ] && break
    kill -0 $server || { cat "$folder/server.log" >&2; return 1; }
    sleep 0.1
done
[ -n "$address" ]

for client in $clients; do
    case $client in
    python)
        for version in newest 2; do
            package=openai
            [ $version = newest ] || package="openai<$((version + 1))"
            if environment "openai-$version" "$package"; then
                "$folder/openai-$version/bin/python" tests/clients/openai_client.py "$address"
                note "clients: openai for Python, $version"
            else
                skip "clients: openai for Python, $version (it cannot be installed)"
            fi
        done
        ;;
    langchain)
        if environment langchain langchain-openai; then
            "$folder/langchain/bin/python" tests/clients/langchain_client.py "$address"
            note "clients: LangChain"
        else
            skip "clients: LangChain (it cannot be installed)"
        fi
        ;;
    node)
        if has npm && npm install --silent --no-audit --no-fund --prefix "$folder/node" openai; then
            cp tests/clients/openai_client.mjs "$folder/node/"
            node "$folder/node/openai_client.mjs" "$address"
            note "clients: openai for Node"
        else
            skip "clients: openai for Node (no npm, or it cannot be installed)"
        fi
        ;;
    harness)
        if environment harness 'lm_eval[api]' datasets; then
            HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$folder/hub \
                "$folder/harness/bin/python" tests/clients/harness.py "$address"
            note "clients: lm-evaluation-harness as transformers"
        else
            skip "clients: lm-evaluation-harness (it cannot be installed)"
        fi
        ;;
    *) echo "there is no client '$client'" >&2; return 2 ;;
    esac
done
kill -TERM $server
wait $server
