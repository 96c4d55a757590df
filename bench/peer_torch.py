#!/usr/bin/env python3
"""What PyTorch makes of the same shapes on this GPU, beside distrun bench: a decoder of bf16 weights, its layer through torch.compile, the
whole step captured in a CUDA graph; decode of one token after a context, prefill of a prompt with flash attention.

    bench/peer_torch.py [SHAPE...]     names of models/shapes (default: llama-3-8b llama-3-1b)

Random weights. Prints a line for each figure: milliseconds a step, medians of 30, and GB/s of weights and cache or tok/s.
"""
import json
import sys
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
CONTEXTS, PROMPTS = (512, 8192), (512, 2048)


class Layer(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        hidden, self.heads, self.kv = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
        self.dim = c.get("head_dim") or hidden // self.heads
        linear = lambda a, b: torch.nn.Linear(a, b, bias=False)
        self.qkv = linear(hidden, (self.heads + 2 * self.kv) * self.dim)
        self.o = linear(self.heads * self.dim, hidden)
        self.gate_up = linear(hidden, 2 * c["intermediate_size"])
        self.down = linear(c["intermediate_size"], hidden)
        self.norms = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(hidden)) for _ in range(2)])
        self.eps = c.get("rms_norm_eps", 1e-5)

    def rotate(self, x, cos, sin):
        a, b = x.float().chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)

    def forward(self, x, cos, sin, keys, values, position, mask):
        tokens = x.shape[0]
        n = F.rms_norm(x, x.shape[-1:], self.norms[0], self.eps)
        q, k, v = self.qkv(n).view(tokens, -1, self.dim).split([self.heads, self.kv, self.kv], 1)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        keys.index_copy_(1, position, k.transpose(0, 1))
        values.index_copy_(1, position, v.transpose(0, 1))
        whole = mask is None  # a prompt attends to itself
        k, v = (k.transpose(0, 1), v.transpose(0, 1)) if whole else (keys, values)
        a = F.scaled_dot_product_attention(q.transpose(0, 1)[None], k[None], v[None], attn_mask=mask, is_causal=whole, enable_gqa=True)
        x = x + self.o(a[0].transpose(0, 1).reshape(tokens, -1))
        gate, up = self.gate_up(F.rms_norm(x, x.shape[-1:], self.norms[1], self.eps)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def timed(step):
    """Milliseconds of a step that is replayed from a graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    times = []
    for _ in range(30):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return median(times)


def measure(name):
    c = json.loads((ROOT / "models" / "shapes" / f"{name}.json").read_text())
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"), torch.inference_mode():
        layers = [Layer(c) for _ in range(c["num_hidden_layers"])]
        embedding = torch.randn(c["vocab_size"], c["hidden_size"])
        head = embedding if c.get("tie_word_embeddings") else torch.randn_like(embedding)
        kv, dim = layers[0].kv, layers[0].dim
        angles = torch.arange(max(CONTEXTS) + 1, dtype=torch.float)[:, None] * 500000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float) / dim)
        one = torch.compile(Layer.forward, dynamic=False)

        def step(caches, ids, position, mask):
            x = embedding[ids]
            cos, sin = angles[position].cos()[:, None], angles[position].sin()[:, None]
            for layer, (keys, values) in zip(layers, caches):
                x = one(layer, x, cos, sin, keys, values, position, mask)
            return (F.rms_norm(x[-1:], x.shape[-1:]) @ head.T).argmax(-1)

        weights = sum(p.numel() for layer in layers for p in layer.parameters()) * 2 + head.numel() * 2

        def decode(context):
            length = context + 64
            caches = [(torch.zeros(kv, length, dim), torch.zeros(kv, length, dim)) for _ in layers]
            ids, position = torch.zeros(1, dtype=torch.long), torch.full((1,), context, dtype=torch.long)
            mask = (torch.arange(length) <= context)[None, None, None]
            ms = timed(lambda: step(caches, ids, position, mask))
            read = weights + len(layers) * 2 * kv * context * dim * 2
            print(f"{name} decode, context {context}: {ms:.3f} ms, {read / ms / 1e6:.0f} GB/s", flush=True)

        def prefill(prompt):
            caches = [(torch.zeros(kv, prompt, dim), torch.zeros(kv, prompt, dim)) for _ in layers]
            ids, position = torch.zeros(prompt, dtype=torch.long), torch.arange(prompt)
            ms = timed(lambda: step(caches, ids, position, None))
            print(f"{name} prefill, {prompt} tokens: {ms:.2f} ms, {prompt / ms * 1e3:.0f} tok/s", flush=True)

        # What matters most comes first: each figure takes a compilation.
        for context, prompt in zip(CONTEXTS, PROMPTS):
            decode(context)
            prefill(prompt)


for shape in sys.argv[1:] or ["llama-3-8b", "llama-3-1b"]:
    measure(shape)
    torch.compiler.reset()
