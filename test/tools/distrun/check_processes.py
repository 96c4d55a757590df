#!/usr/bin/env python3
"""usage: check_processes.py DATA FOLDER env|mpi ; four processes give what four threads give, and end together."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tool import succeeds

data, work, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe"]
LIMIT = 5  # seconds in which all processes must have ended, once one has


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Job:
    """`distrun` as one process for each rank. `environment` and `arguments` of a rank may differ from the others'."""

    def __init__(self, *arguments, ranks=4, change=lambda rank, environment, arguments: None):
        command = ["distrun", *map(str, arguments), "--ranks", kind]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
        if kind == "mpi":
            self.processes = [subprocess.Popen([*MPIRUN, "-n", str(ranks), *command], **options)]
            return
        port, self.processes = free_port(), []
        for rank in reversed(range(ranks)):  # rank 0 last: the others wait for it
            own = list(command)
            environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank),
                           "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            change(rank, environment, own)
            self.processes.insert(0, subprocess.Popen(own, env=environment, **options))

    def pid(self, rank):
        if kind == "env":
            return self.processes[rank].pid
        for child in Path("/proc").glob("[0-9]*/environ"):
            try:
                stat = (child.parent / "stat").read_text()
                if (int(stat.rsplit(")", 1)[1].split()[1]) == self.processes[0].pid
                        and f"OMPI_COMM_WORLD_RANK={rank}\0" in child.read_text()):
                    return int(child.parent.name)
            except OSError:
                continue  # has ended
        raise AssertionError(f"no process of rank {rank}")

    def wait(self, seconds=60):
        """Exit codes, stdout of all, stderr of all; the processes must end in time."""
        begin, out, err = time.monotonic(), "", ""
        for process in self.processes:
            o, e = process.communicate(timeout=max(0.1, seconds - (time.monotonic() - begin)))
            out, err = out + o.decode(), err + e.decode()
        return [process.returncode for process in self.processes], out, err


def same(*arguments, mesh):
    """stdout, the same of processes as of threads."""
    expected = succeeds("distrun", arguments[0], work / mesh, *arguments[1:]).out
    codes, out, err = Job(arguments[0], work / mesh, *arguments[1:]).wait()
    assert set(codes) == {0}, (codes, err)
    assert out == expected, (mesh, arguments, expected, out)
    return out


def refused(message, *arguments, code=1, within=60, **options):
    """All end with `code`, and one of them says why."""
    codes, out, err = Job(*arguments, **options).wait(within)
    errors = [line for line in err.splitlines() if "distrun" in line and "error:" in line]
    assert len(errors) == 1 and re.fullmatch("distrun: error: " + message, errors[0]), err
    assert set(codes) == {code} and not out, (codes, out)


# Micro-batches of a rank, and its queues where chunks overlap, are threads with a link each.
MESHES = {"4x1": [], "2x2": [], "2x2.micro": ["--micro-batches", 3, "--decode-micro-batches", 2],
          "2x2.both": ["--overlap-chunks", 2, "--micro-batches", 2]}
for mesh, flags in MESHES.items():
    succeeds("distc", "compile", data / "stories260K" / "stories260K-f32.gguf", "--tp", mesh[0], "--pp", mesh[2],
             "--max-tokens", 16, "-o", work / mesh, *flags)
prompts = work / "prompts"
prompts.write_text("Once upon a time\nThe cat\nLily and Ben went to the park to play with a big red ball and a dog\n")
for mesh in MESHES:
    assert len(same("generate", "--prompts", prompts, "--max-new-tokens", 40, "--print-ids", mesh=mesh).split()) == 120
    same("generate", "--prompt", "Once", "--max-new-tokens", 50, "--temperature", 0.9, "--seed", 7, mesh=mesh)
    tokens = ["--tokens", ",".join(str(i) for i in range(1, 41))]  # several steps
    same("logits", *tokens, "-o", work / "out.safetensors", mesh=mesh)
    by_processes = (work / "out.safetensors").read_bytes()
    succeeds("distrun", "logits", work / mesh, *tokens, "-o", work / "threads.safetensors")
    assert by_processes == (work / "threads.safetensors").read_bytes(), mesh

