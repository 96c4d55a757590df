#!/usr/bin/env python3
"""usage: check_interrupt.py FOLDER ; Ctrl-C while weights are loaded, in the prompt and in the answer: 130, soon."""
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tool import listing, succeeds

work = Path(sys.argv[1])
model = work / "model"
model.mkdir()
(model / "config.json").write_text(json.dumps({
    "architectures": ["LlamaForCausalLM"], "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 4096}))
succeeds("distc", "compile", model, "--weights", "none", "--tp", 2, "--pp", 2, "--max-batch", 1, "-o", work / "plans")
LONG = ",".join(str(i % 1000) for i in range(4000))


def interrupt(when, command, *flags):
    """stdout of a run that gets the signal after `when` seconds, or once it has printed when[0] bytes."""
    before = listing(work)
    run = subprocess.Popen(["distrun", command, work / "plans", "--random-weights", "1", *flags],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    out = b""
    if isinstance(when, list):
        while len(out) < when[0]:
            out += run.stdout.read(when[0])
    else:
        time.sleep(when)
    begin = time.monotonic()
    run.send_signal(signal.SIGINT)
    rest, error = run.communicate(timeout=30)
    took = time.monotonic() - begin
    assert (run.returncode, error) == (130, b"distrun: error: interrupted\n"), (when, command, run.returncode, error)
    assert took < 5, (when, command, took)
    assert listing(work) == before
    return (out + rest).decode()


generate = ["generate", "--print-ids", "--tokens"]
for when in (0.05, 0.1, 0.2, 0.8):  # the prompt takes seconds
    assert interrupt(when, *generate, LONG) == "", when
assert interrupt(0.8, "logits", "--tokens", LONG, "-o", str(work / "out.safetensors")) == ""
whole = succeeds("distrun", *generate[:1], work / "plans", "--random-weights", "1", *generate[1:], "1,2,3",
                 "--max-new-tokens", "40").out.split()
for size in (1, 20):
    out = interrupt([size], *generate, "1,2,3", "--max-new-tokens", "4000").split()
    assert out and all(a == b for a, b in zip(out, whole)), (out, whole)  # each id that was printed is whole

# Measuring the machine ends between two measurements.
run = subprocess.Popen(["distrun", "bench-machine", "--repeat", "1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
time.sleep(1)
run.send_signal(signal.SIGINT)
out, error = run.communicate(timeout=60)
assert (run.returncode, out, error) == (130, b"", b"distrun: error: interrupted\n"), (run.returncode, out, error)
