#!/usr/bin/env python3
"""Compares the logits of two plan sets of one checkpoint, of two targets, on random tokens.

usage: check_targets.py DIR DIR --tokens N --vocabulary V [--fixture DIR] [--routed]; distrun is taken from PATH. The first is the reference.
"""
import argparse, json, random, struct, subprocess, tempfile
from array import array
from pathlib import Path

from end_to_end import rounded_error

parser = argparse.ArgumentParser()
parser.add_argument("plans", nargs=2)
parser.add_argument("--tokens", type=int, required=True)
parser.add_argument("--vocabulary", type=int, required=True)
parser.add_argument("--fixture", help="a checkpoint with golden.safetensors: the bound is what transformers errs by in 16 bits, where that is more")
parser.add_argument("--routed", action="store_true", help="of experts: where two are chosen about equally, rounding makes another choice, so four tokens of "
                    "five may err by 2.5 times the bound, and all together by five times (transformers in 16 bits: 5.3e-2 and 1.0e-1 of mixtral-even)")
options = parser.parse_args()
bound = max(2e-2, rounded_error(options.fixture) if options.fixture else 0)


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
def error(begin, end):
    norm = sum(v * v for v in reference[begin:end]) ** 0.5
    return sum((a - b) ** 2 for a, b in zip(other[begin:end], reference[begin:end])) ** 0.5 / norm


relative = error(0, len(reference))
print(f"{options.tokens} tokens, seed {seed}: relative error {relative:.2e}, bound {bound:g}", end="")
if options.routed:
    errors = sorted(error(i, i + options.vocabulary) for i in range(0, len(reference), options.vocabulary))
    most = errors[len(errors) * 4 // 5]
    print(f" for four tokens of five, which have {most:.2e} (median {errors[len(errors) // 2]:.2e})", end="")
    assert most <= 2.5 * bound
    bound *= 5
print()
assert relative <= bound  # a NaN is not
