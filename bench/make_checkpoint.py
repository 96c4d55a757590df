#!/usr/bin/env python3
"""Writes a checkpoint of random weights for any model shape, as a Hugging Face folder or a GGUF file.

The values depend on the seed, the tensor's Hugging Face name and its shape alone: the same seed gives the same model in
every format, up to the rounding of --dtype. Tensors are made and written in parts of a few MB, so that memory stays small.
"""

import argparse
import hashlib
import json
import math
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

try:
    import numpy as np
except ModuleNotFoundError:
    np = None  # --sparse --format hf does without

SHAPES = Path(__file__).resolve().parent.parent / "models" / "shapes"
CHUNK_ELEMENTS = 1 << 22
GGUF_ALIGNMENT = 32
# Keys that a published config may leave out.
OPTIONAL_KEYS = {"attention_bias", "head_dim", "mlp_bias", "num_key_value_heads", "rope_scaling", "sliding_window"}

EXAMPLES = """examples:
  make_checkpoint.py llama-3-1b /tmp/llama-1b
  make_checkpoint.py llama-3-8b /tmp/tiny --set num_hidden_layers=2 --set vocab_size=1024 --shards 3
  make_checkpoint.py llama-2-7b /tmp/tiny.gguf --format gguf --dtype q8_0 --set num_hidden_layers=2 \\
      --set vocab_size=259 --tokenizer
  make_checkpoint.py llama-3-405b /tmp/405b --shards 191 --sparse
"""


class Failure(Exception):
    """What the user asked for cannot be made."""


# ------------------------------------------------------------------------------------------------------------- the model


@dataclass
class Tensor:
    name: str  # as Hugging Face names it
    gguf: str
    shape: tuple
    kind: str  # matrix, norm, bias
    heads: int = 0  # rows are those of this many heads, which GGUF's llama orders otherwise


def read_config(source, overrides):
    path = Path(source)
    if not path.is_file():
        path = path / "config.json" if path.is_dir() else SHAPES / f"{source}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SHAPES.glob("*.json")))
        raise Failure(f"{source}: neither a config.json nor a known shape; known are {known}")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise Failure(f"{path}: not valid JSON: {error}")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise Failure(f"--set {override}: expected KEY=VALUE")
        if key not in config and key not in OPTIONAL_KEYS:
            raise Failure(f"--set {override}: {path} has no key '{key}'")
        try:
            config[key] = json.loads(text)
        except ValueError:
            config[key] = text
    return config


