#!/usr/bin/env python3
"""Measured speed on this machine beside what distc simulate predicts: models x meshes, decode and prefill.

    bench/predict_cpu.py [--rounds N] [--build DIR]
    bench/predict_cpu.py --published     predictions beside gpt-fast's figures on A100 80 GB; needs no such machine

Each round takes every case in turn, and measures the machine (distrun bench-machine) right before it, so that other work on the machine
meets both alike. Of a case's runs the fastest counts, on the same ground; of the rounds the medians.
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
PROMPT, NEW = 256, 24


def shape(hidden, layers, heads, ffn, dtype):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads // 2, "vocab_size": 32000,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": dtype,
            "tie_word_embeddings": False}


MODELS = {
    "60M f32": shape(512, 8, 8, 1408, "float32"),
    "150M bf16": shape(768, 14, 12, 2048, "bfloat16"),
    "300M f32": shape(1024, 20, 16, 2816, "float32"),
}
CASES = [("60M f32", 1, 1), ("60M f32", 2, 1), ("150M bf16", 1, 1), ("150M bf16", 2, 1), ("150M bf16", 1, 2), ("300M f32", 1, 1),
         ("300M f32", 2, 1), ("300M f32", 1, 2)]

# https://github.com/pytorch-labs/gpt-fast, tensor parallelism on A100 80 GB, bf16, batch 1: tokens/s of decode.
PUBLISHED = [("llama-2-7b", {1: 104.9, 2: 168.8, 4: 254.0, 8: 328.4}), ("llama-2-70b", {2: 21.3, 4: 38.0, 8: 62.5})]


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def compare(build, rounds, work):
    distc, distrun = build / "bin" / "distc", build / "bin" / "distrun"
    plans = {}
    for name, tp, pp in CASES:
        model = work / name.replace(" ", "-")
        model.mkdir(exist_ok=True)
        (model / "config.json").write_text(json.dumps(MODELS[name]))
        plans[name, tp, pp] = work / f"{model.name}.tp{tp}pp{pp}"
        run(distc, "compile", model, "--weights", "none", "--tp", tp, "--pp", pp, "--max-batch", 1, "--max-seq", 512, "-o", plans[name, tp, pp])
    tokens = ["--batch", 1, "--prompt-tokens", PROMPT, "--new-tokens", NEW, "--json"]
    measured, predicted = {case: [] for case in CASES}, {case: [] for case in CASES}
    machine = work / "machine.json"
    for _ in range(rounds):
        for case in CASES:
            run(distrun, "bench-machine", "--repeat", 1, "-o", machine)
            bench = json.loads(run(distrun, "bench", plans[case], "--random-weights", 1, "--repeat", 8, *tokens))
            measured[case].append((bench["decode_ms_per_step"]["min"], bench["prefill_tok_s"]["max"]))
            model = json.loads(run(distc, "simulate", plans[case], "--machine", machine, *tokens))
            predicted[case].append((model["decode_ms_per_step"], model["prefill_tok_s"]))
    print(f"{PROMPT} prompt tokens, {NEW} new ones, batch 1, {rounds} rounds")
    print(f"{'model':10} {'tp':>2} {'pp':>2} {'decode ms':>10} {'predicted':>10} {'off':>6} {'prefill tok/s':>14} {'predicted':>10} {'off':>6}")
    worst = 0
    for case in CASES:
        row = []
        for i in range(2):
            real, model = (median(pair[i] for pair in pairs[case]) for pairs in (measured, predicted))
            row += [real, model, model / real - 1]
            worst = max(worst, abs(row[-1]))
        print("{:10} {:2} {:2} {:10.2f} {:10.2f} {:+6.1%} {:14.0f} {:10.0f} {:+6.1%}".format(*case, *row))
    print(f"worst {worst:.1%}")


def published(build, work):
    distc = build / "bin" / "distc"
    print(f"{'model':12} {'tp':>2} {'published tok/s':>16} {'predicted':>10} {'off':>6}")
    for model, figures in PUBLISHED:
        for tp, real in figures.items():
            run(distc, "compile", model, "--weights", "none", "--target", "sm_90", "--sms", 108, "--tp", tp, "--max-batch", 1, "-o", work / "plans")
            out = json.loads(run(distc, "simulate", work / "plans", "--machine", "a100-80gb-sxm", "--prompt-tokens", 8, "--new-tokens", 200, "--json"))
            print(f"{model:12} {tp:2} {real:16.1f} {out['decode_tok_s']:10.1f} {out['decode_tok_s'] / real - 1:+6.0%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--published", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.published:
            published(options.build, Path(folder))
        else:
            compare(options.build, options.rounds, Path(folder))


if __name__ == "__main__":
    main()
