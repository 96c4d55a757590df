#!/usr/bin/env python3
"""Logits with random weights on each mesh, against one rank."""
import json
from pathlib import Path

from end_to_end import Check, relative_error

check = Check(__doc__, ("model", False), ("meshes", True))
model = Path(check.options.model)
vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
reference = None
for mesh in ["1x1", *check.options.meshes]:
    plans = check.plans(model.name, model, mesh, "--weights", "none")
    if not check.runs:
        continue
    shape, logits = check.logits(plans, [1, 200, 3, vocabulary - 1, 5, 77], "--random-weights", 7)
    assert shape == [6, vocabulary], shape
    reference = reference or logits
    if mesh != "1x1":
        error = relative_error(logits, reference)
        print(f"{model.name} {mesh}: relative error {error:.2e}", flush=True)
        assert error <= check.bound, f"more than {check.bound}"