class Model:
    def __init__(self, config):
        self.config = config
        self.family = config.get("model_type")
        if self.family not in ("llama", "mistral", "qwen2"):
            raise Failure(f"model_type is {self.family!r}, expected llama, mistral or qwen2")
        self.hidden = self.size("hidden_size")
        self.ffn = self.size("intermediate_size")
        self.layers = self.size("num_hidden_layers")
        self.vocabulary = self.size("vocab_size")
        self.heads = self.size("num_attention_heads")
        self.kv_heads = self.size("num_key_value_heads", self.heads)
        if config.get("head_dim") is None and self.hidden % self.heads != 0:
            raise Failure(f"hidden_size {self.hidden} is not a multiple of num_attention_heads {self.heads}")
        self.head_dim = self.size("head_dim", self.hidden // self.heads)
        if self.head_dim % 2 != 0:
            raise Failure(f"head_dim is {self.head_dim}, expected an even number")
        if self.heads % self.kv_heads != 0:
            raise Failure(f"num_attention_heads {self.heads} is not a multiple of num_key_value_heads {self.kv_heads}")
        for key, small in (("bos_token_id", 1), ("eos_token_id", 2)):
            # A published id lies beyond a vocabulary made small.
            if isinstance(config.get(key), int) and config[key] >= self.vocabulary:
                config[key] = min(small, self.vocabulary - 1)
        self.tied = bool(config.get("tie_word_embeddings", False))
        # llama.cpp runs Mistral's models as llama.
        self.arch = "qwen2" if self.family == "qwen2" else "llama"
        scaling = config.get("rope_scaling") or {}
        self.rope = scaling.get("rope_type", scaling.get("type", "default"))

    def size(self, key, default=None):
        value = self.config.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Failure(f"{key} is {value!r}, expected a positive integer")
        return value

    def tensors(self):
        """All tensors, in the order in which they lie in the files."""
        qkv_bias = self.family == "qwen2" or self.config.get("attention_bias", False)
        out_bias = self.family != "qwen2" and self.config.get("attention_bias", False)
        mlp_bias = self.config.get("mlp_bias", False)
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        linears = [  # Hugging Face's name, GGUF's, out, in, bias, heads
            ("self_attn.q_proj", "attn_q", q, self.hidden, qkv_bias, self.heads),
            ("self_attn.k_proj", "attn_k", kv, self.hidden, qkv_bias, self.kv_heads),
            ("self_attn.v_proj", "attn_v", kv, self.hidden, qkv_bias, 0),
            ("self_attn.o_proj", "attn_output", self.hidden, q, out_bias, 0),
            ("mlp.gate_proj", "ffn_gate", self.ffn, self.hidden, mlp_bias, 0),
            ("mlp.up_proj", "ffn_up", self.ffn, self.hidden, mlp_bias, 0),
            ("mlp.down_proj", "ffn_down", self.hidden, self.ffn, mlp_bias, 0),
        ]
        embedding = (self.vocabulary, self.hidden)
        yield Tensor("model.embed_tokens.weight", "token_embd.weight", embedding, "matrix")
        for layer in range(self.layers):
            hf, gguf = f"model.layers.{layer}.", f"blk.{layer}."
            yield Tensor(hf + "input_layernorm.weight", gguf + "attn_norm.weight", (self.hidden,), "norm")
            for name, short, rows, columns, bias, heads in linears:
                yield Tensor(f"{hf}{name}.weight", f"{gguf}{short}.weight", (rows, columns), "matrix", heads)
                if bias:
                    yield Tensor(f"{hf}{name}.bias", f"{gguf}{short}.bias", (rows,), "bias", heads)
            yield Tensor(hf + "post_attention_layernorm.weight", gguf + "ffn_norm.weight", (self.hidden,), "norm")
        yield Tensor("model.norm.weight", "output_norm.weight", (self.hidden,), "norm")
        if not self.tied:
            yield Tensor("lm_head.weight", "output.weight", embedding, "matrix")


def values(tensor, seed, permute):
    """The tensor's values as float32 arrays of whole rows. With `permute`, the rows of each head are interleaved as GGUF's
    llama has them: row i of the first half, row i of the second half, and so on."""
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    digest = hashlib.sha256(f"{seed}:{tensor.name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    # Uniform, of a deviation that keeps activations and logits near 1 in models of every width.
    mean, deviation = {"matrix": (0, columns**-0.5), "norm": (1, 0.1), "bias": (0, 0.1)}[tensor.kind]
    unit = rows // tensor.heads if permute and tensor.heads else 1
    step = max(1, CHUNK_ELEMENTS // (columns * unit)) * unit
    for first in range(0, rows, step):
        count = min(step, rows - first)
        part = generator.random((count, columns), dtype=np.float32)
        part -= np.float32(0.5)
        part *= np.float32(deviation * 12**0.5)
        part += np.float32(mean)
        if unit > 1:
            part = part.reshape(count // unit, 2, unit // 2, columns).swapaxes(1, 2).reshape(count, columns)
        yield part


# --------------------------------------------------------------------------------------------------------- element types


def to_bf16(x):
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2")


def inverse(scale):
    return np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)


def to_q8_0(x):
    """Blocks of 32: f16 scale, 32 × i8."""
    x = x.reshape(-1, 32)
    scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    scaled = x * inverse(scale)
    quants = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return np.concatenate([scale.astype("<f2").view(np.uint8), quants.view(np.uint8)], axis=1)


def to_q4_1(x):
    """Blocks of 32: f16 scale, f16 minimum, 16 bytes whose low halves are elements 0-15 and high halves 16-31."""
    x = x.reshape(-1, 32)
    low = x.min(axis=1, keepdims=True)
    scale = (x.max(axis=1, keepdims=True) - low) / np.float32(15)
    quants = np.minimum((x - low) * inverse(scale) + np.float32(0.5), 15).astype(np.uint8)
    packed = quants[:, :16] | (quants[:, 16:] << 4)
    return np.concatenate([scale.astype("<f2").view(np.uint8), low.astype("<f2").view(np.uint8), packed], axis=1)


@dataclass
class DType:
    hf: str  # in safetensors, absent for quantized types
    torch: str
    gguf: int
    file_type: int  # GGUF's general.file_type
    block: int
    block_bytes: int
    encode: object

    def bytes(self, shape):
        return math.prod(shape) // self.block * self.block_bytes


DTYPES = {
    "f32": DType("F32", "float32", 0, 0, 1, 4, lambda x: x.astype("<f4")),
    "f16": DType("F16", "float16", 1, 1, 1, 2, lambda x: x.astype("<f2")),
    "bf16": DType("BF16", "bfloat16", 30, 32, 1, 2, to_bf16),
    "q8_0": DType("", "", 8, 7, 32, 34, to_q8_0),
    "q4_1": DType("", "", 3, 3, 32, 20, to_q4_1),
}


# ---------------------------------------------------------------------------------------------------------- Hugging Face


def split(tensors, dtype, shards):
    """`shards` runs of consecutive tensors of about equal size."""
    if shards > len(tensors):
        raise Failure(f"--shards {shards}: the model has {len(tensors)} tensors only")
    total = sum(dtype.bytes(t.shape) for t in tensors)
    runs, done = [[]], 0
    for i, tensor in enumerate(tensors):
        left = shards - len(runs)
        if runs[-1] and left and (done * shards >= total * len(runs) or len(tensors) - i == left):
            runs.append([])
        runs[-1].append(tensor)
        done += dtype.bytes(tensor.shape)
    return runs


def write_repeated(file, dtype, seed, size):
    """`size` bytes of one block of random values, over and over: as fast as the file can be written."""
    part = np.random.default_rng(seed).standard_normal(CHUNK_ELEMENTS, dtype=np.float32) * np.float32(0.02)
    block = dtype.encode(part).tobytes()
    while size > 0:
        size -= file.write(block[: min(size, len(block))])


def write_safetensors(path, tensors, dtype, args):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for t in tensors:
        end = offset + dtype.bytes(t.shape)
        header[t.name] = {"dtype": dtype.hf, "shape": list(t.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if args.sparse:
            file.truncate(8 + len(text) + offset)
            return
        if args.repeat:
            return write_repeated(file, dtype, args.seed, offset)
        for t in tensors:
            for part in values(t, args.seed, permute=False):
                dtype.encode(part).tofile(file)


def write_hf(folder, model, dtype, args):
    tensors = list(model.tensors())
    runs = split(tensors, dtype, args.shards)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Failure(f"{folder}: not empty")
    config = dict(model.config, torch_dtype=dtype.torch)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weight_map = {}
    for i, run in enumerate(runs):
        name = f"model-{i + 1:05}-of-{len(runs):05}.safetensors" if args.shards > 1 else "model.safetensors"
        weight_map.update((t.name, name) for t in run)
        write_safetensors(folder / name, run, dtype, args)
    if args.shards > 1:
        total = sum(dtype.bytes(t.shape) for t in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


# ------------------------------------------------------------------------------------------------------------------ GGUF


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value):
    """Type and value. Python's int is a u32, or an array of i32; float an f32."""
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_string(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(gguf_string, value))
    code, letter = (6, "f") if isinstance(value[0], float) else (5, "i")
    return struct.pack(f"<IIQ{len(value)}{letter}", 9, code, len(value), *value)


def gguf_metadata(model, dtype, args):
    config, arch = model.config, model.arch
    rope = config.get("rope_scaling") or {}
    theta = config.get("rope_theta", (config.get("rope_parameters") or {}).get("rope_theta", 10000.0))
    yield "general.architecture", arch
    yield "general.name", args.shape
    yield "general.file_type", dtype.file_type
    yield f"{arch}.block_count", model.layers
    yield f"{arch}.context_length", model.size("max_position_embeddings")
    yield f"{arch}.embedding_length", model.hidden
    yield f"{arch}.feed_forward_length", model.ffn
    yield f"{arch}.attention.head_count", model.heads
    yield f"{arch}.attention.head_count_kv", model.kv_heads
    yield f"{arch}.attention.key_length", model.head_dim
    yield f"{arch}.attention.value_length", model.head_dim
    yield f"{arch}.attention.layer_norm_rms_epsilon", float(config.get("rms_norm_eps", 1e-6))
    yield f"{arch}.rope.dimension_count", model.head_dim
    yield f"{arch}.rope.freq_base", float(theta)
    yield f"{arch}.vocab_size", model.vocabulary
    if model.rope == "linear":
        yield f"{arch}.rope.scaling.type", "linear"
        yield f"{arch}.rope.scaling.factor", float(rope["factor"])
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        yield f"{arch}.attention.sliding_window", config["sliding_window"]
    if args.tokenizer:
        yield from gguf_tokenizer(model.vocabulary)


def gguf_tokenizer(vocabulary):
    """A sentencepiece vocabulary of the 256 bytes; the ids beyond are unused."""
    if vocabulary < 259:
        raise Failure(f"--tokenizer: vocab_size is {vocabulary}, expected at least 259 (3 control tokens and the bytes)")
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [2, 3, 3] + [6] * 256  # unknown, control, byte
    unused = vocabulary - len(tokens)
    yield "tokenizer.ggml.model", "llama"
    yield "tokenizer.ggml.pre", "default"
    yield "tokenizer.ggml.tokens", tokens + [f"<unused{i}>" for i in range(unused)]
    yield "tokenizer.ggml.scores", [0.0] * vocabulary
    yield "tokenizer.ggml.token_type", types + [5] * unused
    yield "tokenizer.ggml.unknown_token_id", 0
    yield "tokenizer.ggml.bos_token_id", 1
    yield "tokenizer.ggml.eos_token_id", 2
    yield "tokenizer.ggml.add_bos_token", True
    yield "tokenizer.ggml.add_space_prefix", False


def rope_factors(model):
    """Llama 3's scaling of the rotary frequencies, which GGUF stores as a tensor of divisors."""
    scaling = model.config["rope_scaling"]
    low, high, factor = (scaling[k] for k in ("low_freq_factor", "high_freq_factor", "factor"))
    context = scaling["original_max_position_embeddings"]
    pairs = np.arange(0, model.head_dim, 2, dtype=np.float64)
    turns = context * model.config["rope_theta"] ** (-pairs / model.head_dim) / (2 * math.pi)
    blend = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - blend) / factor + blend)).astype("<f4")


def write_gguf(path, model, dtype, args):
    if model.rope not in ("default", "linear", "llama3"):
        raise Failure(f"rope_scaling is of type {model.rope!r}, which GGUF output does not know")
    infos = []  # name, shape, type, function that writes the data
    if model.rope == "llama3":
        factors = rope_factors(model)
        infos.append(("rope_freqs.weight", factors.shape, DTYPES["f32"], factors.tofile))
    for t in model.tensors():
        kept = dtype if t.kind == "matrix" else DTYPES["f32"]  # vectors stay f32, as llama.cpp has them
        if t.shape[-1] % kept.block != 0:
            raise Failure(f"--dtype {args.dtype}: rows of {t.gguf} have {t.shape[-1]} elements, not a multiple of 32")

        def write(file, t=t, kept=kept):
            for part in values(t, args.seed, permute=model.arch == "llama"):
                kept.encode(part).tofile(file)

        infos.append((t.gguf, t.shape, kept, write))

    metadata = list(gguf_metadata(model, dtype, args))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(metadata))
    header += b"".join(gguf_string(key) + gguf_value(value) for key, value in metadata)
    offset = 0
    for name, shape, kind, _ in infos:
        header += gguf_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        header += struct.pack("<IQ", kind.gguf, offset)
        offset += kind.bytes(shape)
        offset += -offset % GGUF_ALIGNMENT
    header += bytes(-len(header) % GGUF_ALIGNMENT)
    with open(path, "xb") as file:
        file.write(header)
        if args.sparse:
            file.truncate(len(header) + offset)
            return
        for _, shape, kind, write in infos:
            write(file)
            file.write(bytes(-kind.bytes(shape) % GGUF_ALIGNMENT))


# ------------------------------------------------------------------------------------------------------------------ main


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(sorted(p.stem for p in SHAPES.glob("*.json")))
    parser.add_argument("shape", help=f"a config.json, a folder with one, or a known shape: {known}")
    parser.add_argument("out", type=Path, help="the folder (hf) or file (gguf) to make; nothing that exists is overwritten")
    parser.add_argument("--format", choices=("hf", "gguf"), default="hf", help="default: hf")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16", help="default: bf16; q8_0, q4_1: gguf only")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config")
    parser.add_argument("--shards", type=int, default=1, metavar="N", help="split into N files with an index (hf only)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--tokenizer", action="store_true", help="add a tokenizer of single bytes (gguf only)")
    parser.add_argument("--sparse", action="store_true", help="leave the data a hole of zeros that takes no disk space")
    parser.add_argument("--repeat", action="store_true", help="fill the data with one block of random values, over and over (hf only)")
    return parser.parse_args()


def main():
    args = parse_arguments()
    try:
        dtype = DTYPES[args.dtype]
        if args.format == "hf" and not dtype.hf:
            raise Failure(f"--dtype {args.dtype}: for --format gguf only")
        if args.format == "hf" and args.tokenizer:
            raise Failure("--tokenizer: for --format gguf only")
        if args.format == "gguf" and args.shards != 1:
            raise Failure("--shards: for --format hf only")
        if args.format != "hf" and args.repeat:
            raise Failure("--repeat: for --format hf only")
        if np is None and not (args.sparse and args.format == "hf"):
            raise Failure("needs numpy, but for --sparse: python3 -m pip install numpy")
        if args.shards < 1:
            raise Failure(f"--shards {args.shards}: expected at least 1")
        model = Model(read_config(args.shape, args.set))
        (write_gguf if args.format == "gguf" else write_hf)(args.out, model, dtype, args)
    except Failure as failure:
        sys.exit(f"make_checkpoint: {failure}")
    except OSError as error:
        sys.exit(f"make_checkpoint: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
