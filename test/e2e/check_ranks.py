#!/usr/bin/env python3
"""usage: check_ranks.py PLANS ; a plan set for several GPUs gives the same bits on one GPU, on one each, and in processes."""
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

plans = Path(sys.argv[1])
ranks = len(list(plans.glob("rank*.plan")))
flags = ["--random-weights", "1"] if plans.name.startswith("llama-3-") else []  # compiled without a checkpoint
SECONDS = 120


def finished(processes, what):
    results = [process.communicate(timeout=SECONDS) for process in processes]
    codes = [process.returncode for process in processes]
    assert set(codes) == {0}, f"{what}: exit codes {codes}: {results[0][1].decode()}"
    return results[0][0].decode()


def run(kind, command, *arguments):
    line = ["distrun", command, plans, *flags, *arguments, "--ranks", kind]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if kind != "env":
        return finished([subprocess.Popen(line, **pipes)], kind)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return finished([subprocess.Popen(line, env={**shared, "RANK": str(r), "LOCAL_RANK": str(r)}, **pipes)
                     for r in range(ranks)], kind)


# The prompts are longer than a step, and where the model is large, than what is reduced in one exchange.
tokens = ",".join(str(i * 7 % 90 + 1) for i in range(600 if flags else 40))
kinds, outcomes = ("device", "gpus", "env"), []
with tempfile.TemporaryDirectory() as folder:
    for kind in kinds:
        ids = run(kind, "generate", "--tokens", tokens, "--ignore-eos", "--print-ids", "--max-new-tokens", "40")
        assert len(ids.split()) == 40, (kind, ids)
        file = Path(folder) / kind
        run(kind, "logits", "--tokens", tokens[:100].rsplit(",", 1)[0], "-o", file)
        outcomes.append((ids, file.read_bytes()))
for kind, outcome in zip(kinds[1:], outcomes[1:]):
    assert outcome[0] == outcomes[0][0], f"{plans}: {kind} gives other ids than {kinds[0]}"
    assert outcome[1] == outcomes[0][1], f"{plans}: {kind} gives other logits than {kinds[0]}"
print(f"{ranks} ranks, ids and logits the same to the bit: {', '.join(kinds)}")
