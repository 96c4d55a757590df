#!/usr/bin/env python3
"""Fixtures rewritten as GGUF, as llama.cpp's converter names their keys and tensors, give the logits of the Hugging Face
folder."""
from pathlib import Path

from checkpoints import copy_checkpoint, llama_to_gguf
from end_to_end import Check, read, relative_error

# What a GGUF file cannot say of a fixture is changed to what it stands for there.
CHANGES = {
    "smollm3": {"no_rope_layers": None, "no_rope_layer_interval": 4, "use_sliding_window": False, "layer_types": None},
    "gemma2": {"query_pre_attn_scalar": 16, "layer_types": None},
}

check = Check(__doc__, ("fixtures", True))
for fixture in map(Path, check.options.fixtures):
    work = check.folder / f"gguf-{fixture.name}"  # the plans find their checkpoints there
    work.mkdir(parents=True, exist_ok=True)
    folder, file = work / "hf", work / "model.gguf"
    if check.compiles:
        copy_checkpoint(fixture, folder, CHANGES.get(fixture.name))
        llama_to_gguf(folder, file)
    hf, gguf = check.plans(f"{fixture.name}.hf", folder, "1x1"), check.plans(f"{fixture.name}.gguf", file, "2x1")
    if check.runs:
        golden = read(fixture / "golden.safetensors")
        ids = golden["input_ids"][1][: golden["input_ids"][0][1]]
        error = relative_error(check.logits(gguf, ids)[1], check.logits(hf, ids)[1])
        print(f"{fixture.name}: relative error {error:.2e}", flush=True)
        bound = check.bound_of(fixture, check.rounded_bound)
        assert error <= bound, f"more than {bound}"
