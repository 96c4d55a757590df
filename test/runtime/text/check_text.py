#!/usr/bin/env python3
"""Runs every comparison of text with the Python packages: the vocabularies of test/data/tokenizers, a small tokenizer of each
kind trained on the spot, and the chat templates.

    pip install tokenizers sentencepiece protobuf gguf jinja2
    cmake --preset runtime -DDISTC_READERS=ON && cmake --build build-runtime --target text_driver
    test/runtime/text/check_text.py build-runtime/bin/text_driver [--count 3000] [--seed N]
"""
import argparse
import glob
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "..", "data", "tokenizers")


def unpack(out):
    for path in glob.glob(os.path.join(DATA, "*", "tokenizer.json.xz")):
        folder = os.path.join(out, os.path.basename(os.path.dirname(path)))
        os.makedirs(folder)
        with lzma.open(path) as source, open(os.path.join(folder, "tokenizer.json"), "wb") as target:
            shutil.copyfileobj(source, target)
        shutil.copy(os.path.join(os.path.dirname(path), "tokenizer_config.json"), folder)
    for path in glob.glob(os.path.join(DATA, "*.gguf.xz")):
        with lzma.open(path) as source, open(os.path.join(out, os.path.basename(path)[:-3]), "wb") as target:
            shutil.copyfileobj(source, target)


def run(name, command):
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    lines = (result.stdout + result.stderr).strip().splitlines()
    print(f"{name}: {lines[-1] if lines else 'no output'}", flush=True)
    if result.returncode:
        print("\n".join(lines[:-1]))
    return result.returncode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("driver")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    script = lambda name: os.path.join(HERE, name)
    with tempfile.TemporaryDirectory() as out:
        unpack(out)
        configs = sorted(glob.glob(os.path.join(out, "*", "tokenizer_config.json")))
        failed = run("chat templates", [script("compare_templates.py"), args.driver, *configs])
        subprocess.run([sys.executable, script("make_tokenizers.py"), os.path.join(out, "tiny")], check=True)
        kinds = [path for folder in (out, os.path.join(out, "tiny")) for path in sorted(glob.glob(os.path.join(folder, "*")))]
        for path in kinds:
            if os.path.basename(path) != "tiny":
                failed |= run(os.path.basename(path), [script("compare_tokenizers.py"), args.driver, path, "--count",
                                                       str(args.count), "--seed", str(args.seed)])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
