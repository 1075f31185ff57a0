"""Writes the results of transformers' generate() for the demo model.

`python make_cases.py > cases.json` with transformers 4.46, which has every method built in, and
`python make_cases.py beams > beams.json` with 4.57, whose beam search is the current one (before 4.50 it wrote
the first of several end-of-text ids, and stopped by another rule). Each case is a list of flags of `gpt2 generate`, which
are generate()'s own parameters, and the results.
"""

import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "../../../models/austen-gpt2"
EOS = 4095
# Ids whose scores are written down beside the best ones.
SAMPLED = [0, 11, 13, 257, 258, 1000, 2066, 4095]

transformers.utils.logging.set_verbosity_error()
torch.manual_seed(0)
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(
    FOLDER, torch_dtype=torch.float32, attn_implementation="eager"
).eval()
reference = json.loads((HERE / "../austen/reference.json").read_text())
PROMPTS = [prompt["ids"] for prompt in reference["prompts"]]


def flags(parameters):
    """The parameters as arguments of the command."""
    arguments = []
    for name, value in parameters.items():
        flag = "--" + name.replace("_", "-")
        if name == "stop_strings":
            for text in value:
                arguments += ["--stop", text]
        elif name == "bad_words_ids":
            for ids in value:
                arguments += [flag, ",".join(map(str, ids))]
        elif name == "sequence_bias":
            for ids, bias in value.items():
                arguments += [flag, f"{','.join(map(str, ids))}={bias}"]
        elif name in ("do_sample", "renormalize_logits", "remove_invalid_values"):
            arguments += [flag] if value else []
        elif name == "early_stopping":
            arguments += [flag, str(value).lower()]
        elif name == "negative_prompt_ids":
            arguments += [flag, ",".join(map(str, value[0].tolist()))]
        elif isinstance(value, (list, tuple)):
            arguments += [flag, ",".join(map(str, value))]
        else:
            arguments += [flag, str(value)]
    return arguments


def run(prompt, parameters, **more):
    inputs = torch.tensor([prompt])
    parameters = {"max_new_tokens": 32, **parameters} if "max_length" not in parameters else parameters
    if "negative_prompt_ids" in parameters:
        more["negative_prompt_attention_mask"] = torch.ones_like(parameters["negative_prompt_ids"])
    with torch.no_grad():
        return flags(parameters), model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            pad_token_id=EOS,
            tokenizer=tokenizer,
            return_dict_in_generate=True,
            output_scores=True,
            **parameters,
            **more,
        )


def continuation(row, prompt, ends):
    ids = row[len(prompt):].tolist()
    for index, token in enumerate(ids):
        if token in ends:
            return ids[: index + 1]
    return ids


cases = []


def case(name, prompts=(0, 1), **parameters):
    for index in prompts:
        prompt = PROMPTS[index]
        arguments, output = run(prompt, parameters)
        ends = parameters.get("eos_token_id", EOS)
        ends = ends if isinstance(ends, list) else [ends]
        ends = ends + [EOS]
        scores = output.get("sequences_scores")
        cases.append(
            {
                "name": f"{name}, prompt {index}",
                "prompt": prompt,
                "flags": arguments,
                "sequences": [continuation(row, prompt, ends) for row in output.sequences],
                "scores": None if scores is None else [round(x, 6) for x in scores.tolist()],
            }
        )
        print(cases[-1]["name"], file=sys.stderr)


def step(name, prompt=0, **parameters):
    """The processed scores of the first new token."""
    arguments, output = run(PROMPTS[prompt], {**parameters, "max_new_tokens": 1})
    scores = output.scores[0][0]
    finite = torch.isfinite(scores)
    best = torch.topk(scores, min(10, int(finite.sum())))
    listed = sorted(set(best.indices.tolist() + SAMPLED))
    value = lambda i: round(float(scores[i]), 6) if bool(finite[i]) else None
    cases.append(
        {
            "name": f"scores of {name}",
            "prompt": PROMPTS[prompt],
            "flags": arguments,
            "finite": int(finite.sum()),
            "values": [[i, value(i)] for i in listed],
        }
    )
    print(cases[-1]["name"], file=sys.stderr)


ALL = tuple(range(len(PROMPTS)))

def beams():
    case("beams", ALL, num_beams=4, num_return_sequences=4)
    case("two beams", num_beams=2, max_new_tokens=48)
    for penalty in (0.0, 2.0, -1.0):
        case(f"length penalty {penalty}", num_beams=4, length_penalty=penalty, num_return_sequences=3, eos_token_id=[13, 11])
    for stopping in (True, False, "never"):
        case(f"early stopping {stopping}", num_beams=3, early_stopping=stopping, num_return_sequences=3, eos_token_id=13)
    case("never, long", (0, 1), num_beams=3, early_stopping="never", length_penalty=2.0, eos_token_id=13, max_new_tokens=40)
    case("beams, repetition penalty", num_beams=4, repetition_penalty=1.3)
    case("beams, no repeated n-gram", num_beams=4, no_repeat_ngram_size=2)
    case("beams, minimum", num_beams=3, min_new_tokens=10, eos_token_id=[13, 11])
    case("beams, forced end", num_beams=3, forced_eos_token_id=13, max_new_tokens=12)
    case("beams, decay", num_beams=3, exponential_decay_length_penalty=(5, 1.3), eos_token_id=13)
    case("beams, renormalized", num_beams=3, repetition_penalty=1.2, renormalize_logits=True)
    case("beams, stop strings", (0, 1), num_beams=3, stop_strings=["ing", ","])
    case("beams, bias", num_beams=3, sequence_bias={(258,): -3.0, (11, 280): 4.0})


