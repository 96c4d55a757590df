#!/usr/bin/env python3
"""SmolLM2-135M-Instruct (GGUF, Q4_1 and Q8_0) gives the greedy tokens of the CPU on the same weights, rounded to BF16.

They may differ from where the CPU's two likeliest tokens are so near to each other that the target's rounding can change
their order: nearer than twice the largest error of a logit, over the likeliest of all positions of the CPU's answer.
The half that compiles runs the CPU too, and leaves what it found beside the plan sets.
"""
import heapq
import json
import sys
from pathlib import Path

from checkpoints import gguf_to_bf16
from end_to_end import Check, relative_error

NEW, LIKELY = 64, 8
PROMPTS = ([1780, 314, 260, 3575, 282, 4649, 47],  # "What is the capital of France?"
           [6403, 1980, 253, 655],  # "Once upon a time"
           [504, 1252, 1175, 282, 653, 3693, 817, 359])  # "The planets of our solar system are"

check = Check(__doc__, ("model", False), ("meshes", True))
model, found = Path(check.options.model), check.folder / "smollm2.json"
missing = [path for path in (model, *([] if check.compiles else [found])) if not path.exists()]
if missing:
    print(f"not run: there is no {missing[0]}; scripts/quickstart.sh fetches the model")
    sys.exit()
target, on_one_device = check.options.target, [] if check.options.target == "cpu" else ["--ranks", "device"]


def generated(plans, prompt, *flags):
    text = check.distrun("generate", plans, "--tokens", ",".join(map(str, prompt)), "--ignore-eos", "--print-ids",
                         "--max-new-tokens", NEW, *flags)
    return list(map(int, text.split()))


if check.compiles:
    rounded, answers = check.scratch / "smollm2-bf16.gguf", []
    gguf_to_bf16(model, rounded)
    check.options.target = "cpu"
    plans = check.plans("smollm2.cpu", rounded, "1x1")
    for prompt in PROMPTS:
        ids = generated(plans, prompt)
        (rows, vocabulary), logits = check.logits(plans, prompt + ids[:-1])
        answers.append({"ids": ids, "top": [heapq.nlargest(LIKELY, ((logits[row * vocabulary + i], i) for i in range(vocabulary)))
                                            for row in range(rows - NEW, rows)]})
    check.options.target = target
    found.write_text(json.dumps(answers))
for mesh in check.options.meshes:
    plans = check.plans("smollm2", model, mesh)
    if not check.runs:
        continue
    flags, said = ["--weights", model.parent, *on_one_device], []
    for prompt, answer in zip(PROMPTS, json.loads(found.read_text()), strict=True):
        expected, top = answer["ids"], answer["top"]
        (rows, vocabulary), logits = check.logits(plans, prompt + expected[:-1], *flags)
        likely = [logit for row in top for logit, _ in row]
        actual = [logits[(rows - NEW + row) * vocabulary + i] for row in range(NEW) for _, i in top[row]]
        error, worst = relative_error(actual, likely), max(abs(a - b) for a, b in zip(actual, likely, strict=True))
        assert error <= check.bound, f"{mesh}: the likeliest logits have a relative error of {error}"
        ids = generated(plans, prompt, *flags)
        equal = next((i for i, pair in enumerate(zip(ids, expected, strict=True)) if pair[0] != pair[1]), NEW)
        said.append(f"{equal} (error {error:.1e}, at most {worst:.2f}")
        if equal < NEW:
            margin = top[equal][0][0] - top[equal][1][0]
            said[-1] += f"; then a margin of {margin:.2f}"
            assert margin < 2 * worst, f"{mesh}: {ids} differs from {expected}: {said[-1]})"
        said[-1] += ")"
    print(f"SmolLM2 {mesh}: of {NEW} greedy tokens equal to the CPU's: {', '.join(said)}", flush=True)
