#!/usr/bin/env python3
"""usage: check_interrupt.py FOLDER ; a compilation that is interrupted while it writes leaves no part of a set."""
import signal
import subprocess
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
output = folder / "plans"
command = ["distc", "compile", "llama-3-405b", "--weights", "none", "--tp", "8", "--pp", "16", "-o", output]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
while not list(folder.glob("plans.tmp.*")) and process.poll() is None:
    time.sleep(.001)
assert process.poll() is None, f"the set was there before it was seen being written: {process.communicate()}"
process.send_signal(signal.SIGTERM)  # what starts tests may ignore SIGINT
_, errors = process.communicate(timeout=60)
assert process.returncode == -signal.SIGTERM, (process.returncode, errors)
left = sorted(path.name for path in folder.iterdir())
assert left in ([], ["plans"]), left
if left:
    subprocess.run(["distc", "verify", output], check=True)