def all_but_beams():
    case("groups", ALL, num_beams=6, num_beam_groups=3, diversity_penalty=0.5, num_return_sequences=6)
    case("two groups", num_beams=4, num_beam_groups=2, diversity_penalty=1.5, num_return_sequences=2, max_new_tokens=20)
    case("groups with ends", num_beams=4, num_beam_groups=2, diversity_penalty=1.0, num_return_sequences=4, eos_token_id=11, early_stopping=True)
    case("groups, lengths", num_beams=4, num_beam_groups=2, diversity_penalty=1.0, num_return_sequences=4, eos_token_id=13, length_penalty=0.0, early_stopping=True)
    case("contrastive", ALL, penalty_alpha=0.6, top_k=4)
    case("contrastive, wide", penalty_alpha=0.3, top_k=12)
    case("contrastive, penalties", penalty_alpha=0.5, top_k=5, repetition_penalty=1.2, no_repeat_ngram_size=3)
    case("DoLa low", ALL, dola_layers="low", repetition_penalty=1.2)
    case("DoLa high", ALL, dola_layers="high", repetition_penalty=1.2)
    case("DoLa, no penalty", dola_layers="low")
    case("DoLa layers", dola_layers=[1, 3], repetition_penalty=1.2)
    case("guidance", guidance_scale=1.5)
    case("guidance away", guidance_scale=2.0, negative_prompt_ids=torch.tensor([PROMPTS[1][:6]]))
    case("prompt lookup", ALL, prompt_lookup_num_tokens=3, max_new_tokens=64)
    case("prompt lookup, longer", prompt_lookup_num_tokens=8, max_matching_ngram_size=3, max_new_tokens=64)
    case("penalty and n-grams", ALL, repetition_penalty=1.3, no_repeat_ngram_size=3)
    case("encoder penalties", encoder_repetition_penalty=1.5, encoder_no_repeat_ngram_size=2)
    case("bad words", bad_words_ids=[[258], [11], [280, 258], [13]])
    case("bias", sequence_bias={(258,): -5.0, (11,): 2.0, (280, 262): 3.5})
    case("lengths", min_length=25, eos_token_id=[11, 13])
    case("new tokens", min_new_tokens=7, eos_token_id=[11, 13])
    case("several ends", eos_token_id=[13, 258, 11])
    case("forced", forced_eos_token_id=13, max_new_tokens=9)
    case("total length", max_length=30)
    case("suppressed", suppress_tokens=[11, 13, 258], begin_suppress_tokens=[262, 280])
    case("decay", exponential_decay_length_penalty=(4, 1.5), eos_token_id=13)
    case("stop strings", stop_strings=["ing", " of"])
    case("together", repetition_penalty=1.1, no_repeat_ngram_size=4, bad_words_ids=[[13]], sequence_bias={(11,): -2.0}, min_new_tokens=5, suppress_tokens=[258], eos_token_id=[59, 26])

    step("temperature", do_sample=True, temperature=0.7, top_k=0)
    step("top k", do_sample=True)
    step("top p", do_sample=True, top_k=0, top_p=0.9)
    step("top k and top p", do_sample=True, top_k=40, top_p=0.8, temperature=1.3)
    step("min p", do_sample=True, top_k=0, min_p=0.05)
    step("typical p", do_sample=True, top_k=0, typical_p=0.7)
    step("epsilon", do_sample=True, top_k=0, epsilon_cutoff=0.003)
    step("eta", do_sample=True, top_k=0, eta_cutoff=0.002)
    step("all warpers", 1, do_sample=True, temperature=1.2, top_k=200, top_p=0.95, min_p=0.01, typical_p=0.9, epsilon_cutoff=0.001, eta_cutoff=0.001, renormalize_logits=True)
    step("processors", 1, repetition_penalty=1.3, no_repeat_ngram_size=2, sequence_bias={(258,): 2.0, (11,): -1.5}, bad_words_ids=[[13]], min_new_tokens=3, suppress_tokens=[1000], begin_suppress_tokens=[2066])
    step("encoder penalty", 2, encoder_repetition_penalty=1.4, repetition_penalty=1.2)
    step("guidance", 0, guidance_scale=1.7)
    step("DoLa low", 0, dola_layers="low")
    step("DoLa high", 1, dola_layers="high")


beams() if sys.argv[1:] == ["beams"] else all_but_beams()

print(
    json.dumps(
        {"made_with": {"torch": torch.__version__, "transformers": transformers.__version__}}, indent=1
    )[:-2]
    + ',\n "cases": [\n'
    + ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in cases)
    + "\n ]\n}"
)
