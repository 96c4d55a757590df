#!/usr/bin/env python3
"""Compares the logits of two plan sets of one checkpoint, of two targets, on random tokens.

usage: check_targets.py DIR DIR --tokens N --vocabulary V [--bound B]; distrun is taken from PATH. The first is the reference.
"""
import argparse, json, random, struct, subprocess, tempfile
from array import array
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("plans", nargs=2)
parser.add_argument("--tokens", type=int, required=True)
parser.add_argument("--vocabulary", type=int, required=True)
parser.add_argument("--bound", type=float, default=2e-2)
options = parser.parse_args()


def logits(plans, tokens):
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/logits.safetensors"
        subprocess.run(["distrun", "logits", plans, "--tokens", tokens, "-o", out], check=True)
        data = Path(out).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    begin, end = json.loads(data[8 : 8 + length])["logits"]["data_offsets"]
    values = array("f")
    values.frombytes(data[8 + length :][begin:end])
    return values


seed = random.randrange(1 << 32)
generator = random.Random(seed)
tokens = ",".join(str(generator.randrange(options.vocabulary)) for _ in range(options.tokens))
reference, other = (logits(plans, tokens) for plans in options.plans)
assert len(reference) == len(other) == options.tokens * options.vocabulary, (len(reference), len(other))
norm = sum(v * v for v in reference) ** 0.5
relative = sum((a - b) ** 2 for a, b in zip(other, reference)) ** 0.5 / norm
print(f"{options.tokens} tokens, seed {seed}: relative error {relative:.2e}, bound {options.bound:g}")
assert relative <= options.bound  # a NaN is not
