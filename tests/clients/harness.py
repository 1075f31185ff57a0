"""lm-evaluation-harness against a server of the demo model, without tokenizer files: what it reads
is what transformers gives (expected.json). harness.py ADDRESS.
"""

import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
TOLERANCE = 1e-4

os.chdir(HERE)

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

arguments = {
    "model": "austen",
    "base_url": sys.argv[1] + "/v1/completions",
    "max_length": 512,
    "num_concurrent": 2,
}
results = simple_evaluate(
    model="local-completions",
    model_args=arguments,
    tasks=["austen_choice", "austen_rolling"],
    task_manager=TaskManager(include_path=str(HERE / "tasks"), include_defaults=False),
    batch_size=3,
    bootstrap_iters=0,
)
expected = json.loads((HERE / "expected.json").read_text())
samples = results["samples"]


def responses(task):
    return [answer for sample in samples[task] for answer in sample["filtered_resps"]]


choices = responses("austen_choice")
assert len(choices) == len(expected["choices"]), choices
worst = 0.0
for (found, greedy), (value, is_greedy) in zip(choices, expected["choices"]):
    worst = max(worst, abs(float(found) - value))
    assert (greedy in (True, "True")) == is_greedy, (found, greedy, value)
for found, value in zip(responses("austen_rolling"), expected["rolling"]):
    found = found[0] if isinstance(found, (list, tuple)) else found
    worst = max(worst, abs(float(found) - value))
assert worst < TOLERANCE, f"expected transformers' log-probabilities, found {worst} beside them"
metrics = {task: values for task, values in results["results"].items()}
print("lm-evaluation-harness reads what transformers gives; largest difference", worst)
print(json.dumps(metrics, default=str))
