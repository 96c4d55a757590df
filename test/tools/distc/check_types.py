#!/usr/bin/env python3
"""usage: check_types.py FIXTURE FOLDER ; for sm_90, the type of all matrices from those that a checkpoint mixes."""
import json
import sys
from pathlib import Path

from checkpoints import llama_to_gguf
from tool import succeeds

fixture, work = Path(sys.argv[1]), Path(sys.argv[2])


def plan_of(*mixed):
    """The plan of a GGUF of which matrix i has type mixed[i], all others the last."""
    path = work / "model.gguf"
    llama_to_gguf(fixture, path, dtype=mixed)
    succeeds("distc", "compile", path, "--target", "sm_90", "--max-tokens", 16, "-o", work / "plans")
    return json.loads(succeeds("distc", "inspect", work / "plans" / "rank0.plan", "--json").out)


for mixed, expected in [(["F16"], "F16"), (["F32", "F16"], "F16"), (["F16", "F32"], "F16"), (["F32"], "BF16"),
                        (["Q8_0"], "BF16"), (["F16", "Q8_0"], "BF16"), (["F32", "Q8_0"], "BF16")]:
    plan = plan_of(*mixed)
    held = {tensor["dtype"] for tensor in plan["tensors"] if len(tensor["shape"]) > 1}
    assert held == set(mixed), (mixed, held)
    for weight in plan["weights"]:
        wanted = expected if len(weight["shape"]) > 1 else "F32"
        assert (weight["dtype"], weight["placement"]) == (wanted, "Load"), (mixed, weight["name"], weight["dtype"])
    assert {cache["dtype"] for cache in plan["kv"]["caches"]} == {expected}, mixed
    for program in plan["programs"]:
        types = {info["name"]: buffer["dtype"] for info, buffer in zip(program["values"], program["buffers"])}
        wide = {name for name, dtype in types.items() if dtype == "F32"}
        assert wide == {"logits", "candidates"} and types["ids"] == "I32", (mixed, types)
        assert set(types.values()) == {expected, "F32", "I32"}, (mixed, types)
