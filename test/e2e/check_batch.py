#!/usr/bin/env python3
"""Four prompts of different lengths in one ragged batch, and one at a time: the same ids, greedy and sampled."""
from end_to_end import Check

PROMPTS = ["Once upon a time", "The cat", "Lily and Ben went to the park to play with a big red ball and a dog", "One day"]

check = Check(__doc__, ("model", False), ("meshes", True))
for mesh in check.options.meshes:
    plans = check.plans("batch", check.options.model, mesh, "--max-tokens", "16")
    if not check.runs:
        continue
    prompts = check.scratch / "prompts"
    for sampling in [], ["--temperature", 0.9, "--top-p", 0.9, "--seed", 5]:
        answers = []
        for group in [PROMPTS, *([prompt] for prompt in PROMPTS)]:
            prompts.write_text("".join(f"{prompt}\n" for prompt in group))
            answers.append(check.distrun("generate", plans, "--prompts", prompts, "--print-ids", "--max-new-tokens", 60, *sampling))
        assert answers[0].count("\n") == len(PROMPTS), answers[0]
        assert answers[0] == "".join(answers[1:]), f"together:\n{answers[0]}alone:\n{''.join(answers[1:])}"
        print(f"batch {mesh}: {'sampled' if sampling else 'greedy'} alone and together are equal", flush=True)
