#!/usr/bin/env python3
"""Hugging Face folders rewritten as GGUF, with the names of llama.cpp's converter, give the same logits; so does GPT-2
with other names."""
import json
import math
import re
from array import array
from pathlib import Path

from checkpoints import (copy_checkpoint, encode, floats, llama_to_gguf, read_safetensors, write_gguf,
                         write_safetensors)
from end_to_end import Check, relative_error

check = Check(__doc__, ("fixtures", False))
fixtures = Path(check.options.fixtures)
work = check.folder / "gguf-families"
work.mkdir(parents=True, exist_ok=True)

PHI3 = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
GPT2 = {"transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
        "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}


def rewrite(folder, path, names, metadata, extra=()):
    """`extra`: tensors of F32 that Hugging Face has in its configuration."""
    header, data = read_safetensors(folder / "model.safetensors")
    tensors = [(name, "F32", [len(values)], encode(array("f", values), "F32")) for name, values in extra]
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        place, layer, stem, kind = re.fullmatch(r"((?:.*\.(\d+)\.)?)(.*)\.(weight|bias)", name).groups()
        shape, values = entry["shape"], floats(header, data, name)
        if re.search(r"\.c_\w+\.weight", name):  # stored [in, out]
            rows, columns = shape
            shape, values = [columns, rows], array("f", (values[r * columns + c] for c in range(columns) for r in range(rows)))
        tensors.append((f"blk.{layer}.{names[stem]}.{kind}" if place else f"{names[stem]}.{kind}", "F32", shape,
                        encode(values, "F32")))
    write_gguf(path, metadata, tensors)


def phi3(folder, path):
    config = json.loads((folder / "config.json").read_text())
    rope, heads = config["rope_parameters"], config["num_attention_heads"]
    original = config["original_max_position_embeddings"]
    scale = config["max_position_embeddings"] / original
    rewrite(folder, path, PHI3, {
        "general.architecture": "phi3", "phi3.embedding_length": config["hidden_size"],
        "phi3.block_count": config["num_hidden_layers"], "phi3.attention.head_count": heads,
        "phi3.attention.head_count_kv": config["num_key_value_heads"],
        "phi3.feed_forward_length": config["intermediate_size"],
        "phi3.context_length": config["max_position_embeddings"],
        "phi3.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "phi3.rope.freq_base": float(rope["rope_theta"]),
        "phi3.rope.dimension_count": int(rope.get("partial_rotary_factor", 1) * config["hidden_size"]) // heads,
        "phi3.rope.scaling.original_context_length": original,
        "phi3.rope.scaling.attn_factor": math.sqrt(1 + math.log(scale) / math.log(original)),
        "phi3.attention.sliding_window": config["sliding_window"] or 0,
    }, [("rope_factors_long.weight", rope["long_factor"]), ("rope_factors_short.weight", rope["short_factor"])])


def gpt2(folder, path):
    config = json.loads((folder / "config.json").read_text())
    rewrite(folder, path, GPT2, {
        "general.architecture": "gpt2", "gpt2.embedding_length": config["n_embd"],
        "gpt2.block_count": config["n_layer"], "gpt2.attention.head_count": config["n_head"],
        "gpt2.feed_forward_length": 4 * config["n_embd"], "gpt2.context_length": config["n_positions"],
        "gpt2.attention.layer_norm_epsilon": float(config["layer_norm_epsilon"])})


def yarn(folder, path):
    rope = json.loads((folder / "config.json").read_text())["rope_parameters"]
    llama_to_gguf(folder, path, metadata={
        "llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": float(rope["factor"]),
        "llama.rope.scaling.original_context_length": rope["original_max_position_embeddings"]})


def without_prefix(folder, path):
    """Names as a checkpoint of the model without its head has them."""
    copy_checkpoint(folder, path)
    header, data = read_safetensors(path / "model.safetensors")
    write_safetensors(path / "model.safetensors",
                      {name.removeprefix("transformer."): entry for name, entry in header.items()}, data)


for name, write, vocabulary in (("phi3", phi3, 256), ("phi4", phi3, 256), ("gpt2", gpt2, 251), ("rope-yarn", yarn, 256),
                                ("gpt2", without_prefix, 251)):
    folder, path = fixtures / name, work / (name + ("" if write == without_prefix else ".gguf"))
    if check.compiles:
        write(folder, path)
    plans = [check.plans(f"{name}.hf", folder, "1x1"), check.plans(path.name + ".rewritten", path, "2x1")]
    if check.runs:
        ids = [i * 37 % vocabulary for i in range(40)]
        reference, actual = (check.logits(p, ids)[1] for p in plans)
        error = relative_error(actual, reference)
        print(f"{name}: relative error {error:.2e}", flush=True)
        assert error <= check.bound_of(folder, check.rounded_bound), f"{name}: {error}"
