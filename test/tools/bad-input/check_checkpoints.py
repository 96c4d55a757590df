#!/usr/bin/env python3
"""usage: check_checkpoints.py DATA FOLDER ; damaged safetensors checkpoints: the whole message of each, and no output."""
import copy
import struct
import sys
from pathlib import Path

from checkpoints import copy_checkpoint, read_safetensors, write_safetensors
from tool import refused, succeeds

fixtures, work = Path(sys.argv[1]) / "fixtures", Path(sys.argv[2])
model = work / "model"
Q = "model.layers.1.self_attn.q_proj.weight"  # F32 [128, 128] of llama-mha, bytes 1443840..1509376 of the data


def check(message, code=1):
    refused(message, "distc", "compile", model, "-o", work / "plans", within=work, places=[model], code=code)


def shard(message, change):
    """Of three shards, the second is replaced by change(path, its bytes)."""
    copy_checkpoint(fixtures / "llama-gqa", model)
    path = model / "model-00002-of-00003.safetensors"
    change(path, path.read_bytes())
    check(message)


def single(message, change, config=None):
    """change(header, data) may return other data."""
    copy_checkpoint(fixtures / "llama-mha", model, config)
    path = model / "model.safetensors"
    header, data = read_safetensors(path)
    changed = change(header, data)
    write_safetensors(path, header, changed if isinstance(changed, bytes) else data)
    check(message)


def put(**values):
    return lambda header, data: header[Q].update(values)


def remove(name):
    return lambda header, data: header.pop(name)


def to_directory(path, _):
    path.unlink()
    path.mkdir()


S = "<0>/model-00002-of-00003.safetensors: "
shard(S + "no such file, but <0>/model.safetensors.index.json names it; download the shard", lambda p, b: p.unlink())
shard(S + "tensor 'model.layers.2.self_attn.v_proj.weight': data_offsets 369152..377344 end beyond the data of 377244 "
      "bytes; the file is truncated or damaged", lambda p, b: p.write_bytes(b[:-100]))
shard(S + "header of 1184 bytes in a file of 50 bytes; truncated, or not a safetensors file",
      lambda p, b: p.write_bytes(b[:50]))
shard(S + "not a safetensors file: 0 bytes, expected at least 8 for the length of the header",
      lambda p, b: p.write_bytes(b""))
shard(S + "is a folder, expected a file", to_directory)
shard(S + "header of 378536 bytes in a file of 378536 bytes; truncated, or not a safetensors file",
      lambda p, b: p.write_bytes(struct.pack("<Q", len(b)) + b[8:]))
shard(S + "header of 1099511627776 bytes, expected at most 100000000; not a safetensors file, or damaged",
      lambda p, b: p.write_bytes(struct.pack("<Q", 1 << 40) + b[8:]))
shard(S + "no tensor covers bytes 378536..378546, after tensor 'model.layers.2.self_attn.v_proj.weight'; the header "
      "lacks a tensor, or the file is damaged", lambda p, b: p.write_bytes(b + bytes(10)))
shard(S + "header: nested deeper than 64 levels", lambda p, b: write_safetensors(p, b'{"a":' + b"[" * 100000, b""))
shard(S + "header: not valid JSON: line 1, column 4: syntax error while parsing object key - invalid string: ill-formed "
      "UTF-8 byte; …", lambda p, b: write_safetensors(p, b'{"a\xff":1}', b""))
shard(S + "has no tensor 'model.layers.1.mlp.up_proj.weight', but <0>/model.safetensors.index.json says so",
      lambda p, b: write_safetensors(p, {k: v for k, v in read_safetensors(p)[0].items() if "1.mlp.up" not in k},
                                     read_safetensors(p)[1]))

M = f"<0>/model.safetensors: tensor '{Q}'"
single(f"<0>: tensor '{Q}' is missing: family llama expects it with shape [128, 128]", remove(Q))
single(M + " has shape [64, 256], expected [128, 128]: dimension 0 contradicts <0>/config.json: key "
       "'num_attention_heads' (8) × <0>/config.json: key 'head_dim' (16)", put(shape=[64, 256]))
single(M + " has shape [16384], expected [128, 128]", put(shape=[16384]))
single(M + " is I32, which is not supported; supported are F32, F16, BF16, and in GGUF Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, "
       "Q2_K, Q3_K, Q4_K, Q5_K, Q6_K", put(dtype="I32"))
single(M + ": unknown dtype 'Q9'", put(dtype="Q9"))
single(M + ": shape [128, 128] of F64 takes 131072 bytes, data_offsets 1443840..1509376 give 65536", put(dtype="F64"))
single(M + ": shape [4611686018427387904, 4] of F32 overflows", put(shape=[1 << 62, 4]))
single(M + " (bytes 1447253..1512789) overlaps tensor 'model.layers.1.self_attn.o_proj.weight' (bytes 1381721..1447257)",
       put(data_offsets=[1443836, 1509372]))
single(M + ": data_offsets 1001443840..1001509376 end beyond the data of 2231808 bytes; the file is truncated or "
       "damaged", put(data_offsets=[1001443840, 1001509376]))
single(M + ": data_offsets 1509376..1443840: the end lies before the begin", put(data_offsets=[1509376, 1443840]))
single(M + ": key 'data_offsets' holds -5, expected an unsigned integer", put(data_offsets=[-5, 3]))
single(M + ": key 'shape' is \"big\", expected an array of unsigned integers", put(shape="big"))


def shifted(header, data):
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [at + 64 for at in entry["data_offsets"]]
    return bytes(64) + data


single("<0>/model.safetensors: no tensor covers bytes 3418..3482, before tensor 'lm_head.weight'; the header lacks a "
       "tensor, or the file is damaged", shifted)

# A configuration that is not this checkpoint's.
same = lambda header, data: None
single("<0>: tensor 'model.layers.3.input_layernorm.weight' is missing: family llama expects it with shape [128]", same,
       {"num_hidden_layers": 4})
single("<0>/model.safetensors: tensor 'model.layers.2.input_layernorm.weight' contradicts <0>/config.json: key "
       "'num_hidden_layers', which is 2", same, {"num_hidden_layers": 2})
single("<0>/model.safetensors: tensor 'model.embed_tokens.weight' has shape [256, 128], expected [300, 128]: dimension "
       "0 contradicts <0>/config.json: key 'vocab_size' (300)", same, {"vocab_size": 300})
single("<0>: tensor 'model.layers.0.mlp.down_proj.bias' is missing: family llama expects it with shape [128]", same,
       {"mlp_bias": True})


def biased(header, data):
    header["model.layers.0.self_attn.q_proj.bias"] = {
        "dtype": "F32", "shape": [128], "data_offsets": [len(data), len(data) + 512]}
    return data + bytes(512)


single("<0>/model.safetensors: tensor 'model.layers.0.self_attn.q_proj.bias' contradicts <0>/config.json: key "
       "'attention_bias', which is false", biased)
# Nothing may be sized by a configuration that the tensors contradict: these would take terabytes.
single("<0>/model.safetensors: tensor 'model.embed_tokens.weight' has shape [256, 128], expected [256, 16777216]: "
       "dimension 1 contradicts <0>/config.json: key 'hidden_size' (16777216)", same,
       {"hidden_size": 1 << 24, "num_attention_heads": 1 << 16, "num_key_value_heads": 1 << 16, "head_dim": 256})

# The fixture itself compiles: what was refused above was refused for its damage.
copy_checkpoint(fixtures / "llama-mha", model)
succeeds("distc", "compile", model, "-o", work / "plans")
