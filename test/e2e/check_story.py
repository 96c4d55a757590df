#!/usr/bin/env python3
"""usage: check_story.py EXPECTED PLANS... ; prompt and text must equal EXPECTED as far as both go, leading space ignored."""
import subprocess, sys

expected = open(sys.argv[1], encoding="utf-8").read().strip()
for plans in sys.argv[2:]:
    prompt = "Once upon a time"
    command = ["distrun", "generate", plans, "--prompt", prompt, "--max-new-tokens", "200"]
    text = (prompt + subprocess.run(command, check=True, capture_output=True, text=True).stdout).strip()
    ids = subprocess.run(command + ["--print-ids"], check=True, capture_output=True, text=True).stdout.split()
    length = min(len(text), len(expected))
    assert len(ids) >= 190, len(ids)
    assert text[:length] == expected[:length], f"{plans}: {text!r}"
    print(plans, "equal over", length, "characters,", len(ids), "tokens")
