#!/usr/bin/env python3
"""usage: check_plans.py DATA FOLDER ; plan sets and weights that changed since compile, requests that cannot work."""
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

from checkpoints import copy_checkpoint
from tool import refused, run, succeeds

data, work = Path(sys.argv[1]), Path(sys.argv[2])
model, plans, out = work / "checkpoint", work / "plans", work / "out.safetensors"
copy_checkpoint(data / "fixtures" / "llama-gqa", model)
succeeds("distc", "compile", model, "--tp", 2, "--pp", 2, "-o", plans)


def logits(*flags, tokens="1,2,3", output=out):
    return "distrun", "logits", plans, "--tokens", tokens, "-o", output, *flags


def check(message, *flags, **words):
    refused(message, *logits(*flags, **words), within=work, places=[plans, model, work])


def both(message):
    """distrun and distc verify say the same."""
    check(message)
    refused(message, "distc", "verify", plans, within=work, places=[plans, model, work])


# Weights.
first = "model-00001-of-00003.safetensors"
lost = "cannot open: No such file or directory; the plan needs this file of the checkpoint: point --weights DIR to it"
moved = work / "moved"
os.rename(model, moved)
check(f"<1>/{first}: {lost}")
check(f"<2>/{first}: {lost}", "--weights", work)
check(f"<2>/nowhere/{first}: {lost}", "--weights", work / "nowhere")
succeeds(*logits("--weights", moved))
here = out.read_bytes()
succeeds(*logits("--weights", moved / first))
os.rename(moved, model)
succeeds(*logits())
assert out.read_bytes() == here
shard = model / "model-00002-of-00003.safetensors"
whole = shard.read_bytes()
changed = f"<1>/{shard.name}: changed since compile: "
advice = "; compile again, or point --weights DIR to the checkpoint"
for size in (len(whole) - 1, len(whole) + 1, 0):
    shard.write_bytes((whole + b"x")[:size])
    check(f"{changed}size is {size}, expected {len(whole)}{advice}")
shard.write_bytes(whole[:20] + b"Q" + whole[21:])
check(f"{changed}its header (the first 1192 bytes) is another{advice}")
shard.write_bytes(whole)

# The set.
rank = [plans / f"rank{r}.plan" for r in range(4)]
content = [path.read_bytes() for path in rank]


def restore():
    for path, bytes_ in zip(rank, content):
        path.write_bytes(bytes_)


rank[2].unlink()
both("<0>: rank 2 of 4 is missing: no rank2.plan; compile the model again")
restore()
rank[0].unlink()
both("<0>: holds no rank0.plan; expected a plan set made by `distc compile`")
restore()
rank[2].write_bytes(content[1])
both("<0>/rank2.plan: is rank 1 of 4, expected rank 2 of 4")
restore()
extra = plans / "rank4.plan"
extra.write_bytes(content[3])
both("<0>/rank4.plan: is not of this plan set, which has 4 ranks; compile the model again")
extra.unlink()
other = work / "other"
succeeds("distc", "compile", model, "--tp", 2, "--pp", 2, "--max-seq", 256, "-o", other)
rank[2].write_bytes((other / "rank2.plan").read_bytes())
both("<0>/rank2.plan: belongs to plan set …")
restore()

# One file.
D = "<0>/rank1.plan: "
size = len(content[1])
for length in (0, 3, 15):
    rank[1].write_bytes(content[1][:length])
    both(f"{D}not a plan file ({length} bytes, no DPLN identifier)")
for length in (16, 40, size // 2):
    rank[1].write_bytes(content[1][:length])
    both(D + "damaged: the frame of the plan does not hold together")
rank[1].write_bytes(content[1][:-1])
both(D + "damaged: …")
rank[1].write_bytes(content[1] + b"x")
both(f"{D}damaged: {size + 1} bytes, expected {size}")
rank[1].unlink()
rank[1].mkdir()
both(D + "is a folder, expected a file")
rank[1].rmdir()
# The schema's hash is the first field of the root table.
root = struct.unpack_from("<I", content[1])[0]
table = root - struct.unpack_from("<i", content[1], root)[0]
at = root + struct.unpack_from("<H", content[1], table + 4)[0]
rank[1].write_bytes(content[1][:at] + b"12345678" + content[1][at + 8 :])
both(D + "plan of schema 3837363534333231, this program reads schema …")
restore()

# Any byte. What distrun reads is what distc verify reads; the text needs a tokenizer too.
seed = int(os.environ.get("DISTC_TEST_SEED") or random.randrange(1 << 32))
print(f"DISTC_TEST_SEED={seed}")
positions = random.Random(seed)
story = work / "story"
succeeds("distc", "compile", data / "stories260K" / "stories260K-f32.gguf", "-o", story)
generate = ["distrun", "generate", story, "--prompt", "Once", "--max-new-tokens", 2]
succeeds(*generate)
damaged = [(path, logits()) for path in rank] + [(story / "rank0.plan", generate), (story / "tokenizer.dtok", generate)]
for path, command in damaged:
    good = path.read_bytes()
    places = [positions.randrange(len(good)) for _ in range(25)] + positions.sample(range(100), 10) + [len(good) - 1]
    for place in places:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << positions.randrange(8)]) + good[place + 1 :])
        done = run(*command)
        assert done.returncode == 1 and f"error: {path}: " in done.err and not done.out, (path, place, done.err)
    path.write_bytes(good)
    succeeds(*command)
