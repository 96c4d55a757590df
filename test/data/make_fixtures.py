#!/usr/bin/env python3
"""Makes the tiny checkpoints under fixtures/ with what Hugging Face transformers computes from them.

    pip install torch transformers
    python3 test/data/make_fixtures.py NAME…      (without names: all that are missing)

A checkpoint of random weights is saved and read again from its files in float64: casting a live model would round its
rope frequencies too. golden.safetensors then holds two rows of input_ids, their logits, what follows greedily the first
16 of them, and the margin between the two likeliest tokens at each of these steps, or of the choice of experts where
that is smaller. The cache of transformers is not used.
"""
import json
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

FIXTURES = Path(__file__).parent / "fixtures"
ROWS, LENGTH, PROMPT, NEW = 2, 32, 16, 24

# What most families have in common. head_dim is not hidden_size / heads on purpose.
SMALL = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def rope(kind, **values):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **values}}


def longrope(pairs, original):
    """Factors that grow with the wavelength, as those of Phi-3 do."""
    return {
        "original_max_position_embeddings": original,
        **rope("longrope", short_factor=[1 + 0.1 * i for i in range(pairs)], long_factor=[1.5 + i for i in range(pairs)]),
    }


# name: model type, type of the weights, configuration; "shards" splits the file, "dialect": "old" writes config.json as
# transformers 4 did, "oldest" with the kind of rope scaling as `type`; "without" leaves out what SMALL has, "greedy":
# False the continuation, where transformers changes the angles of a sequence while it grows.
FAMILIES = {
    "qwen3": ("qwen3", "bfloat16", {}),
    # A window that 32 tokens exceed, in the last two of three layers.
    "qwen2-window": ("qwen2", "bfloat16", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "dialect": "old"}),
    # Layers 1 and 3 of four do not rotate, and see 8 positions.
    "smollm3": ("smollm3", "float16", {
        "num_hidden_layers": 4, "no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 8,
        "tie_word_embeddings": True}),
    "granite": ("granite", "bfloat16", {
        "embedding_multiplier": 6.0, "attention_multiplier": 0.2, "residual_multiplier": 0.3, "logits_scaling": 1.7,
        "shards": "200KB"}),
    # The square root of 128 is no number of few bits. One KV head, as the smaller Gemma has.
    "gemma": ("gemma", "bfloat16", {
        "hidden_size": 128, "intermediate_size": 64, "num_key_value_heads": 1, "tie_word_embeddings": True,
        "dialect": "old"}),
    # Caps of a size that scores and logits have.
    "gemma2": ("gemma2", "bfloat16", {
        "hidden_size": 128, "intermediate_size": 64, "tie_word_embeddings": True, "sliding_window": 8,
        "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    # Three heads for keys: on two and four ranks they are repeated, on eight repeated and padded.
    "olmo2": ("olmo2", "bfloat16", {
        "hidden_size": 96, "num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 8}),
    "llama-bias": ("llama", "bfloat16", {"attention_bias": True, "mlp_bias": True}),
    "mistral-window": ("mistral", "bfloat16", {"sliding_window": 8}),
    "rope-linear": ("llama", "bfloat16", {**rope("linear", factor=4.0), "dialect": "oldest"}),
    "rope-dynamic": ("llama", "bfloat16", {**rope("dynamic", factor=2.0), "max_position_embeddings": 16, "greedy": False}),
    "rope-yarn": ("llama", "bfloat16", rope("yarn", factor=4.0, original_max_position_embeddings=128)),
    "rope-yarn-mscale": ("qwen2", "bfloat16", {
        **rope("yarn", factor=8.0, original_max_position_embeddings=64, beta_fast=24.0, beta_slow=2.0, mscale=0.7,
               mscale_all_dim=0.3, truncate=False), "dialect": "old"}),
    "phi3": ("phi3", "bfloat16", {
        **longrope(8, 15), "sliding_window": 8, "num_attention_heads": 4, "without": ["head_dim"]}),
    "phi4": ("phi3", "bfloat16", {
        **longrope(6, 256), "partial_rotary_factor": 0.75, "tie_word_embeddings": True, "num_attention_heads": 4,
        "without": ["head_dim"]}),
    "gpt2": ("gpt2", "float32", {
        "vocab_size": 251, "n_positions": 48, "activation_function": "gelu_new",
        "without": ["intermediate_size", "num_key_value_heads", "head_dim", "max_position_embeddings",
                    "tie_word_embeddings"]}),
    "mixtral": ("mixtral", "bfloat16", {
        "num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 66, "router_jitter_noise": 0.0,
    }),
    # Experts of whole tiles, as decode stages of a GPU want them.
    "mixtral-even": ("mixtral", "bfloat16", {
        "num_hidden_layers": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 128,
        "router_jitter_noise": 0.0,
    }),
    "qwen3-moe": ("qwen3_moe", "bfloat16", {
        "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 42, "attention_bias": True, "norm_topk_prob": True,
    }),
}


def randomize(model, name):
    """Weights of a size that gives attention and logits something to tell apart; norms and biases that matter."""
    random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            value = torch.randn(parameter.shape, generator=random)
            if parameter.dim() > 1:  # also of stacked experts: the last dimension is summed over
                value *= 1.5 * parameter.shape[-1] ** -0.5
            elif key.endswith("bias"):
                value *= 0.1
            else:  # a norm's: around what it was made with, 1, or 0 where 1 is added
                value = parameter.float() + 0.1 * value
            parameter.copy_(value)


def to_old_dialect(path, oldest):
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters", None) or {}
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
    if oldest and "rope_type" in rope:
        rope["type"] = rope.pop("rope_type")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    config["rope_scaling"] = rope if rope.get("rope_type", rope.get("type", "default")) != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.40.0"
    path.write_text(json.dumps(config, indent=2) + "\n")


def routing_gaps(routers):
    """What a forward pass fills: by router, how far the last expert that a token goes to is ahead of the next one."""
    gaps = []

    def note(router, _, output):
        top = output[0].topk(router.top_k + 1).values
        gaps.append(top[:, -2] - top[:, -1])

    for router in routers:
        router.register_forward_hook(note)
    return gaps


def smallest(gaps, rows):
    """By row of the batch; empties the list."""
    least = torch.stack(gaps).amin(dim=0).view(rows, -1).amin(dim=1)
    gaps.clear()
    return least


def load(folder, dtype):
    return AutoModelForCausalLM.from_pretrained(  # eager experts: the grouped product takes no float64
        folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager").eval()


def rounded_error(folder, ids, logits):
    """How far transformers is from these logits in the type that a GPU has: the checkpoint's, or bfloat16."""
    dtype = torch.float16 if load(folder, "auto").dtype == torch.float16 else torch.bfloat16
    with torch.no_grad():
        rounded = load(folder, dtype)(ids, use_cache=False).logits.double()
    return f"{(rounded - logits).norm() / logits.norm():.2e}"


def golden(folder, name, greedy):
    model = load(folder, torch.float64)
    random = torch.Generator().manual_seed(zlib.crc32(name.encode()) + 1)
    routers = [module for module in model.modules() if type(module).__name__.endswith("TopKRouter")]
    gaps = routing_gaps(routers)
    ids = torch.randint(3, model.config.vocab_size, (2000 if routers else ROWS, LENGTH), generator=random)
    with torch.no_grad():
        if routers:  # another rounding must not choose other experts
            model(ids, use_cache=False)
            best = smallest(gaps, len(ids)).topk(ROWS)
            ids = ids[best.indices]
            print(f"{name}: experts are chosen by at least {best.values.min():.2f}")
        logits = model(ids, use_cache=False).logits
        gaps.clear()
        sequence, margins = ids[:, :PROMPT], []
        for _ in range(NEW if greedy else 0):
            best = model(sequence, use_cache=False).logits[:, -1].topk(2)
            margins.append(best.values[:, 0] - best.values[:, 1])
            if gaps:
                margins[-1] = torch.minimum(margins[-1], smallest(gaps, ROWS))
            sequence = torch.cat([sequence, best.indices[:, :1]], dim=1)
    tensors = {"input_ids": ids, "logits": logits.float().contiguous()}
    if greedy:
        tensors["generated"] = sequence[:, PROMPT:].contiguous()
        tensors["margin"] = torch.stack(margins, dim=1).float().contiguous()
    save_file(tensors, folder / "golden.safetensors", metadata={"rounded_error": rounded_error(folder, ids, logits)})
    margin = f", smallest margin {min(m.min() for m in margins):.1e}" if greedy else ""
    print(f"{name}: logits of size {logits.std():.2f}{margin}")


def make(name):
    kind, dtype, changes = FAMILIES[name]
    changes = dict(changes)
    shards, dialect = changes.pop("shards", None), changes.pop("dialect", "new")
    greedy, without = changes.pop("greedy", True), changes.pop("without", [])
    small = {key: value for key, value in SMALL.items() if key not in without}
    config = AutoConfig.for_model(kind, **{**small, **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomize(model, name)
    folder = FIXTURES / name
    model.to(getattr(torch, dtype)).save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))
    if dialect != "new":
        to_old_dialect(folder / "config.json", dialect == "oldest")
    golden(folder, name, greedy)


for wanted in sys.argv[1:] or [name for name in FAMILIES if not (FIXTURES / name).exists()]:
    make(wanted)
