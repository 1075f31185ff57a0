#!/usr/bin/env python3
"""Speed beside llama.cpp and CTranslate2 on the same weights, alternated in one run, and beside
the machine's limits.

    benches/compare.py --llama-bench PATH [--checkpoint FOLDER] [--rounds 5] [--threads 2] \\
        MODEL.gguf...

Each round runs every program once on every test, so that a machine that slows down slows all of
them. Medians are printed, and the median of the rounds' ratios. The roofline is the larger of two
times: reading the weights once at the memory bandwidth that benches/probe.c measures, and computing
the products at its arithmetic throughput; `reached` is the share of the roofline's speed.

llama-bench is built from the package that ggml comes from, see docs/convert.md. With --checkpoint
(a Hugging Face folder of GPT-2's shape with model.safetensors) CTranslate2 runs as int8:
pip install ctranslate2 numpy. A missing program is reported and left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = {"prefill": (512, 0), "decode": (0, 128)}


def output(command):
    """What a command prints, which must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ours(program, model, threads, test):
    """Tokens a second of `gpt2 bench`."""
    prompt, generated = TESTS[test]
    command = [program, "bench", "-m", model, "-t", str(threads), "-r", "3", "-p", str(prompt)]
    result = json.loads(output(command + ["-n", str(generated), "--json"]))
    return result["rows"][0]["tokens_per_s"]["mean"]


def llama(program, model, threads, test):
    """Tokens a second of llama-bench."""
    prompt, generated = TESTS[test]
    command = [program, "-m", model, "-t", str(threads), "-r", "3", "-p", str(prompt)]
    result = json.loads(output(command + ["-n", str(generated), "-o", "json"]))
    return result[0]["avg_ts"]


class CTranslate2:
    """A checkpoint as CTranslate2 has it, in int8."""

    def __init__(self, checkpoint, threads):
        import ctranslate2

        self.folder = tempfile.TemporaryDirectory()
        specification(ctranslate2, checkpoint).save(self.folder.name)
        self.generator = ctranslate2.Generator(
            self.folder.name, device="cpu", compute_type="int8", intra_threads=threads)

    def rate(self, test):
        """Tokens a second, the best of three as a warm run."""
        prompt, generated = TESTS[test]
        tokens = [f"<{token}>" for token in range(100, 100 + max(prompt, 1))]
        length = max(generated, 1)
        best = None
        for _ in range(3):
            start = time.perf_counter()
            self.generator.generate_batch(
                [tokens], beam_size=1, sampling_topk=1, min_length=length, max_length=length,
                include_prompt_in_result=False)
            seconds = time.perf_counter() - start
            best = seconds if best is None else min(best, seconds)
        return max(prompt, generated) / best


def specification(ctranslate2, checkpoint):
    """A checkpoint's weights in CTranslate2's form."""
    import numpy
    from ctranslate2.specs import common_spec, transformer_spec

    with open(os.path.join(checkpoint, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    path = os.path.join(checkpoint, "model.safetensors")
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    data = numpy.fromfile(path, numpy.uint8, offset=8 + header_bytes)
    weights = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            sys.exit(f"error: {path}: expected f32, found {entry['dtype']} in {name}")
        first, end = entry["data_offsets"]
        values = data[first:end].view(numpy.float32)
        weights[name.removeprefix("transformer.")] = values.reshape(entry["shape"])

    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        config["n_layer"], config["n_head"], pre_norm=True,
        activation=common_spec.Activation.GELUTanh)
    decoder = spec.decoder
    decoder.scale_embeddings = False

    def norm(target, name):
        target.gamma, target.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def linear(target, name):
        target.weight = numpy.ascontiguousarray(weights[f"{name}.weight"].T)
        target.bias = weights[f"{name}.bias"]

    decoder.embeddings.weight = weights["wte.weight"]
    decoder.position_encodings.encodings = weights["wpe.weight"]
    norm(decoder.layer_norm, "ln_f")
    decoder.projection.weight = weights.get("lm_head.weight", weights["wte.weight"]).copy()
    for index, layer in enumerate(decoder.layer):
        norm(layer.self_attention.layer_norm, f"h.{index}.ln_1")
        linear(layer.self_attention.linear[0], f"h.{index}.attn.c_attn")
        linear(layer.self_attention.linear[1], f"h.{index}.attn.c_proj")
        norm(layer.ffn.layer_norm, f"h.{index}.ln_2")
        linear(layer.ffn.linear_0, f"h.{index}.mlp.c_fc")
        linear(layer.ffn.linear_1, f"h.{index}.mlp.c_proj")
    words = [f"<{token}>" for token in range(config["vocab_size"])]
    words[0] = "<unk>"
    spec.register_vocabulary(words)
    spec.config.unk_token = "<unk>"
    spec.config.bos_token = spec.config.eos_token = words[-1]
    spec.validate()
    spec.optimize(quantization="int8")
    return spec


def measure_machine(threads):
    """What benches/probe.c finds, or None."""
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "probe")
        source = os.path.join(HERE, "probe.c")
        command = ["cc", "-O3", "-march=native", "-pthread", "-o", program, source]
        if subprocess.run(command, check=False).returncode != 0:
            print("skipped: the roofline (benches/probe.c did not compile)")
            return None
        return json.loads(output([program, str(threads)]))


