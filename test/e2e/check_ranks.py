#!/usr/bin/env python3
"""usage: check_ranks.py PLANS ; a plan set for several GPUs gives the same bits on one GPU, on one each, and in processes.
Where the answer is long, processes also end together when one is killed or stopped in the middle of it, of logits, or of instructions
that are run one by one."""
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

plans = Path(sys.argv[1])
ranks = len(list(plans.glob("rank*.plan")))
flags = ["--random-weights", "1"] if plans.name.startswith("llama-3-") else []  # compiled without a checkpoint
SECONDS = 120
LIMIT = 5  # seconds in which all processes must have ended, once one has


def finished(processes, what):
    results = [process.communicate(timeout=SECONDS) for process in processes]
    codes = [process.returncode for process in processes]
    assert set(codes) == {0}, f"{what}: exit codes {codes}: {results[0][1].decode()}"
    return results[0][0].decode()


def start(kind, command, *arguments, **environment):
    line = ["distrun", command, plans, *flags, *arguments, "--ranks", kind]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    if kind != "env":
        return [subprocess.Popen(line, **pipes)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {**os.environ, **environment, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [subprocess.Popen(line, env={**shared, "RANK": str(r), "LOCAL_RANK": str(r)}, **pipes) for r in range(ranks)]


def run(kind, *arguments):
    return finished(start(kind, *arguments), kind)


def answering(*arguments, **environment):
    """A job in the middle of an answer."""
    job = start("env", "generate", "--tokens", "1,2,3", "--ignore-eos", "--print-ids", "--max-new-tokens", "2000", *arguments,
                **environment)
    assert job[0].stdout.read(20), job[0].communicate()
    return job


def scoring(*arguments):
    """One in the middle of many steps, after each of which the host waits for logits."""
    tokens = ",".join(str(i % 90 + 1) for i in range(2000))
    job = start("env", "logits", "--tokens", tokens, "-o", Path(tempfile.gettempdir()) / "unfinished.logits", *arguments, DISTC_LOG="info")
    for process in job:
        while b": ready: " not in (line := process.stderr.readline()):
            assert line, process.communicate()
    time.sleep(.3)
    assert job[0].poll() is None, "all logits are there already"
    return job


def end(number, job):
    """Sends the signal to the last rank of a job; what the others said, and in how many seconds."""
    begin = time.monotonic()
    job[-1].send_signal(number)
    results = [process.communicate(timeout=SECONDS) for process in job[:-1]]
    seconds = time.monotonic() - begin
    assert {process.returncode for process in job[:-1]} == {1}, results
    job[-1].send_signal(signal.SIGCONT)
    job[-1].communicate(timeout=SECONDS)
    assert job[-1].returncode in (1, -signal.SIGKILL), job[-1].returncode
    return "".join(err.decode() for _, err in results), seconds


# The prompts are longer than a step, and where the model is large, than what is reduced in one exchange.
tokens = ",".join(str(i * 7 % 90 + 1) for i in range(600 if flags else 40))
kinds, outcomes = ("device", "gpus", "env"), []
sampled = ["--temperature", "0.8", "--top-p", "0.9", "--seed", "5"]
with tempfile.TemporaryDirectory() as folder:
    for kind in kinds:
        ids = run(kind, "generate", "--tokens", tokens, "--ignore-eos", "--print-ids", "--max-new-tokens", "40")
        assert len(ids.split()) == 40, (kind, ids)
        ids += run(kind, "generate", "--tokens", "5,6,7", "--ignore-eos", "--print-ids", "--max-new-tokens", "40", *sampled)
        file = Path(folder) / kind
        run(kind, "logits", "--tokens", tokens[:100].rsplit(",", 1)[0], "-o", file)
        outcomes.append((ids, file.read_bytes()))
for kind, outcome in zip(kinds[1:], outcomes[1:]):
    assert outcome[0] == outcomes[0][0], f"{plans}: {kind} gives other ids than {kinds[0]}"
    assert outcome[1] == outcomes[0][1], f"{plans}: {kind} gives other logits than {kinds[0]}"
said = f"{ranks} ranks, ids and logits the same to the bit: {', '.join(kinds)}"
if flags:
    jobs = {"an answer": answering, "logits": scoring, "single instructions": lambda *a: answering(*a, DISTC_CUDA_SYNC="1")}
    for what, job in jobs.items():
        err, seconds = end(signal.SIGKILL, job())
        assert f"rank {ranks - 1} is lost" in err and seconds < LIMIT, (what, err, seconds)
        said += f"; {what}: a killed process ends all in {seconds:.1f} s"
        # Found out by silence, or where another waits for it.
        err, seconds = end(signal.SIGSTOP, job("--timeout", "5"))
        found = re.search(f".*(waited 5 s for (rank {ranks - 1}|its peers)|rank {ranks - 1} is lost)", err)
        assert found and seconds < 5 + LIMIT, (what, err, seconds)
        said += f", a stopped one is found out: {found[0]}"
print(said)
