#!/usr/bin/env python3
"""Compares a fixture on a grid of meshes with its stored Hugging Face logits and greedy continuation; that up to the
first token whose stored margin is small, where another rounding may choose another token."""
from array import array
from pathlib import Path

from end_to_end import Check, read, relative_error

PROMPT = 16  # the stored continuation follows the first 16 of the stored ids

check = Check(__doc__, ("fixture", False), ("meshes", True))
fixture = Path(check.options.fixture)
golden = read(fixture / "golden.safetensors")
(rows, length), ids = golden["input_ids"]
bound = check.bound_of(fixture, check.golden_bound)
vocabulary = golden["logits"][0][2]
new = golden["generated"][0][1] if "generated" in golden else 0

first = None
for mesh in check.options.meshes:
    plans = check.plans(fixture.name, fixture, mesh)
    if not check.runs:
        continue
    actual = array("f")
    for row in range(rows):
        tokens = ids[row * length : (row + 1) * length]
        shape, logits = check.logits(plans, tokens)
        assert shape == [length, vocabulary], shape
        actual.extend(logits)
        if new == 0:
            continue
        prompt = ",".join(map(str, tokens[:PROMPT]))
        text = check.distrun("generate", plans, "--tokens", prompt, "--print-ids", "--ignore-eos", "--max-new-tokens", new)
        expected = list(golden["generated"][1][row * new : (row + 1) * new])
        margins = golden["margin"][1][row * new : (row + 1) * new]
        sure = next((i for i, margin in enumerate(margins) if margin < check.margin), new)
        generated = list(map(int, text.split()))
        assert generated[:sure] == expected[:sure], f"row {row}: {generated} differs from {expected} within {sure} tokens"
    error = relative_error(actual, golden["logits"][1])
    first = first or actual
    apart = relative_error(actual, first)
    print(f"{fixture.name} {mesh}: relative error {error:.2e}, of the first mesh's {apart:.2e}", flush=True)
    assert max(error, apart) <= bound, f"more than {bound}"
