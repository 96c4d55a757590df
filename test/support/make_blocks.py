#!/usr/bin/env python3
"""Blocks of every quantized type with what the Python package `gguf` makes of them: test/data/blocks.bin.

    pip install gguf numpy
    test/support/make_blocks.py test/data/blocks.bin [--seed N]

For each type, in the order of kernels/include/distc/kernels/WeightType.h, three blocks and their elements as F32. blocks.py, which
the end-to-end tests use, is compared over many more, and must give the same values.
"""
import argparse
import random

import gguf
import numpy as np

import blocks

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out")
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()
rng = random.Random(args.seed)
with open(args.out, "wb") as file:
    for dtype, (_, _, size, *_) in blocks.FORMATS.items():
        raw = blocks.random_blocks(rng, dtype, 1000, 0.05)
        some = np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)
        expected = gguf.quants.dequantize(some, gguf.GGMLQuantizationType[dtype]).astype(np.float32)
        different = int((np.array(blocks.dequantize(raw, dtype)) != expected.reshape(-1)).sum())
        print(f"{dtype}: {expected.size} elements, {different} differ")
        assert different == 0
        file.write(some[:3].tobytes())
        file.write(expected[:3].tobytes())
