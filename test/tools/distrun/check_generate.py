#!/usr/bin/env python3
"""usage: check_generate.py DATA FOLDER ; what distrun generate promises, on stories260K and several meshes."""
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

from tool import refused, run, succeeds

data, work = Path(sys.argv[1]), Path(sys.argv[2])
gguf = data / "stories260K" / "stories260K-f32.gguf"
seed = int(os.environ.get("DISTC_TEST_SEED") or random.randrange(1 << 32))
print(f"DISTC_TEST_SEED={seed}")
rand = random.Random(seed)
MESHES = ["1x1", "2x1", "4x1", "3x1", "1x2", "2x2"]  # tp x pp; 3 divides neither heads nor vocabulary
for mesh in MESHES:
    tp, pp = mesh.split("x")
    succeeds("distc", "compile", gguf, "--tp", tp, "--pp", pp, "--max-tokens", 16, "-o", work / mesh)


def generate(*flags, mesh="1x1"):
    """stdout, of which nothing but new text may be part; stderr says how fast it was."""
    done = succeeds("distrun", "generate", work / mesh, *flags)
    assert re.search(r"prefill \d+ tokens, [\d.]+ tok/s; decode \d+ tokens, [\d.]+ tok/s, [\d.]+ GB/s\n$", done.err), done.err
    return done.out


def ids(*flags, mesh="1x1"):
    out = generate("--print-ids", *flags, mesh=mesh)
    assert re.fullmatch(r"(\d+( \d+)*\n)+", out), out
    return out.split()


prompt = ["--prompt", "Once upon a time"]
text = generate(*prompt, "--max-new-tokens", 100)
assert text.endswith("\n") and not text.startswith("Once"), text
text = text[:-1]

# --stop: what stands before it is printed, the stop is not, though it begins and ends inside of tokens.
for _ in range(8):
    at = rand.randrange(len(text) - 9)
    stops = [text[at : at + rand.randint(1, 9)], text[rand.randrange(len(text) - 5) :][:5], "never said"]
    flags = [word for stop in stops for word in ("--stop", stop)]
    _, first = min((text.index(stop) + len(stop), text.index(stop)) for stop in stops[:2])
    out = generate(*prompt, "--max-new-tokens", 100, *flags)
    expected = text[:first]
    assert out == expected + ("" if expected.endswith("\n") else "\n"), (stops, out, expected)
assert generate(*prompt, "--max-new-tokens", 100, "--stop", "never said") == text + "\n"

# Ids: of the same tokens; a prompt of ids goes on where the text was; threads do not matter.
tokens = ids(*prompt, "--max-new-tokens", 40)
assert len(tokens) == 40
whole = ids(*prompt, "--max-new-tokens", 40, "--threads-per-rank", 3)
assert whole == tokens
start = ids(*prompt, "--max-new-tokens", 1)
assert start == tokens[:1]
given = ["--tokens", "1,403,407,261,378"]  # "<s> Once upon a time"
assert ids(*given, "--max-new-tokens", 40) == tokens
assert generate(*given, "--max-new-tokens", 100) == text + "\n"
rest = ["--tokens", given[1] + "," + ",".join(tokens[:25])]
assert ids(*rest, "--max-new-tokens", 15) == tokens[25:]

# Sampling: the same seed the same text on every mesh, another seed another; limits that leave one token are greedy. The
# seeds are fixed: meshes differ in the last bits of the logits, so that one seed in many thousands does meet a tie.
sampled = [*prompt, "--max-new-tokens", 60, "--temperature", 0.9]
by_seed = {}
for number in (0, 1, 1 << 63):
    for extra in ([], ["--top-p", 0.8, "--top-k", 40]):
        flags = [*sampled, *extra, "--seed", number]
        out = by_seed[number, len(extra)] = generate(*flags)
        for mesh in MESHES[1:]:
            assert generate(*flags, mesh=mesh) == out, (mesh, flags)
assert len(set(by_seed.values())) == len(by_seed)
assert generate(*sampled, "--top-k", 1) == generate(*sampled, "--top-p", 1e-9) == generate(*prompt, "--max-new-tokens", 60)

# Several prompts, longer than a step together, are one ragged batch with the answers of each alone.
lines = ["Once upon a time", "The cat", "Lily and Ben went to the park to play with a big red ball and a dog", "One day"]
file = work / "prompts"
file.write_text("\r\n".join(lines) + "\n\n")
for mesh in MESHES:
    flags = ["--print-ids", "--max-new-tokens", 30]
    alone = [generate("--prompt", line, *flags, mesh=mesh) for line in lines]
    assert generate("--prompts", file, *flags, mesh=mesh) == "".join(alone), mesh
