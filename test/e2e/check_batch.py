#!/usr/bin/env python3
"""Four prompts of different lengths in one ragged batch, and one at a time: the same ids, greedy and sampled.

On a GPU attention sums in an order that depends on the number of rows, so there an answer may change at a choice
between two likely tokens: greedy answers begin alike, and a batch gives the same ids again.
"""
from end_to_end import Check

PROMPTS = ["Once upon a time", "The cat", "Lily and Ben went to the park to play with a big red ball and a dog", "One day"]

BEGINNING = 8  # tokens

check = Check(__doc__, ("model", False), ("meshes", True))
for mesh in check.options.meshes:
    plans = check.plans("batch", check.options.model, mesh, "--max-tokens", "16")
    if not check.runs:
        continue
    prompts = check.scratch / "prompts"

    def generated(flags):
        return check.distrun("generate", plans, "--prompts", prompts, "--print-ids", "--max-new-tokens", 60, *flags)

    for sampling in [], ["--temperature", 0.9, "--top-p", 0.9, "--seed", 5]:
        answers = []
        for group in [PROMPTS, *([prompt] for prompt in PROMPTS)]:
            prompts.write_text("".join(f"{prompt}\n" for prompt in group))
            answers.append(generated(sampling))
        assert answers[0].count("\n") == len(PROMPTS), answers[0]
        both = f"together:\n{answers[0]}alone:\n{''.join(answers[1:])}"
        if check.options.target == "cpu":
            assert answers[0] == "".join(answers[1:]), both
        else:
            prompts.write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
            assert answers[0] == generated(sampling), f"another time other ids:\n{answers[0]}"
            begun = [[line.split()[:BEGINNING] for line in text.splitlines()] for text in (answers[0], "".join(answers[1:]))]
            assert sampling or begun[0] == begun[1], both
        verdict = "are equal" if check.options.target == "cpu" else "agree"
        print(f"batch {mesh}: {'sampled' if sampling else 'greedy'} alone and together {verdict}", flush=True)
