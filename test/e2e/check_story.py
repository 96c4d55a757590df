#!/usr/bin/env python3
"""Two hundred greedy tokens: prompt and text must equal the file EXPECTED as far as both go, leading space ignored."""
from pathlib import Path

from end_to_end import Check

check = Check(__doc__, ("model", False), ("expected", False), ("meshes", True))
expected = Path(check.options.expected).read_text(encoding="utf-8").strip()
prompt = "Once upon a time"
for mesh in check.options.meshes:
    plans = check.plans("story", check.options.model, mesh)
    if not check.runs:
        continue
    command = ["generate", plans, "--prompt", prompt, "--max-new-tokens", 200]
    text = (prompt + check.distrun(*command)).strip()
    ids = check.distrun(*command, "--print-ids").split()
    length = min(len(text), len(expected))
    # The checkpoint is f32: in a type of fewer bits the story is the same up to a choice between two likely words.
    if check.options.target != "cpu":
        length = min(length, 160)
    assert len(ids) >= 190, len(ids)
    assert text[:length] == expected[:length], f"{mesh}: {text!r}"
    print(f"story {mesh}: equal over {length} characters, {len(ids)} tokens", flush=True)
