#!/usr/bin/env python3
"""usage: check_diff.py DATA FOLDER ; distrun diff on equal meshes, and on damage that no check of files can see."""
import json
import os
import random
import re
import shutil
import sys
from pathlib import Path

from tool import refused, run, succeeds

data, work = Path(sys.argv[1]), Path(sys.argv[2])
gguf = data / "stories260K" / "stories260K-f32.gguf"
seed = int(os.environ.get("DISTC_TEST_SEED") or random.randrange(1 << 32))
print(f"DISTC_TEST_SEED={seed}")
rand = random.Random(seed)
LAYERS = 5
MESHES = ["1x1", "2x1", "4x1", "2x2", "3x1"]  # tp x pp; 3 repeats KV heads and divides neither heads nor vocabulary


def compile_to(folder, model, mesh, *flags):
    tp, pp = mesh.split("x")
    succeeds("distc", "compile", model, "--tp", tp, "--pp", pp, "-o", folder, *flags)
    return folder


for mesh in MESHES:
    compile_to(work / mesh, gguf, mesh, "--max-tokens", 16)


def diff(a, b, *flags, differs=False, tokens="1,403,407,261,378"):
    prompt = ["--tokens", tokens] if tokens else []
    done = run("distrun", "diff", work / a, work / b, *prompt, *flags)
    assert done.returncode == differs, f"{done.returncode} of {a} and {b}\n{done.out}{done.err}"
    if not differs:
        assert not done.err, done.err
        return done.out
    name = re.match(r"first difference: (.*), (prefill|decode step \d+): relative difference (.*), tolerance (.*)\n", done.out)
    assert name and float(name[3]) > float(name[4]), done.out
    assert done.err == f"distrun: error: {work / a} and {work / b} differ, first in {name[1]}\n", done.err
    return name, done.out


# Equal sets, in every value of every step. Of a layer: n, q and k with and without rotation, v, a, o, m, gate, up, h,
# down, and x twice; beside them x, y, logits, ids, and in prefill outputs. Candidates are a rank's own.
values = 3 * (15 * LAYERS + 4) + 1
for a in MESHES:
    for b in MESHES:
        out = diff(a, b, "--new-tokens", 2)
        match = re.fullmatch(r"(\d+) values of 3 steps compared, 0 differ; (\d+) without the padding of one mesh, "
                             r"3 not compared\n", out)
        assert match and int(match[1]) == values, (a, b, out)
        # 3 ranks pad heads (6 values of a layer), the feed-forward network (3) and the vocabulary.
        assert int(match[2]) == (3 * (9 * LAYERS + 1) if (a == "3x1") != (b == "3x1") else 0), (a, b, out)
assert diff("2x2", "3x1", "--prompt", "Once upon a time", tokens=None) == diff("2x2", "3x1")

# -v: the largest first, and what was left out. Tolerance 0: rounding is a difference, and the numbers are near.
out = diff("3x1", "2x2", "-v").splitlines()
assert out[0] == "  difference  value" and "not compared: candidates: what ranks propose depends on the mesh" in out
figures = [float(line.split()[0]) for line in out[1:21]]
assert figures == sorted(figures, reverse=True) and 0 < figures[0] < 1e-5, figures
name, out = diff("3x1", "1x1", "--tolerance", 0, differs=True)
sides = re.findall(r"^  ([AB]): instructions? [\d, ]+ \(\w+\), ranks? ([\d, ]+); element \[([\d, ]+)\] is (\S+)$", out, re.M)
assert [side[0] for side in sides] == ["A", "B"] and sides[0][1] == "0, 1, 2" and sides[1][1] == "0", out
assert sides[0][3] != sides[1][3] and abs(float(sides[0][3]) - float(sides[1][3])) < 1e-5, out

# A slice of one weight, shifted in a copy of the checkpoint: the size and the header are the same.
SPOILS = {"attn_norm": "n", "attn_q": "q.linear", "attn_k": "k.linear", "attn_v": "v", "attn_output": "o", "ffn_norm": "m",
          "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down"}
raw = gguf.read_bytes()
copy = work / "copy.gguf"
copy.write_bytes(raw)
for mesh in MESHES:
    compile_to(work / f"copy{mesh}", copy, mesh, "--max-tokens", 16)
