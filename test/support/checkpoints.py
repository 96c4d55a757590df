"""Reads and writes safetensors and GGUF files for tests; what it writes may be as wrong as the caller wants."""
import json
import math
import shutil
import struct
from array import array
from pathlib import Path

from blocks import FORMATS


def read_safetensors(path):
    """The header, and the bytes after it."""
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_safetensors(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def floats(header, data, name):
    """A tensor's values as F32; the file's are F32, F16 or BF16."""
    begin, end = header[name]["data_offsets"]
    raw, dtype = data[begin:end], header[name]["dtype"]
    if dtype == "F16":
        return array("f", struct.unpack(f"<{len(raw) // 2}e", raw))
    if dtype == "BF16":
        wide = bytearray(2 * len(raw))
        wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
        raw = bytes(wide)
    return array("f", raw)


def copy_checkpoint(source, target, config=None):
    """A copy of a Hugging Face folder; `config` changes config.json, a value of None removes its key."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    if config:
        path = Path(target) / "config.json"
        values = json.loads(path.read_text())
        values.update(config)
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return Path(target)


GGML = {"F32": 0, "F16": 1, **{name: form[0] for name, form in FORMATS.items()}}


def _string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value):
    """Integers as u32, floats as f32, strings, booleans; lists of one of these; (type, bytes) for anything else."""
    if isinstance(value, tuple):
        return value[0], value[1]
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, _string(value)
    parts = [_value(element) for element in value]
    return 9, struct.pack("<IQ", parts[0][0], len(parts)) + b"".join(part[1] for part in parts)


def encode(values, dtype):
    """F32 values in a GGUF type; Q8_0 by blocks of 32 with one F16 scale."""
    if dtype == "F32":
        return array("f", values).tobytes()
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    assert dtype == "Q8_0", dtype
    out = bytearray()
    for begin in range(0, len(values), 32):
        block = values[begin : begin + 32]
        scale = max(map(abs, block)) / 127
        out += struct.pack("<e", scale)
        out += array("b", [max(-127, min(127, round(v / scale))) if scale else 0 for v in block]).tobytes()
    return bytes(out)


def write_gguf(path, metadata, tensors, change=None):
    """`tensors`: (name, dtype, shape with the outermost dimension first, bytes). `change` gets a list of {name, shape,
    type, offset} before the header is written; metadata of value None is left out."""
    metadata = {key: value for key, value in metadata.items() if value is not None}
    data, infos = bytearray(), []
    for name, dtype, shape, raw in tensors:
        data += bytes(-len(data) % 32)
        infos.append({"name": name, "shape": shape, "type": GGML[dtype], "offset": len(data)})
        data += raw
    if change:
        change(infos)
    head = bytearray(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        number, raw = _value(value)
        head += _string(key) + struct.pack("<I", number) + raw
    for info in infos:
        shape = info["shape"]
        head += _string(info["name"]) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += struct.pack("<IQ", info["type"], info["offset"])
    Path(path).write_bytes(head + bytes(-len(head) % 32) + data)


def _interleave(values, heads, head_dim, columns):
    """Rows of q or k from Hugging Face's order of a head (two halves) to that of GGUF for Llama (pairs)."""
    out = array("f")
    half = head_dim // 2
    for head in range(heads):
        for i in range(head_dim):
            row = head * head_dim + i // 2 + (i % 2) * half
            out += values[row * columns : (row + 1) * columns]
    return out


# What llama.cpp's converter makes of each architecture: metadata from config.json, and of its tensors the names that are not
# Llama's. `pairs`: rows of q and k are put in the order of pairs; `norms`: 1 is added to the norms.
GGUF = {
    "llama": {"pairs": True},
    "qwen3": {"names": {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}},
    "qwen3moe": {"names": {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}},
    "smollm3": {"pairs": True},
    "granite": {
        "pairs": True,
        "metadata": {"embedding_scale": "embedding_multiplier", "attention.scale": "attention_multiplier",
                     "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling"}},
    "gemma": {"norms": True},
    "gemma2": {
        "norms": True,
        "names": {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
                  "post_feedforward_layernorm": "post_ffw_norm"},
        "metadata": {"attention.sliding_window": "sliding_window", "attn_logit_softcapping": "attn_logit_softcapping",
                     "final_logit_softcapping": "final_logit_softcapping"}},
    "olmo2": {
        "names": {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
                  "post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}},
}

# Where a family has its experts, and what GGUF calls their weights, stacked.
EXPERTS = {
    "mixtral": ("block_sparse_moe", {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}),
    "qwen3_moe": ("mlp", {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}),
}


def llama_to_gguf(folder, path, dtype="F32", rope_freqs=None, metadata=None, change=None):
    """A Hugging Face folder of a family in GGUF above, or of experts, as GGUF without a tokenizer. Norms and routers stay F32.
    `dtype` may be a list: one for each matrix in the order of the file, the last for all that follow; rows that a type's
    blocks do not divide are F32."""
    dtypes = [dtype] if isinstance(dtype, str) else list(dtype)
    config = json.loads((Path(folder) / "config.json").read_text())
    arch = config.get("model_type", "llama").replace("_", "")
    arch = arch if arch in GGUF else "llama"
    form = GGUF[arch]
    files = [read_safetensors(file) for file in sorted(Path(folder).glob("model*.safetensors"))]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    of_layer = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
                "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
                "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
                "mlp.down_proj": "ffn_down", **form.get("names", {})}
    experts_in, of_expert = EXPERTS.get(config.get("model_type"), (None, {}))
    experts = config.get("num_local_experts") or config.get("num_experts") or 0
    if experts:
        of_layer[f"{experts_in}.gate"] = "ffn_gate_inp"
        metadata = {f"{arch}.expert_count": experts, f"{arch}.expert_used_count": config["num_experts_per_tok"],
                    f"{arch}.expert_feed_forward_length": config.get("moe_intermediate_size"), **(metadata or {})}
        if config.get("attention_bias"):
            names |= {f"model.layers.{layer}.self_attn.{hf}_proj.bias": f"blk.{layer}.attn_{gguf}.bias"
                      for layer in range(config["num_hidden_layers"])
                      for hf, gguf in {"q": "q", "k": "k", "v": "v", "o": "output"}.items()}
    stacked = {}
    for layer in range(config["num_hidden_layers"]):
        for hf, gguf in of_layer.items():
            names[f"model.layers.{layer}.{hf}.weight"] = f"blk.{layer}.{gguf}.weight"
        for hf, gguf in of_expert.items():
            parts = [f"model.layers.{layer}.{experts_in}.experts.{expert}.{hf}.weight" for expert in range(experts)]
            names[parts[0]] = f"blk.{layer}.{gguf}.weight"
            stacked[parts[0]] = parts
    tensors = []
    for hf, gguf in names.items():
        found = [(header, data) for header, data in files if hf in header]
        if not found:
            continue
        header, data = found[0]
        shape, values = header[hf]["shape"], floats(header, data, hf)
        if hf in stacked:
            shape, values = [experts, *shape], sum((floats(header, data, part) for part in stacked[hf]), array("f"))
        if form.get("pairs") and len(shape) == 2 and ("attn_q" in gguf or "attn_k" in gguf):
            values = _interleave(values, heads if "attn_q" in gguf else kv_heads, head_dim, shape[1])
        if form.get("norms") and "norm" in gguf:
            values = array("f", [value + 1 for value in values])
        kind = "F32"
        if len(shape) > 1 and "gate_inp" not in gguf:
            kind = dtypes.pop(0) if len(dtypes) > 1 else dtypes[0]
            kind = "F32" if kind == "Q8_0" and shape[-1] % 32 else kind
        tensors.append((gguf, kind, shape, encode(values, kind)))
    if rope_freqs:
        tensors.append(("rope_freqs.weight", "F32", [len(rope_freqs)], encode(rope_freqs, "F32")))
    of_arch = {
        "embedding_length": config["hidden_size"], "block_count": config["num_hidden_layers"],
        "attention.head_count": heads, "attention.head_count_kv": kv_heads, "attention.key_length": head_dim,
        "feed_forward_length": config["intermediate_size"], "context_length": config["max_position_embeddings"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.freq_base": float(config.get("rope_theta") or config["rope_parameters"]["rope_theta"]),
        **{key: config[hf] for key, hf in form.get("metadata", {}).items()}}
    write_gguf(path, {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in of_arch.items()},
                      **(metadata or {})}, tensors, change)


def _skip_value(data, at, kind):
    """Where the metadata value of a type that starts at `at` ends."""
    if kind == 8:
        return at + 8 + struct.unpack_from("<Q", data, at)[0]
    if kind == 9:
        element, count = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(count):
            at = _skip_value(data, at, element)
        return at
    return at + {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}[kind]


def _bf16(values):
    """The bits of values in BF16, rounded to F32 first, each time to the nearest, ties to even."""
    bits = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
    return [(x + 0x7FFF + (x >> 16 & 1)) >> 16 for x in bits]


def _q8_0_to_bf16(raw):
    out = bytearray()
    for begin in range(0, len(raw), 34):
        scale, *numbers = struct.unpack_from("<e32b", raw, begin)
        out += struct.pack("<32H", *_bf16([scale * q for q in numbers]))
    return out


def _q4_1_to_bf16(raw):
    low, high = bytes(i & 15 for i in range(256)), bytes(i >> 4 for i in range(256))
    out = bytearray(len(raw) // 20 * 64)
    for block, begin in enumerate(range(0, len(raw), 20)):
        scale, least = struct.unpack_from("<2e", raw, begin)
        bits = _bf16([scale * q + least for q in range(16)])
        packed = raw[begin + 4 : begin + 20]
        numbers = packed.translate(low) + packed.translate(high)
        for byte in range(2):
            table = bytes(b >> 8 * byte & 255 for b in bits) + bytes(240)
            out[block * 64 + byte : block * 64 + 64 : 2] = numbers.translate(table)
    return out


def gguf_to_bf16(source, target):
    """A GGUF file with its quantized tensors (Q4_1, Q8_0) in BF16, everything else as it was."""
    data = Path(source).read_bytes()
    tensors, pairs = struct.unpack_from("<QQ", data, 8)
    at = 24
    for _ in range(pairs):
        at = _skip_value(data, at, 8)
        at = _skip_value(data, at + 4, struct.unpack_from("<I", data, at)[0])
    head, infos = bytearray(data[:at]), []
    for _ in range(tensors):
        begin, at = at, _skip_value(data, at, 8)
        dims = struct.unpack_from("<I", data, at)[0]
        shape = struct.unpack_from(f"<{dims}Q", data, at + 4)
        at += 4 + 8 * dims
        kind, offset = struct.unpack_from("<IQ", data, at)
        infos.append((data[begin:at], math.prod(shape), kind, offset))
        at += 12
    first, bodies, size = -(-at // 32) * 32, [], 0
    for info, count, kind, offset in infos:
        block, change = {0: (128, None), 3: (20, _q4_1_to_bf16), 8: (34, _q8_0_to_bf16)}[kind]
        raw = data[first + offset : first + offset + count // 32 * block]
        head += info + struct.pack("<IQ", 30 if change else kind, size)
        bodies.append(change(raw) if change else raw)
        size += len(bodies[-1])
    with open(target, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        file.writelines(bodies)
