#!/usr/bin/env python3
"""usage: check_uneven.py MODEL FOLDER TPxPP... ; logits with random weights, on each mesh against one rank."""
import json, struct, subprocess, sys
from array import array

BOUND = 1e-5
model, folder = sys.argv[1:3]


def logits(tp, pp):
    plans, out = f"{folder}/{tp}x{pp}", f"{folder}/{tp}x{pp}.safetensors"
    subprocess.run(["distc", "compile", model, "--weights", "none", "--tp", str(tp), "--pp", str(pp), "-o", plans], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["distrun", "logits", plans, "--random-weights", "7", "--tokens", "1,200,3,258,5,77", "-o", out], check=True, stderr=subprocess.DEVNULL)
    data = open(out, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    assert json.loads(data[8 : 8 + length])["logits"]["shape"] == [6, 259]
    values = array("f")
    values.frombytes(data[8 + length :])
    return values


reference = logits(1, 1)
norm = sum(v * v for v in reference) ** 0.5
assert norm > 0
for mesh in sys.argv[3:]:
    tp, pp = map(int, mesh.split("x"))
    error = sum((a - b) ** 2 for a, b in zip(logits(tp, pp), reference)) ** 0.5 / norm
    print(f"{model} {mesh}: relative error {error:.2e}")
    assert error <= BOUND
