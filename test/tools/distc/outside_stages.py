"""Compiles fixtures for a GPU and prints, of each one's decode program, the ops of instructions that are in no stage.

usage: outside_stages.py FIXTURES FOLDER [OPTION...]
"""

from pathlib import Path
import re
import subprocess
import sys

fixtures, folder, *options = sys.argv[1:]


def distc(*arguments):
    return subprocess.run(["distc", *arguments], check=True, capture_output=True, text=True).stdout


for fixture in sorted(path for path in Path(fixtures).iterdir() if path.is_dir()):
    plans = Path(folder) / fixture.name
    distc("compile", fixture, "--target", "sm_90", "-o", plans, *options)
    text = distc("inspect", plans / "rank0.plan", "--program", "decode")
    staged = set(re.findall(r"\d+", " ".join(re.findall(r"^  stage \d+ \w+ of instructions ([\d ]+)", text, re.MULTILINE))))
    assert staged, f"{fixture.name} has no stages"
    ops = [op for number, op in re.findall(r"^  (\d+) q\d (\w+)", text, re.MULTILINE) if number not in staged]
    print(f"{fixture.name}:", *dict.fromkeys(ops))
