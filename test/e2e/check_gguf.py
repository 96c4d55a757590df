#!/usr/bin/env python3
"""usage: check_gguf.py FIXTURE FOLDER ; a Hugging Face Llama folder rewritten as GGUF gives the same logits.

The scaling of llama3 becomes the tensor rope_freqs.weight, as converters write it. F16 and Q8_0 are compared with a
Hugging Face folder of the values that are left after the rounding.
"""
import json
import math
import struct
import sys
from array import array
from pathlib import Path

from checkpoints import copy_checkpoint, encode, floats, llama_to_gguf, read_safetensors, write_safetensors
from tool import succeeds

BOUND = 1e-5
fixture, work = Path(sys.argv[1]), Path(sys.argv[2])
config = json.loads((fixture / "config.json").read_text())


def factors():
    """By how much llama3's scaling divides each frequency (Llama 3.1, "rope_scaling" in config.json)."""
    scaling, head_dim, result = config["rope_scaling"], config["head_dim"], []
    factor, low, high = (scaling[key] for key in ("factor", "low_freq_factor", "high_freq_factor"))
    context = scaling["original_max_position_embeddings"]
    for i in range(head_dim // 2):
        wavelength = 2 * math.pi * config["rope_theta"] ** (2 * i / head_dim)
        smooth = (context / wavelength - low) / (high - low)
        result.append(1 / ((1 - smooth) / factor + smooth) if 0 <= smooth <= 1 else 1.0 if smooth > 1 else factor)
    assert 1.0 in result and factor in result and len(set(result)) > 2, result  # all three kinds occur
    return result


def decode(raw, dtype):
    if dtype == "F32":
        return array("f", raw)
    if dtype == "F16":
        return array("f", struct.unpack(f"<{len(raw) // 2}e", raw))
    values = array("f")
    for begin in range(0, len(raw), 34):
        scale = struct.unpack_from("<e", raw, begin)[0]
        values.extend(scale * q for q in array("b", raw[begin + 2 : begin + 34]))
    return values


def logits(model, tp, pp):
    plans, out = work / "plans", work / "out.safetensors"
    succeeds("distc", "compile", model, "--tp", tp, "--pp", pp, "-o", plans)
    ids = ",".join(str(i * 37 % config["vocab_size"]) for i in range(200))  # far beyond the original 64 positions
    succeeds("distrun", "logits", plans, "--tokens", ids, "-o", out)
    return floats(*read_safetensors(out), "logits")


def rounded(dtype):
    """The fixture with the values that `dtype` leaves of its matrices."""
    folder = copy_checkpoint(fixture, work / "rounded")
    header, data = read_safetensors(folder / "model.safetensors")
    new, bytes_ = {}, bytearray()
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        values = floats(header, data, name)
        kind = dtype if len(entry["shape"]) == 2 else "F32"
        raw = decode(encode(values, kind), kind).tobytes()
        new[name] = {"dtype": "F32", "shape": entry["shape"], "data_offsets": [len(bytes_), len(bytes_) + len(raw)]}
        bytes_ += raw
    write_safetensors(folder / "model.safetensors", new, bytes(bytes_))
    return folder


def compare(what, actual, reference):
    norm = sum(v * v for v in reference) ** 0.5
    error = sum((a - b) ** 2 for a, b in zip(actual, reference, strict=True)) ** 0.5 / norm
    print(f"{what}: relative error {error:.2e}")
    return error


for dtype, mesh in (("F32", (1, 1)), ("F16", (2, 1)), ("Q8_0", (2, 2))):
    reference = logits(fixture if dtype == "F32" else rounded(dtype), 1, 1)
    path = work / f"{dtype}.gguf"
    llama_to_gguf(fixture, path, dtype, factors())
    assert compare(dtype, logits(path, *mesh), reference) <= BOUND
llama_to_gguf(fixture, work / "unscaled.gguf")
assert compare("without rope_freqs", logits(work / "unscaled.gguf", 1, 1), logits(fixture, 1, 1)) > 1e-3