assert generate("--prompts", file, "--max-new-tokens", 5) == "---\n".join(
    generate("--prompt", line, "--max-new-tokens", 5) for line in lines)

# The end of the context is an end, and said; of the model's own end, --ignore-eos makes nothing.
done = succeeds("distrun", "generate", work / "2x1", *prompt, "--print-ids", "--ignore-eos", "--max-new-tokens", 1000000)
assert len(done.out.split()) == 512 - 5 + 1, len(done.out.split())
assert done.err.startswith("distrun: an answer ends at the 512 tokens of one sequence that the plan holds; "), done.err
ended = work / "ended.gguf"  # the same model, for which a token that it will say is the end
raw = gguf.read_bytes()
key = b"tokenizer.ggml.eos_token_id" + (4).to_bytes(4, "little")
at = raw.index(key) + len(key)
position = rand.randrange(5, 30)
ended.write_bytes(raw[:at] + int(tokens[position]).to_bytes(4, "little") + raw[at + 4 :])
succeeds("distc", "compile", ended, "-o", work / "ended")
expected = tokens[: tokens.index(tokens[position]) + 1]
assert ids(*prompt, "--max-new-tokens", 40, mesh="ended") == expected, (position, expected)
assert ids(*prompt, "--max-new-tokens", 40, "--ignore-eos", mesh="ended") == tokens

# Random weights: a seed is a model, the same on every mesh.
shape = work / "shape"
succeeds("distc", "compile", data / "uneven-9-3", "--weights", "none", "-o", shape)
succeeds("distc", "compile", data / "uneven-9-3", "--weights", "none", "--tp", 4, "--pp", 2, "-o", work / "shape4x2")
flags = ["--tokens", "1,2,3", "--max-new-tokens", 10, "--random-weights"]
one, two = ids(*flags, 1, mesh="shape"), ids(*flags, 2, mesh="shape")
assert one != two and one == ids(*flags, 1, mesh="shape4x2")

# A reader that goes away ends it, quietly.
pipe = subprocess.Popen(["distrun", "generate", work / "1x1", *prompt, "--ignore-eos", "--max-new-tokens", "500"],
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
pipe.stdout.read(10)
pipe.stdout.close()
assert (pipe.stderr.read(), pipe.wait(20)) == (b"", 1)
refused("cannot write to stdout: No space left on device", "sh", "-c", 'exec "$@" > /dev/full', "distrun", "distrun",
        "generate", work / "1x1", *prompt, tool="distrun")

# A trace: one track for each rank and queue, with the ids of the plan's instructions in their order.
trace, mesh = work / "trace.json", "2x2"
generate(*prompt, "--max-new-tokens", 3, "--trace", trace, mesh=mesh)
events = json.loads(trace.read_text())["traceEvents"]
for rank in range(4):
    programs = json.loads(succeeds("distc", "inspect", work / mesh / f"rank{rank}.plan", "--json").out)["programs"]
    of = {program["regime"].lower(): [i["id"] for i in program["instructions"]] for program in programs}
    mine = [event for event in events if event["ph"] == "X" and event["pid"] == rank]
    assert [e["args"]["id"] for e in sorted(mine, key=lambda e: e["ts"])] == of["prefill"] + 2 * of["decode"], rank
    assert {e["tid"] for e in mine} == {0, 1}
    names = {e["args"]["name"] for e in events if e["ph"] == "M" and e["pid"] == rank and "name" in e["args"]}
    assert f"rank {rank}" in names and len(names) == 3, names

# bench: one JSON object. Last, since it reads a gigabyte of memory, which tool.run would not take.
bench = subprocess.run(["distrun", "bench", work / "2x1", "--prompt-tokens", "8", "--new-tokens", "4", "--batch", "2", "--repeat",
                        "2", "--json"], capture_output=True, check=True)
figures = json.loads(bench.stdout)
assert set(figures) == {"prefill_tok_s", "decode_ms_per_step", "decode_tok_s", "decode_gb_s", "machine_read_gb_s", "share"}
for spread in list(figures.values())[:4]:
    assert 0 < spread["min"] <= spread["median"] <= spread["max"], figures
assert figures["machine_read_gb_s"] > 0 and figures["share"] > 0
