#!/usr/bin/env python3
"""usage: check_gguf.py DATA FOLDER ; damaged GGUF files: the whole message of each, and no output."""
import struct
import sys
from pathlib import Path

from checkpoints import llama_to_gguf
from tool import refused, succeeds

data, work = Path(sys.argv[1]), Path(sys.argv[2])
path = work / "model.gguf"
fixture = data / "fixtures" / "llama-tied"
story = (data / "stories260K" / "stories260K-f32.gguf").read_bytes()


def check(message, raw=None, flags=()):
    if raw is not None:
        path.write_bytes(raw)
    refused("<0>: " + message, "distc", "compile", path, "-o", work / "plans", *flags, within=work, places=[path])


def made(message, metadata=None, change=None):
    """A GGUF with other metadata (None removes a key); change(tensors) may change what stands in the header."""
    llama_to_gguf(fixture, path, metadata=metadata, change=change)
    check(message)


check("not a GGUF file: it begins with '', expected 'GGUF'", b"")
check("not a GGUF file: it begins with 'GGML', expected 'GGUF'", b"GGML" + story[4:])
check("GGUF version 4, expected 2 or 3", story[:4] + struct.pack("<I", 4) + story[8:])
check("big-endian GGUF, which is not supported; convert it to little-endian",
      story[:4] + struct.pack(">I", 3) + story[8:])
check("says that it has 4611686018427387904 tensors, but a header of …",
      story[:8] + struct.pack("<Q", 1 << 62) + story[16:])
check("says that it has 4611686018427387904 metadata pairs, but a header of …",
      story[:16] + struct.pack("<Q", 1 << 62) + story[24:])
check("a metadata key at byte …", story[:24] + struct.pack("<Q", 1 << 62) + story[32:])
check("tensor …", story[:-100])  # its data ends beyond the file
check("no tensor covers bytes …", story + bytes(64))
for length in (10, 30, 1000, 20000):
    path.write_bytes(story[:length])
    refused("<0>: …", "distc", "compile", path, "-o", work / "plans", within=work, places=[path])

K = "key 'llama."
made(K + "embedding_length' is 0, expected 1 to 16777216", {"llama.embedding_length": 0})
made(K + "block_count' is 4096.5, expected an integer", {"llama.block_count": 4096.5})
made(K + "block_count' is -1, expected 1 to 4096", {"llama.block_count": (5, struct.pack("<i", -1))})
made(K + "attention.head_count' is \"8\", expected an integer", {"llama.attention.head_count": "8"})
made("key 'llama.attention.head_count': 18446744073709551615 is above the largest integer 9223372036854775807",
     {"llama.attention.head_count": (10, struct.pack("<Q", (1 << 64) - 1))})
made(K + "attention.layer_norm_rms_epsilon' is null, expected a finite number",
     {"llama.attention.layer_norm_rms_epsilon": float("nan")})
made(K + "rope.freq_base' is -1.000000, expected a positive number", {"llama.rope.freq_base": -1.0})
made(K + "rope.dimension_count': rotates 18 of the 16 elements of a head, expected an even number from 2 to all",
     {"llama.rope.dimension_count": 18})
made(K + "rope.scaling.type': rope type 'xpos' is not supported; supported are default, linear, dynamic, yarn, llama3, longrope",
     {"llama.rope.scaling.type": "xpos"})
made(K + "rope.scaling.yarn_ext_factor' is 0.500000: not supported",
     {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.yarn_ext_factor": 0.5})
made(K + "rope.scaling.type' is \"longrope\", but the tensors 'rope_factors_long.weight' and 'rope_factors_short.weight' are missing",
     {"llama.rope.scaling.type": "longrope"})
made("has no key 'general.architecture'; not a model", {"general.architecture": None})
made("architecture 'bert' is not supported; supported are …", {"general.architecture": "bert"})
made("key 'general.alignment' is 3, expected a power of two, at most 16777216", {"general.alignment": 3})
made("key 'llama.list': an array of arrays, which is not supported", {"llama.list": (9, struct.pack("<IQ", 9, 1))})
made("key 'llama.list': array of 4611686018427387904 elements, but …",
     {"llama.list": (9, struct.pack("<IQ", 4, 1 << 62))})
made("one of 2 parts of a split GGUF file; merge the parts into one file first", {"split.count": 2})

T = "tensor 'blk.1.attn_q.weight'"


def q_of(tensors):
    return next(tensor for tensor in tensors if tensor["name"] == "blk.1.attn_q.weight")


def update(**values):
    return lambda tensors: q_of(tensors).update(values)


def rename(tensors):
    q_of(tensors)["name"] = "blk.1.attn_x.weight"


def clash(tensors):
    q_of(tensors)["name"] = "blk.0.attn_q.weight"


def overlap(tensors):
    q_of(tensors)["offset"] -= 32


made(f"{T} is missing: family llama expects it with shape [128, 128]", change=rename)
made("tensor 'blk.0.attn_q.weight' occurs twice", change=clash)
made(f"{T} has shape [64, 256], expected [128, 128]: dimension 0 contradicts <0>: {K}attention.head_count' (8) × <0>: "
     f"{K}attention.key_length' (16)", change=update(shape=[64, 256]))
made(f"{T}: 5 dimensions, expected at most 4", change=update(shape=[1, 1, 1, 128, 128]))
made(f"{T}: unknown type 99 (removed from the format, or newer)", change=update(type=99))
made(f"{T} is IQ4_NL, which is not supported; supported are F32, F16, BF16, and in GGUF Q8_0, Q4_0, Q4_1, Q5_0, "
     "Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K", change=update(type=20))
made(f"{T}: offset 33 is not a multiple of the alignment 32", change=update(offset=33))
made(f"{T}: 65536 bytes at offset 4611686018427387904 end beyond the data of …", change=update(offset=1 << 62))
made("tensor 'blk.1.attn_q.weight' (bytes …", change=overlap)

llama_to_gguf(fixture, path)
succeeds("distc", "compile", path, "-o", work / "plans")
