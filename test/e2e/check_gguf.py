#!/usr/bin/env python3
"""A Hugging Face Llama folder rewritten as GGUF gives the same logits.

The scaling of llama3 becomes the tensor rope_freqs.weight, as converters write it. F16 and Q8_0 are compared with a
Hugging Face folder of the values that are left after the rounding.
"""
import json
import math
import struct
from array import array
from pathlib import Path

from checkpoints import copy_checkpoint, encode, floats, llama_to_gguf, read_safetensors, write_safetensors
from end_to_end import Check, relative_error

check = Check(__doc__, ("fixture", False))
fixture = Path(check.options.fixture)
work = check.folder / "gguf"  # the plans find their checkpoints there
work.mkdir(parents=True, exist_ok=True)
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


def logits(name, model, mesh):
    plans = check.plans(name, model, mesh)
    ids = [i * 37 % config["vocab_size"] for i in range(200)]  # far beyond the original 64 positions
    return check.logits(plans, ids)[1] if check.runs else None


def rounded(dtype):
    """The fixture with the values that `dtype` leaves of its matrices."""
    folder = copy_checkpoint(fixture, work / dtype)
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


def compare(what, actual, reference, accept):
    if check.runs:
        error = relative_error(actual, reference)
        print(f"{what}: relative error {error:.2e}", flush=True)
        assert accept(error), f"{what}: {error}"


for dtype, mesh in (("F32", "1x1"), ("F16", "2x1"), ("Q8_0", "2x2")):
    path = work / f"{dtype}.gguf"
    if check.compiles:
        llama_to_gguf(fixture, path, dtype, factors())
    hf = fixture if dtype == "F32" else rounded(dtype) if check.compiles else work / dtype
    reference = logits(f"{dtype}.hf", hf, "1x1")
    compare(dtype, logits(f"{dtype}.gguf", path, mesh), reference, lambda error: error <= check.bound)
unscaled = work / "unscaled.gguf"
if check.compiles:
    llama_to_gguf(fixture, unscaled)
compare("without rope_freqs", logits("unscaled.gguf", unscaled, "1x1"), logits("F32.hf", fixture, "1x1"),
        lambda error: error > 100 * 1e-5 and error > check.bound)
