#!/usr/bin/env python3
"""A Hugging Face folder of a mixture of experts, rewritten as GGUF, where all experts of a layer are one tensor: the same
logits. With quantized experts: those of the whole model on every mesh."""
from pathlib import Path

from checkpoints import llama_to_gguf
from end_to_end import Check, relative_error

check = Check(__doc__, ("fixture", False))
fixture = Path(check.options.fixture)
work = check.folder / "gguf-experts"  # the plans find their checkpoints there
work.mkdir(parents=True, exist_ok=True)


def logits(name, model, mesh):
    plans = check.plans(f"{fixture.name}.{name}", model, mesh)
    return check.logits(plans, [i * 37 % 256 for i in range(40)])[1] if check.runs else None


for dtype, reference, mesh in (("F32", fixture, "1x1"), ("F32", fixture, "2x2"), ("F32", fixture, "4x1"),
                               ("Q8_0", None, "2x1"), ("Q8_0", None, "4x3")):
    path = work / f"{fixture.name}.{dtype}.gguf"
    if check.compiles:
        llama_to_gguf(fixture, path, dtype)
    expected = logits("reference", reference or path, "1x1")
    actual = logits(dtype, path, mesh)
    if check.runs:
        error = relative_error(actual, expected)
        print(f"{fixture.name} {dtype} {mesh}: relative error {error:.2e}", flush=True)
        assert error <= check.bound, error
