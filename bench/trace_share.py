#!/usr/bin/env python3
"""usage: bench/trace_share.py TRACE… ; of traces that distrun has written (--trace; a file for each process): how long a step takes, and
which share of it communicates, and communicates while nothing is computed. Medians over the steps, of the rank that communicates most.

A step ends where no instruction is under way for longer than ten microseconds and an instruction comes that has been seen in it."""
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


def steps(events):
    """The events of each step: an instruction comes once in one."""
    step, seen = [], set()
    for event in sorted(events, key=lambda event: event["ts"]):
        if event["args"]["id"] in seen:
            yield step
            step, seen = [], set()
        seen.add(event["args"]["id"])
        step.append(event)
    if step:
        yield step


ranks = {}
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        for event in json.load(file)["traceEvents"]:
            if event["ph"] == "X":
                ranks.setdefault(event["pid"], []).append(event)
figures = {}  # by rank and kind of step: those of one program have the same first instruction
for rank, events in ranks.items():
    for step in steps(events):
        spans = [[], []]
        for event in step:
            spans[event["tid"] % 2].append((event["ts"], event["ts"] + event["dur"]))
        both = union(spans[0] + spans[1])
        communicates, busy, computes = length(union(spans[1])), length(both), length(union(spans[0]))
        whole = both[-1][1] - both[0][0]
        figures.setdefault((step[0]["args"]["id"], rank), []).append((whole, communicates, busy - computes, whole - computes))
for kind in sorted({kind for kind, _ in figures}):
    most = max((rank for k, rank in figures if k == kind), key=lambda rank: median(f[1] for f in figures[kind, rank]))
    whole, communicates, exposed, idle = (median(column) for column in zip(*figures[kind, most]))
    print(f"step of instruction {kind}, rank {most}: {whole / 1e3:.3f} ms, communicates {100 * communicates / whole:.1f} %, exposed "
          f"{100 * exposed / whole:.1f} %, computes nothing {100 * idle / whole:.1f} %")
