#!/usr/bin/env python3
"""Compares a fixture's schedules on a grid of meshes: prefill in chunks and in micro-batches gives the logits and ids of the
plain plan, on a CPU to the bit."""
import random
from pathlib import Path

from end_to_end import Check, relative_error

SCHEDULES = {
    "overlap2": ["--overlap-chunks", 2],
    "overlap4": ["--overlap-chunks", 4],
    "micro2": ["--micro-batches", 2, "--decode-micro-batches", 2],
    "micro4": ["--micro-batches", 4],
    "both": ["--overlap-chunks", 3, "--micro-batches", 3],
}
TOKENS = 40

check = Check(__doc__, ("fixture", False), ("meshes", True))
fixture = Path(check.options.fixture)
rand = random.Random(1)
tokens = [rand.randrange(3, 200) for _ in range(TOKENS)]
for mesh in check.options.meshes:
    plans = {name: check.plans(f"{fixture.name}.{name}", fixture, mesh, "--max-tokens", 48, *flags)
             for name, flags in {"plain": [], **SCHEDULES}.items()}
    if not check.runs:
        continue
    _, expected = check.logits(plans["plain"], tokens)
    text = ",".join(map(str, tokens))
    ids = check.distrun("generate", plans["plain"], "--tokens", text, "--print-ids", "--ignore-eos", "--max-new-tokens", 12)
    for name in SCHEDULES:
        shape, logits = check.logits(plans[name], tokens)
        assert shape[0] == TOKENS, shape
        if check.options.target != "cpu":
            error = relative_error(logits, expected)
            assert error <= check.bound, f"{fixture.name} {mesh} {name}: relative error {error}"
            continue
        assert logits == expected, f"{fixture.name} {mesh} {name}: other logits"
        again = check.distrun("generate", plans[name], "--tokens", text, "--print-ids", "--ignore-eos", "--max-new-tokens", 12)
        assert again == ids, f"{fixture.name} {mesh} {name}: {again} differs from {ids}"
    # Shorter than the chunks of a micro-batch: some are empty.
    short = check.distrun("generate", plans["plain"], "--tokens", "7,9", "--print-ids", "--ignore-eos", "--max-new-tokens", 3)
    assert short == check.distrun("generate", plans["both"], "--tokens", "7,9", "--print-ids", "--ignore-eos", "--max-new-tokens", 3)
    print(f"{fixture.name} {mesh}: same", flush=True)
