#!/usr/bin/env python3
"""Compares a fixture on a grid of meshes with its stored Hugging Face logits and greedy continuation.

usage: check_golden.py [--plans DIR] [--bound B] [--margin M] FIXTURE TPxPP... ; distc and distrun are taken from PATH.
With --plans, DIR/FIXTURE.tpNppM have been compiled already. Continuations are compared up to the first token whose stored
margin is below M: there another rounding may choose another token.
"""
import argparse, json, struct, subprocess, tempfile
from array import array
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--plans")
parser.add_argument("--bound", type=float, default=2e-5)
parser.add_argument("--margin", type=float, default=1e-3)
parser.add_argument("fixture")
parser.add_argument("meshes", nargs="+")
options = parser.parse_args()
PROMPT = 16  # the stored continuation follows the first 16 of the stored ids


def read(path):
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = array({"F32": "f", "I64": "q"}[entry["dtype"]])
            values.frombytes(data[8 + length + begin : 8 + length + end])
            tensors[name] = (entry["shape"], values)
    return tensors


def check(fixture, tp, pp, golden, folder):
    plans = f"{options.plans}/{Path(fixture).name}.tp{tp}pp{pp}" if options.plans else f"{folder}/plans"
    if not options.plans:
        subprocess.run(["distc", "compile", fixture, "--tp", str(tp), "--pp", str(pp), "-o", plans], check=True, stdout=subprocess.DEVNULL)
    (rows, length), ids = golden["input_ids"]
    vocabulary = golden["logits"][0][2]
    new = golden["generated"][0][1]
    error = norm = 0.0
    for row in range(rows):
        tokens = ",".join(map(str, ids[row * length : (row + 1) * length]))
        out = f"{folder}/logits.safetensors"
        subprocess.run(["distrun", "logits", plans, "--tokens", tokens, "-o", out], check=True, stderr=subprocess.DEVNULL)
        shape, logits = read(out)["logits"]
        assert shape == [length, vocabulary], shape
        reference = golden["logits"][1][row * length * vocabulary : (row + 1) * length * vocabulary]
        error += sum((a - b) ** 2 for a, b in zip(logits, reference))
        norm += sum(b * b for b in reference)
        text = subprocess.run(["distrun", "generate", plans, "--tokens", ",".join(tokens.split(",")[:PROMPT]), "--print-ids", "--ignore-eos", "--max-new-tokens", str(new)],
                              check=True, capture_output=True, text=True).stdout
        expected = list(golden["generated"][1][row * new : (row + 1) * new])
        margins = golden["margin"][1][row * new : (row + 1) * new]
        sure = next((i for i, margin in enumerate(margins) if margin < options.margin), new)
        actual = list(map(int, text.split()))
        assert actual[:sure] == expected[:sure], f"row {row}: {actual} differs from {expected} within {sure} tokens"
    relative = (error / norm) ** 0.5
    print(f"{Path(fixture).name} tp {tp} pp {pp}: relative error {relative:.2e}")
    assert relative <= options.bound, f"more than {options.bound}"


golden = read(f"{options.fixture}/golden.safetensors")
with tempfile.TemporaryDirectory() as folder:
    for mesh in options.meshes:
        tp, pp = map(int, mesh.split("x"))
        check(options.fixture, tp, pp, golden, folder)
