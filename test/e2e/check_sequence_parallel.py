#!/usr/bin/env python3
"""Logits of prompts of few and of odd numbers of tokens with scattered rows, against the same mesh without: the same bits on
the CPU, where a row's arithmetic and the order of a sum depend on nothing else."""
from pathlib import Path

from end_to_end import Check, relative_error

TOKENS = [5, 17, 200, 3, 99, 42, 7]
LENGTHS = (1, 2, 3, 5, 7)

check = Check(__doc__, ("model", False), ("meshes", True))
model = Path(check.options.model)
for mesh in check.options.meshes:
    whole = check.plans(f"{model.name}.whole", model, mesh)
    scattered = check.plans(f"{model.name}.scattered", model, mesh, "--sequence-parallel")
    if not check.runs:
        continue
    for length in LENGTHS:
        shape, expected = check.logits(whole, TOKENS[:length])
        scattered_shape, actual = check.logits(scattered, TOKENS[:length])
        assert shape == scattered_shape, f"{shape} and {scattered_shape}"
        if check.options.target == "cpu":
            assert actual == expected, f"{length} tokens: relative error {relative_error(actual, expected):.2e}, expected the same bits"
        else:
            error = relative_error(actual, expected)
            assert error <= check.bound, f"{length} tokens: relative error {error:.2e}, more than {check.bound}"
    print(f"{model.name} {mesh}: same logits", flush=True)
