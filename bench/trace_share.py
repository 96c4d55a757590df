#!/usr/bin/env python3
"""usage: bench/trace_share.py TRACE… ; of traces that distrun has written (--trace; a file for each process): how long a step takes, and
which share of it communicates, and communicates while nothing is computed. Medians of each program's steps but for its first two, of the rank that
communicates most."""
import json
import sys
from statistics import median


def union(spans):
    """Spans that overlap become one."""
    merged = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return merged


def length(spans):
    return sum(end - begin for begin, end in spans)


ranks = {}
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        for event in json.load(file)["traceEvents"]:
            if event["ph"] == "X":
                ranks.setdefault(event["pid"], []).append(event)
figures = {}  # by program, whose first instruction names it, and rank
for rank, events in ranks.items():
    steps = {}
    for event in events:
        steps.setdefault(event["args"]["step"], []).append(event)
    for _, step in sorted(steps.items()):
        spans = [[], []]
        for event in step:
            spans[event["tid"] % 2].append((event["ts"], event["ts"] + event["dur"]))
        both = union(spans[0] + spans[1])
        communicates, busy, computes = length(union(spans[1])), length(both), length(union(spans[0]))
        whole = both[-1][1] - both[0][0]
        figures.setdefault((min(event["args"]["id"] for event in step), rank), []).append((whole, communicates, busy - computes, whole - computes))
for kind in sorted({kind for kind, _ in figures}):
    most = max((rank for k, rank in figures if k == kind), key=lambda rank: median(f[1] for f in figures[kind, rank]))
    # A kind of step is launched first, then captured, then replayed; the first also loads kernels and connects.
    settled = figures[kind, most][2:] or figures[kind, most]
    whole, communicates, exposed, idle = (median(column) for column in zip(*settled))
    print(f"steps from instruction {kind}, rank {most}: {whole / 1e3:.3f} ms, communicates {100 * communicates / whole:.1f} %, exposed "
          f"{100 * exposed / whole:.1f} %, computes nothing {100 * idle / whole:.1f} %")
