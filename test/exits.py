"""exits.py CODE COMMAND...: runs a command and fails unless it exits with exactly this code."""
import os
import sys

# Without the subprocess module, which takes longer to import than most of the commands run.
code = os.spawnvp(os.P_WAIT, sys.argv[2], sys.argv[2:])
if code != int(sys.argv[1]):
    sys.exit(f"exit code {code}, expected {sys.argv[1]}: {' '.join(sys.argv[2:])}")