# What is wrong is said once.
prompt = ["--prompt", "x"]
number = "mpirun -n 4" if kind == "mpi" else "WORLD_SIZE=4"
refused(f"3 processes were started, and .*/2x2 has 4 ranks; start {number}", "generate", work / "2x2", *prompt, ranks=3)
refused("/nonexistent: cannot open: No such file or directory", "generate", work / "2x2", "--prompts", "/nonexistent")
refused("/nonexistent: no such folder; .*", "generate", "/nonexistent", *prompt)
if kind == "env":
    shutil.copytree(work / "2x2", work / "copy")
    succeeds("distc", "compile", data / "stories260K" / "stories260K-f32.gguf", "--tp", 2, "--pp", 2, "-o", work / "other")

    def elsewhere(folder):
        def change(rank, environment, arguments):
            if rank == 2:
                arguments[2] = str(work / folder)
        return change

    codes, out, err = Job("generate", work / "2x2", *prompt, change=elsewhere("copy")).wait()
    assert set(codes) == {0}, (codes, err)
    refused("rank 2 .* has another plan set than rank 0 .*", "generate", work / "2x2", *prompt, change=elsewhere("other"))
    refused("/.*/missing: no such folder; .*", "generate", work / "2x2", *prompt, change=elsewhere("missing"))
    refused("rank 2 was started as one of 5 processes, rank 0 as one of 4; start all with one size", "generate",
            work / "2x2", *prompt, within=10,
            change=lambda rank, environment, arguments: rank == 2 and environment.update(WORLD_SIZE="5"))
    refused("rank 0: waited 0.5 s for rank 2 to connect to port .*", "generate", work / "2x2", *prompt, "--timeout", 0.5,
            within=10, change=lambda rank, environment, arguments: rank == 2 and arguments.__setitem__(
                slice(None), ["sh", "-c", "exit 1"]))
    for name, value in (("RANK", "x"), ("RANK", "4"), ("MASTER_ADDR", ""), ("MASTER_PORT", "99999")):
        environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "1", name: value}
        done = subprocess.run(["distrun", "generate", work / "2x2", *prompt, "--ranks", "env"], env=environment,
                              capture_output=True, timeout=20, check=False)
        assert done.returncode == 1 and re.match(f"distrun: error: {name} is ", done.stderr.decode()), done.stderr

# Processes that end in the middle of the answer take the others with them.
model = work / "model"
model.mkdir()
(model / "config.json").write_text(json.dumps({
    "architectures": ["LlamaForCausalLM"], "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 4096}))
succeeds("distc", "compile", model, "--weights", "none", "--tp", 2, "--pp", 2, "--max-batch", 1, "-o", work / "long")
LONG = ["generate", work / "long", "--random-weights", 1, "--tokens", "1,2,3", "--print-ids", "--ignore-eos",
        "--max-new-tokens", 4000]


def end(signalled, number, *arguments):
    """Sends the signal to a rank (None: to what the user started) once there is an answer."""
    job = Job(*LONG, *arguments)
    first = job.processes[0].stdout.read(20)
    begin = time.monotonic()
    if signalled is not None:
        os.kill(job.pid(signalled), number)
    else:
        for process in job.processes:
            process.send_signal(number)
    codes, out, err = job.wait()
    took = time.monotonic() - begin
    assert took < LIMIT and first, (took, err)
    return codes, err


for victim in (0, 2, 3):
    codes, err = end(victim, signal.SIGKILL)
    assert f"rank {victim}" in err and 0 not in codes, (codes, err)
    if kind == "env":
        assert codes[victim] == -signal.SIGKILL and {code for rank, code in enumerate(codes) if rank != victim} == {1}, codes
        assert re.match(f"distrun: error: rank {victim} is lost: ", err), err
        assert victim == 0 or err.count("error:") == 1, err
# With micro-batches several threads of a rank wait for the one that is lost.
succeeds("distc", "compile", model, "--weights", "none", "--tp", 2, "--pp", 2, "--max-batch", 4, "--decode-micro-batches", 4,
         "-o", work / "lanes")
job = Job("bench", work / "lanes", "--random-weights", 1, "--prompt-tokens", 4, "--new-tokens", 4000, "--batch", 4)
time.sleep(2)
os.kill(job.pid(1), signal.SIGKILL)
codes, out, err = job.wait(LIMIT)
assert 0 not in codes and "rank 1" in err and not out, (codes, out, err)
codes, err = end(None, signal.SIGINT)
assert err.count("distrun: error: interrupted") <= 1 and 0 not in codes, (codes, err)
if kind == "env":
    assert set(codes) == {130}, (codes, err)
    codes, err = end(2, signal.SIGTERM)
    assert set(codes) == {130} and err == "distrun: error: interrupted\n", (codes, err)
    # One that is stopped is found out after the time limit; when it goes on, it ends too.
    job = Job(*LONG, "--timeout", 1)
    job.processes[0].stdout.read(20)
    job.processes[2].send_signal(signal.SIGSTOP)
    for rank in (0, 1, 3):
        assert job.processes[rank].wait(20) == 1, rank
    job.processes[2].send_signal(signal.SIGCONT)
    codes, out, err = job.wait()
    # Whoever has waited longest tells of whom; that one may be waiting for the stopped one itself.
    assert set(codes) == {1} and re.search("waited 1 s for rank [023]", err), (codes, err)

# Last, since it reads a gigabyte of memory, which tool.run would not take.
trace = work / "trace.json"
codes, out, err = Job("bench", work / "2x2", "--prompt-tokens", 8, "--new-tokens", 4, "--batch", 2, "--repeat", 1, "--json",
                      "--trace", trace).wait()
assert set(codes) == {0} and json.loads(out)["decode_tok_s"]["median"] > 0, (codes, out, err)
for rank in range(4):
    events = json.loads(Path(f"{trace}.rank{rank}").read_text())["traceEvents"]
    assert {event["pid"] for event in events if event["ph"] == "X"} == {rank}
