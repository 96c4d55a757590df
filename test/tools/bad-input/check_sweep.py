#!/usr/bin/env python3
"""usage: check_sweep.py DATA FOLDER SECONDS ; random damage to config.json and to the headers of safetensors and GGUF
files, through compile and logits: each ends with 0, or with 1 and an error, soon, in little memory (tool.run sees to it).
DISTC_TEST_SEED repeats a run."""
import json
import os
import random
import struct
import sys
import time
from collections import Counter
from pathlib import Path

from checkpoints import copy_checkpoint, llama_to_gguf, read_safetensors, write_safetensors
from tool import run

data, work, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
seed = int(os.environ.get("DISTC_TEST_SEED") or random.randrange(1 << 32))
print(f"DISTC_TEST_SEED={seed}", flush=True)
rand = random.Random(seed)
model, gguf, plans, out = work / "model", work / "model.gguf", work / "plans", work / "out.safetensors"
fixture = data / "fixtures" / "llama3-rope"
VALUES = [0, 1, -1, 2, 3, 7, 8, 16, 255, 1 << 16, (1 << 24) - 1, 1 << 24, 1 << 31, 1 << 32, 1 << 62, 1 << 64, -(1 << 63),
          0.5, 1e-300, 1e300, "", "8", "llama3", "\0", None, True, False, [], [1], {}, {"a": {}}, "x" * 5000]


def damage_bytes(raw, end):
    raw = bytearray(raw)
    for _ in range(rand.randint(1, 3)):
        at = rand.randrange(min(end, len(raw)))
        kind = rand.randrange(5)
        if kind == 0:
            raw[at] ^= 1 << rand.randrange(8)
        elif kind == 1:
            raw[at] = rand.randrange(256)
        elif kind == 2:
            del raw[at : at + rand.randint(1, 16)]
        elif kind == 3:
            raw[at:at] = raw[at // 2 : at // 2 + rand.randint(1, 16)]
        else:
            raw[at : at + 8] = struct.pack("<Q", (rand.choice([0, 1, 1 << 31, 1 << 32, 1 << 63]) + rand.randint(-1, 1)) % (1 << 64))
    return bytes(raw)


def damage_json(value):
    """Changes, removes or adds one member somewhere."""
    while True:
        key = rand.choice(list(value)) if isinstance(value, dict) else rand.randrange(len(value))
        if isinstance(value[key], (dict, list)) and value[key] and rand.random() < 0.8:
            value = value[key]
            continue
        if rand.random() < 0.15 and isinstance(value, dict):
            del value[key]
        elif isinstance(value[key], int) and rand.random() < 0.3:
            value[key] += rand.choice([-8, -1, 1, 8, 1 << 20])
        else:
            value[key] = rand.choice(VALUES)
        return


def damaged_config():
    path = copy_checkpoint(fixture, model) / "config.json"
    if rand.random() < 0.3:
        path.write_bytes(damage_bytes(path.read_bytes(), 1 << 30))
        return model
    config = json.loads(path.read_text())
    for _ in range(rand.randint(1, 2)):
        damage_json(config)
    path.write_text(json.dumps(config))
    return model


def damaged_safetensors():
    path = copy_checkpoint(fixture, model) / "model.safetensors"
    header, tensors = read_safetensors(path)
    if rand.random() < 0.5:
        path.write_bytes(damage_bytes(path.read_bytes(), 8 + len(json.dumps(header))))
        return model
    damage_json(header)
    write_safetensors(path, header, tensors)
    return model


def damaged_gguf():
    gguf.write_bytes(damage_bytes(whole, len(whole) - weights))
    return gguf


llama_to_gguf(fixture, gguf)
whole, weights = gguf.read_bytes(), len(read_safetensors(fixture / "model.safetensors")[1])
ends = Counter()
stop = time.monotonic() + seconds
while time.monotonic() < stop:
    make = rand.choice([damaged_config, damaged_safetensors, damaged_gguf])
    source = make()
    flags = ["--tp", rand.randint(1, 4), "--pp", rand.randint(1, 2)]
    if make is damaged_config and rand.random() < 0.4:
        flags += ["--weights", "none"]
    done = run("distc", "compile", source, "-o", plans, *flags)
    assert done.returncode in (0, 1) and (done.returncode == 0) != ("distc: error: " in done.err), (done.returncode, done.err)
    if done.returncode == 0 and "--weights" not in flags:
        done = run("distrun", "logits", plans, "--tokens", "1,2,3", "-o", out)
        assert (done.returncode == 0) != ("distrun: error: " in done.err), (done.returncode, done.err)
    assert "verify" not in done.err, done.err  # what the compiler lets through, the verifier must not have to refuse
    ends[make.__name__, done.returncode] += 1
print(dict(ends))
