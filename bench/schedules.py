#!/usr/bin/env python3
"""What schedules bring on this machine, beside what distc simulate predicts: micro-batches in a pipeline of two stages, chunks that
hide all-reduces over a slow link, micro-batches in decode.

    bench/schedules.py [--rounds N] [--build DIR] [pipeline|overlap|decode ...]

Variants are measured in turns, so that other work on the machine meets all alike; figures are medians of the rounds.
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
MODEL = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8,
         "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
         "max_position_embeddings": 2048, "torch_dtype": "float32", "tie_word_embeddings": False, "hidden_act": "silu"}


class Bench:
    def __init__(self, build, rounds, work):
        self.distc, self.distrun, self.rounds, self.work = build / "bin" / "distc", build / "bin" / "distrun", rounds, work
        (work / "model").mkdir()
        (work / "model" / "config.json").write_text(json.dumps(MODEL))
        self.machine = work / "machine.json"
        self.run(self.distrun, "bench-machine", "-o", self.machine)

    def run(self, *command):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
        return done.stdout

    def plans(self, name, *flags):
        out = self.work / name
        self.run(self.distc, "compile", self.work / "model", "--weights", "none", "-o", out, *flags)
        return out

    def bench(self, plans, batch, prompt, new, *flags):
        return json.loads(self.run(self.distrun, "bench", plans, "--random-weights", 1, "--batch", batch, "--prompt-tokens", prompt,
                                   "--new-tokens", new, "--repeat", 3, "--threads-per-rank", 1, "--json", *flags))

    def simulate(self, plans, batch, prompt, new, machine=None):
        return json.loads(self.run(self.distc, "simulate", plans, "--machine", machine or self.machine, "--batch", batch, "--prompt-tokens",
                                   prompt, "--new-tokens", new, "--json"))

    def bubble(self, plans, batch, prompt):
        """The share of a prefill step in which the compute queues of the ranks are idle, from a trace; the median of three."""
        trace = self.work / "trace.json"
        self.run(self.distrun, "bench", plans, "--random-weights", 1, "--batch", batch, "--prompt-tokens", prompt, "--new-tokens", 1,
                 "--repeat", 3, "--threads-per-rank", 1, "--trace", trace)
        events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
        ranks = 1 + max(e["pid"] for e in events)
        shares = []
        for run in range(1, 4):
            steps = []
            for rank in range(ranks):
                mine = sorted((e for e in events if e["pid"] == rank), key=lambda e: e["ts"])
                steps.append(mine[len(mine) * run // 4 : len(mine) * (run + 1) // 4])
            begin = min(e["ts"] for step in steps for e in step)
            end = max(e["ts"] + e["dur"] for step in steps for e in step)
            busy = sum(e["dur"] for step in steps for e in step if e["tid"] % 2 == 0)
            shares.append(1 - busy / (end - begin) / ranks)
        return median(shares)


def pipeline(b):
    counts, batch, prompt = [1, 2, 4, 8], 8, 256
    plans = {m: b.plans(f"pipe{m}", "--pp", 2, "--max-batch", batch, "--max-tokens", batch * prompt, "--max-seq", prompt + 8, "--micro-batches", m)
             for m in counts}
    speed = {m: [] for m in counts}
    for _ in range(b.rounds):
        for m in counts:
            speed[m].append(b.bench(plans[m], batch, prompt, 1)["prefill_tok_s"]["median"])
    print(f"pipeline of 2 stages on 2 cores, prefill of {batch} prompts of {prompt} tokens")
    print("micro-batches    tok/s  predicted  over one  bubble  1/(m+1)  simulated")
    for m in counts:
        real, model = median(speed[m]), b.simulate(plans[m], batch, prompt, 1)
        print(f"{m:13} {real:8.0f} {model['prefill_tok_s']:10.0f} {real / median(speed[1]):9.2f} {b.bubble(plans[m], batch, prompt):7.1%} "
              f"{1 / (m + 1):8.1%} {model['bubble']:10.1%}")


def overlap(b):
    counts, prompt, hidden = [1, 2, 4, 8], 512, MODEL["hidden_size"]
    plans = {c: b.plans(f"over{c}", "--tp", 2, "--max-batch", 1, "--max-tokens", prompt, "--max-seq", prompt + 8, "--overlap-chunks", c) for c in counts}
    trace = b.work / "trace.json"
    b.run(b.distrun, "bench", plans[1], "--random-weights", 1, "--batch", 1, "--prompt-tokens", prompt, "--new-tokens", 1, "--threads-per-rank", 1,
          "--trace", trace)
    linears = [e["dur"] for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X" and e["name"] == "Linear"
               and e["args"]["label"].split(".")[-1] in ("o", "down")]
    linear = sum(linears) / len(linears) * 1e-6
    link = hidden * prompt * 4 / linear / 1e9  # of two members each passes on as much as it has
    slow = json.loads(b.machine.read_text())
    for tier in slow["links"]:
        tier["gb_per_s"], tier["share"] = link, 1
    (b.work / "slow.json").write_text(json.dumps(slow))
    seconds = {(c, kind): [] for c in counts for kind in ("fast", "slow")}
    for _ in range(b.rounds):
        for c in counts:
            for kind, flags in (("fast", []), ("slow", ["--link-bandwidth", f"{link:.6g}"])):
                seconds[c, kind].append(prompt / b.bench(plans[c], 1, prompt, 1, *flags)["prefill_tok_s"]["median"])
    print(f"\ntp 2 on 2 cores, prefill of {prompt} tokens; a link of {link:.3f} GB/s, over which an all-reduce takes {linear * 1e3:.2f} ms as its linear does")
    print("chunks  fast ms  slow ms  predicted    off  exposed ms  of that with 1")
    base = median(seconds[1, "fast"])
    for c in counts:
        fast, real = median(seconds[c, "fast"]), median(seconds[c, "slow"])
        model = b.simulate(plans[c], 1, prompt, 1, b.work / "slow.json")["first_token_ms"] / 1e3
        exposed, whole = real - base, median(seconds[1, "slow"]) - base
        print(f"{c:6} {fast * 1e3:8.1f} {real * 1e3:8.1f} {model * 1e3:10.1f} {model / real - 1:+6.1%} {exposed * 1e3:11.1f} {exposed / whole:15.2f}")


def decode(b):
    prompt, new = 16, 12
    print("\npipeline of 2 stages on 2 cores, decode in 1 or 2 micro-batches")
    print("batch   ms in 1   ms in 2  faster   predicted 1   predicted 2  faster")
    for batch in (2, 4, 8, 16, 32, 64):
        plans = {m: b.plans(f"decode{m}", "--pp", 2, "--max-batch", batch, "--max-tokens", max(256, batch), "--max-seq", 64, "--decode-micro-batches", m)
                 for m in (1, 2)}
        real = {m: [] for m in plans}
        for _ in range(b.rounds):
            for m in plans:
                real[m].append(b.bench(plans[m], batch, prompt, new)["decode_ms_per_step"]["median"])
        real = {m: median(times) for m, times in real.items()}
        model = {m: b.simulate(plans[m], batch, prompt, new)["decode_ms_per_step"] for m in plans}
        best = lambda times: 1 if times[1] <= times[2] else 2
        print(f"{batch:5} {real[1]:9.3f} {real[2]:9.3f} {best(real):7} {model[1]:13.3f} {model[2]:13.3f} {best(model):7}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="pipeline, overlap, decode (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    options = parser.parse_args()
    parts = {"pipeline": pipeline, "overlap": overlap, "decode": decode}
    if unknown := set(options.parts) - set(parts):
        parser.error(f"unknown part {', '.join(unknown)}; expected {', '.join(parts)}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.build, options.rounds, Path(folder))
        for name, part in parts.items():
            if not options.parts or name in options.parts:
                part(bench)


if __name__ == "__main__":
    main()