def shape(program, model):
    """Bytes of the weights that a token reads, and its products: all matrices but the position
    embeddings."""
    tensors = json.loads(output([program, "info", "--json", model]))["tensors"]
    matrices = [tensor for tensor in tensors if len(tensor["shape"]) == 2]
    matrices = [tensor for tensor in matrices if "position" not in tensor["name"]]
    layers = [tensor for tensor in matrices if tensor["name"].startswith("blk.")]
    products = lambda list: sum(tensor["shape"][0] * tensor["shape"][1] for tensor in list)
    return {
        "bytes": sum(tensor["bytes"] for tensor in matrices),
        "products": products(matrices),
        # In prefill the head is computed for the last token alone.
        "prefill_products": products(layers),
        "floats": all(tensor["type"] in ("f16", "f32", "bf16") for tensor in layers),
    }


def roofline(machine, shape, test):
    """Tokens a second that memory and arithmetic allow, and which of the two is the limit."""
    products = shape["prefill_products"] if test == "prefill" else shape["products"]
    operations = (machine["f32_gflop_s"] if shape["floats"] else machine["int8_gop_s"]) * 1e9
    if operations == 0:
        return None
    arithmetic = operations / (2 * products)
    memory = machine["read_gb_s"] * 1e9 / shape["bytes"]
    if test == "prefill":
        return arithmetic, "arithmetic"
    return (memory, "memory") if memory < arithmetic else (arithmetic, "arithmetic")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    parser.add_argument("--gpt2", default=os.path.join(HERE, "..", "target", "release", "gpt2"))
    parser.add_argument("--llama-bench")
    parser.add_argument("--checkpoint", help="the folder that the models were converted from")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    threads = arguments.threads
    programs = {"gpt2-edge": lambda model, test: ours(arguments.gpt2, model, threads, test)}
    if arguments.llama_bench:
        bench = arguments.llama_bench
        programs["llama.cpp"] = lambda model, test: llama(bench, model, threads, test)
    else:
        print("skipped: llama.cpp (--llama-bench names its program)")
    if arguments.checkpoint:
        try:
            other = CTranslate2(arguments.checkpoint, threads)
            programs["CTranslate2 int8"] = lambda _, test: other.rate(test)
        except ImportError as error:
            print(f"skipped: CTranslate2 ({error}: pip install ctranslate2 numpy)")
    else:
        print("skipped: CTranslate2 (--checkpoint names its weights)")

    print(f"{threads} threads, {arguments.rounds} rounds, medians; tokens per second\n")
    head = ["file", "test", *programs, *(f"/ {name}" for name in list(programs)[1:])]
    print("| " + " | ".join([*head, "limit", "reached"]) + " |")
    print("|---|---" + "|---:" * (2 * len(programs) + 1) + "|")
    for model in arguments.models:
        sizes = shape(arguments.gpt2, model)
        for test in TESTS:
            rates = {name: [] for name in programs}
            machines = []
            for _ in range(arguments.rounds):
                for name, program in programs.items():
                    rates[name].append(program(model, test))
                machines.append(measure_machine(threads))
            cells = [os.path.basename(model), f"{test} {max(TESTS[test])}"]
            cells += [f"{statistics.median(values):.1f}" for values in rates.values()]
            mine, *others = rates.values()
            for other in others:
                cells.append(f"{statistics.median(a / b for a, b in zip(mine, other)):.2f}")
            limits = [roofline(machine, sizes, test) for machine in machines if machine]
            limits = [limit for limit in limits if limit]
            if limits:
                limit = statistics.median(rate for rate, _ in limits)
                share = 100 * statistics.median(mine) / limit
                cells += [f"{limit:.0f} ({limits[0][1]})", f"{share:.0f} %"]
            else:
                cells += ["", ""]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