tensors = json.loads(succeeds("distc", "inspect", work / "copy1x1" / "rank0.plan", "--json").out)["tensors"]
place = {tensor["name"]: tensor for tensor in tensors}
for name, value in [*SPOILS.items(), ("output", "logits")]:
    layer = rand.randrange(LAYERS)
    tensor = place[f"{name}.weight" if name == "output" else f"blk.{layer}.{name}.weight"]
    row = 4 * (tensor["shape"][1] if len(tensor["shape"]) == 2 else 1)
    rows, at = tensor["shape"][0], tensor["offset"]
    first = rows // 2  # the second of two ranks takes its rows from one too far, the last row twice
    damaged = raw[:at + first * row] + raw[at + (first + 1) * row : at + rows * row] + raw[at + (rows - 1) * row :]
    assert len(damaged) == len(raw) and damaged != raw
    copy.write_bytes(damaged)
    expected = value if name == "output" else f"layers.{layer}.{value}"
    a, b = rand.sample(MESHES, 2)
    found, out = diff(a, f"copy{b}", differs=True)
    assert (found[1], found[2]) == (expected, "prefill"), (a, b, found[0])
    index = [int(i) for i in re.search(r"^  A: .*; element \[([\d, ]+)\]", out, re.M)[1].split(", ")]
    assert len(index) == (3 if expected.split(".")[-1] in ("linear", "v") else 2) and index[0] < 5, out
copy.write_bytes(raw)
diff("2x1", "copy3x1")

# Two tensors of one shape, exchanged in the plans: they are covered, so nothing else can see it.
mesh = rand.choice(MESHES)
text = succeeds("distc-translate", "--export", work / mesh).out
layer = rand.randrange(LAYERS)
lines = text.splitlines()
for number, line in enumerate(lines):
    for name, taken in (("gate", "up"), ("up", "gate")):
        if f"plan.weight @layers.{layer}.{name} " in line:
            lines[number] = line.replace(f"@blk.{layer}.ffn_{name}.weight", f"@blk.{layer}.ffn_{taken}.weight")
(work / "exchanged.mlir").write_text("\n".join(lines) + "\n")
succeeds("distc-translate", "--import", work / "exchanged.mlir", work / "exchanged")
shutil.copy(work / mesh / "tokenizer.dtok", work / "exchanged")
succeeds("distc", "verify", work / "exchanged")
found, _ = diff("3x1", "exchanged", differs=True)
assert found[1] == f"layers.{layer}.gate", (mesh, layer, found[0])

# Random weights, and heads that are padded in every way: behind the copies, and, of 14 query heads for 2 KV heads over 4
# ranks, inside each group.
for model in ("uneven-9-3", "uneven-14-2"):
    for mesh in ("1x1", "2x1", "3x1", "4x2", "5x1", "7x2"):
        compile_to(work / f"{model}.{mesh}", data / model, mesh, "--weights", "none")
        diff(f"{model}.{mesh}", f"{model}.1x1", "--random-weights", seed, "--new-tokens", 1, tokens="1,2,3")
    diff(f"{model}.5x1", f"{model}.4x2", "--random-weights", seed, tokens="1,2,3")
shapes = {mesh: work / f"uneven-9-3.{mesh}" for mesh in ("1x1", "4x2")}
refused("<0>: compiled without weights; use --random-weights SEED, or compile with the checkpoint's files", "distrun", "diff",
        shapes["1x1"], shapes["4x2"], "--tokens", 1, code=2, places=[shapes["1x1"]])

# What cannot be compared.
def cannot(message, *command, code=2):
    refused(message, "distrun", "diff", *command, code=code, places=[work / "1x1", shapes["1x1"]])


# Two models: one has a layer, and so values, that the other has not. A copy under another name is no other model.
config = json.loads((data / "uneven-9-3" / "config.json").read_text())
config["num_hidden_layers"] += 1
(work / "deeper").mkdir()
(work / "deeper" / "config.json").write_text(json.dumps(config))
compile_to(work / "deeper1x1", work / "deeper", "1x1", "--weights", "none")
refused(f"<0> is of uneven-9-3, <1> of deeper, and one of them alone computes layers.{config['num_hidden_layers'] - 1}.…", "distrun",
        "diff", shapes["1x1"], work / "deeper1x1", "--tokens", 1, "--random-weights", 1, code=2,
        places=[shapes["1x1"], work / "deeper1x1"])
cannot("<0> has a vocabulary of 512, <1> of 259; expected plan sets of one model", work / "1x1", shapes["1x1"], "--tokens", 1,
       "--random-weights", 1)
cannot("the prompt has 17 tokens, expected 1 to 16, which are a micro-batch of <0>", work / "1x1", work / "2x1", "--tokens",
       ",".join(["1"] * 17))
cannot("16 tokens and 500 new ones are more than the 512 of a sequence of <0>", work / "1x1", work / "2x1", "--tokens",
       ",".join(["1"] * 16), "--new-tokens", 500)
cannot("batch: tokens[1] is 512, expected 0 to 511", work / "1x1", work / "2x1", "--tokens", "1,512")