tokenizer = story / "tokenizer.dtok"
good = tokenizer.read_bytes()
def speak(message, verified=None):
    refused(message, *generate, within=work, places=[story])
    refused(verified or message, "distc", "verify", story, places=[story])


tokenizer.write_bytes(good[:-100])
speak("<0>/tokenizer.dtok: damaged: its checksum does not hold; compile the model again")
tokenizer.write_bytes(b"")
speak("<0>/tokenizer.dtok: not a tokenizer file (0 bytes)")
tokenizer.unlink()
speak("<0>/tokenizer.dtok: cannot open: No such file or directory",
      "<0>: holds no tokenizer.dtok, the tokenizer that its plans name; compile the model again")
tokenizer.write_bytes(good)

# Requests.
check("the prompt has 600 tokens and the plan holds at most 512; compile with a larger --max-seq",
      tokens=",".join(["1"] * 600))
check("token 1 is 256, expected 0 to 255", tokens="1,256")
refused("request 0: the prompt has 600 tokens and the plan holds at most 512; compile with a larger --max-seq",
        "distrun", "generate", plans, "--print-ids", "--tokens", ",".join(["1"] * 600))
textless = f"{plans}: the plan set has no tokenizer, so there is no text; use --tokens with --print-ids and no --stop"
for flags in (["--prompt", "x"], ["--tokens", "1"], ["--tokens", "1", "--print-ids", "--stop", "x"]):
    refused(textless, "distrun", "generate", plans, *flags)
refused("the model has no chat template; leave out --chat", "distrun", "generate", story, "--prompt", "x", "--chat")
empty = work / "empty"
empty.write_text("\n \n")
refused(f"{empty}: no prompts, expected one per line", "distrun", "generate", story, "--prompts", empty)
refused(f"{work}: is a folder, expected a file", "distrun", "generate", story, "--prompts", work)
refused(f"{work / 'none'}: no such folder; expected a plan set made by `distc compile`", *generate[:2], work / "none",
        *generate[3:])
bench = ["distrun", "bench", story, "--prompt-tokens"]
refused("--batch is 9 and the plan holds at most 8; compile with a larger --max-batch", *bench, 1, "--new-tokens", 1,
        "--batch", 9)
refused("--prompt-tokens and --new-tokens are 601 together and the plan holds at most 512; compile with a larger "
        "--max-seq", *bench, 600, "--new-tokens", 1, "--batch", 1)

# Output: a folder that is not there, a folder in the place of the file, a place for the trace that is none. What is no
# regular file is written to, not replaced.
check("<2>/none/x: cannot create: No such file or directory", output=work / "none" / "x")
check("<1>: cannot replace: Is a directory", output=model)
succeeds(*logits())
pipe = work / "pipe"
os.mkfifo(pipe)
with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as cat:
    succeeds(*logits(output=pipe))
    assert cat.stdout.read() == out.read_bytes()
assert pipe.is_fifo()
check("<2>/none/trace: cannot create: No such file or directory", "--trace", work / "none" / "trace")

# Memory: the ledger is told before anything is allocated.
huge = work / "huge"
succeeds("distc", "compile", "llama-3-405b", "--weights", "none", "--tp", 8, "--max-seq", 131072, "--max-batch", 64, "-o",
         huge)
ids = ["distrun", "generate", huge, "--tokens", "1", "--print-ids"]
refused(f"{huge}: compiled without weights; use --random-weights SEED, or compile with the checkpoint's files", *ids)
done = run(*ids, "--random-weights", 1)
lines = done.err.splitlines()
assert done.returncode == 1 and "the 8 rank(s) in this process need " in lines[0] and "TiB of memory, " in lines[0], lines
assert lines[1].split() == "rank weights KV cache activations tables sum mapped".split(), lines
assert len(lines) >= 11 and lines[10].split()[0] == "all", lines
