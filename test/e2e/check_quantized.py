#!/usr/bin/env python3
"""GGUF files whose matrices are of each quantized type give the logits of a Hugging Face folder of the dequantized values.

The blocks are random. In the first model the matrices that are split by columns are of each type in turn, in the second those that are
split by rows, and the embedding. Blocks stay in memory as they are, so the plans' weights are as small; a degree that would cut them is refused.
"""
import json
import random
import subprocess
from array import array

from blocks import FORMATS, dequantize, random_blocks, row_bytes
from checkpoints import write_gguf, write_safetensors
from end_to_end import Check, relative_error

check = Check(__doc__)
work = check.folder / "quantized"
work.mkdir(parents=True, exist_ok=True)
rng = random.Random(7)
SMALL = [name for name, form in FORMATS.items() if form[1] == 32]
LARGE = [name for name, form in FORMATS.items() if form[1] == 256]
HEADS, KV_HEADS, VOCABULARY = 16, 4, 300


def interleave(raw, heads, head_dim):
    """Rows of q or k from Hugging Face's order of a head (two halves) to that of GGUF for Llama (pairs)."""
    size, half = len(raw) // (heads * head_dim), head_dim // 2
    order = [head * head_dim + i // 2 + i % 2 * half for head in range(heads) for i in range(head_dim)]
    return b"".join(raw[row * size : row * size + size] for row in order)


def make(name, layers, hidden, head_dim, intermediate, type_of, tied):
    """A folder and a GGUF file; returns them with the bytes of the file's matrices."""
    folder, gguf = work / name, work / f"{name}.gguf"
    if not check.compiles:
        return folder, gguf
    q, kv = HEADS * head_dim, KV_HEADS * head_dim
    shapes = {"self_attn.q_proj": ("attn_q", q, hidden), "self_attn.k_proj": ("attn_k", kv, hidden),
              "self_attn.v_proj": ("attn_v", kv, hidden), "self_attn.o_proj": ("attn_output", hidden, q),
              "mlp.gate_proj": ("ffn_gate", intermediate, hidden), "mlp.up_proj": ("ffn_up", intermediate, hidden),
              "mlp.down_proj": ("ffn_down", hidden, intermediate)}
    header, data, tensors = {}, bytearray(), []

    def add(hf, name, shape, values, dtype, raw):
        header[hf] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * len(values)]}
        data.extend(values.tobytes())
        tensors.append((name, dtype, shape, raw))

    def matrix(hf, name, rows, columns, dtype, scale):
        raw = random_blocks(rng, dtype, rows * columns // FORMATS[dtype][1], scale)
        assert len(raw) == rows * row_bytes(dtype, columns)
        values = dequantize(raw, dtype)
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            raw = interleave(raw, rows // head_dim, head_dim)
        add(hf, name, [rows, columns], values, dtype, raw)

    def norm(hf, name):
        values = array("f", [rng.uniform(0.5, 1.5) for _ in range(hidden)])
        add(hf, name, [hidden], values, "F32", values.tobytes())

    matrix("model.embed_tokens.weight", "token_embd.weight", VOCABULARY, hidden, type_of(0, "embed"), 1)
    for layer in range(layers):
        norm(f"model.layers.{layer}.input_layernorm.weight", f"blk.{layer}.attn_norm.weight")
        norm(f"model.layers.{layer}.post_attention_layernorm.weight", f"blk.{layer}.ffn_norm.weight")
        for hf, (short, rows, columns) in shapes.items():
            matrix(f"model.layers.{layer}.{hf}.weight", f"blk.{layer}.{short}.weight", rows, columns,
                   type_of(layer, short), columns**-0.5)
    norm("model.norm.weight", "output_norm.weight")
    if not tied:
        matrix("lm_head.weight", "output.weight", VOCABULARY, hidden, type_of(layers, "head"), 0.3)
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "model.safetensors", header, bytes(data))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": head_dim,
        "intermediate_size": intermediate, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 512, "hidden_act": "silu", "tie_word_embeddings": tied, "torch_dtype": "float32"}))
    write_gguf(gguf, {
        "general.architecture": "llama", "llama.embedding_length": hidden, "llama.block_count": layers,
        "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.key_length": head_dim, "llama.feed_forward_length": intermediate, "llama.context_length": 512,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000.0}, tensors)
    return folder, gguf


def weight_bytes(plans):
    total = 0
    for plan in sorted(plans.glob("rank*.plan")):
        shown = json.loads(subprocess.run(["distc", "inspect", plan, "--json"], check=True, capture_output=True).stdout)
        total += sum(shown["ledger"].get(f"weights_{kind}", 0) for kind in ("loaded", "mapped"))
    return total


ids = [i * 37 % VOCABULARY for i in range(40)]
models = {
    # Each of the ten types is down or o in some layer: 1024 columns, 256 on each of four ranks.
    "columns": make("columns", 5, 64, 64, 1024, lambda layer, name: (SMALL + LARGE)[2 * layer + (name == "ffn_down")]
                    if name in ("ffn_down", "attn_output") else SMALL[(layer + len(name)) % 5], False),
    "rows": make("rows", 2, 256, 16, 256, lambda layer, name: "Q8_0" if name in ("ffn_down", "attn_output") else
                 "Q6_K" if name == "embed" else LARGE[(3 * layer + "qkvgu".find(name[-1])) % 5], True),
}
for name, (folder, gguf) in models.items():
    plain = check.plans(f"{name}.hf", folder, "1x1")
    reference = check.logits(plain, ids)[1] if check.runs else None
    greedy = lambda plans: check.distrun("generate", plans, "--tokens", "1,2,3", "--max-new-tokens", "24", "--ignore-eos",
                                         "--print-ids")
    for mesh in ("1x1", "2x1", "4x1", "2x2"):
        plans = check.plans(f"{name}.gguf", gguf, mesh)
        if check.compiles and check.options.target == "cpu" and mesh == "1x1":
            ratio = weight_bytes(plans) / weight_bytes(plain)
            print(f"{name}: weights are {ratio:.2f} of those in F32", flush=True)
            assert ratio < 0.3, ratio
        if check.runs:
            error = relative_error(check.logits(plans, ids)[1], reference)
            print(f"{name} {mesh}: relative error {error:.2e}", flush=True)
            assert error <= check.golden_bound, (name, mesh, error)
            if check.options.target == "cpu":
                assert greedy(plans) == greedy(plain), (name, mesh)

if check.compiles and check.options.target == "cpu":
    refused = subprocess.run(["distc", "compile", models["columns"][1], "--tp", "8", "-o", work / "refused"],
                             capture_output=True, text=True, check=False)
    print(refused.stderr)
    assert refused.returncode == 1 and "--tp 8 would cut its blocks of 256 elements" in refused.stderr
    assert "the degrees that work are --tp 1, 2, 4\n" in refused.stderr, refused.stderr
