#!/usr/bin/env python3
"""Random programs of two queues, chunks and elementwise instructions through plan-memory, against brute force: every
state that queues and events allow is visited, with the bytes of the arena, and nobody reads another's."""
import os
import random
import re
import subprocess
import sys

seed = int(os.environ.get("DISTC_TEST_SEED") or random.randrange(1 << 32))
print(f"DISTC_TEST_SEED={seed}")
rand = random.Random(seed)
PROGRAMS, CHUNKS = 400, 2
ROW = 256  # bytes of a row; a buffer has one or two for each token, and two tokens, so that a chunk has one


class Program:
    """Instructions (queue, waits, signal, reads, write), where an operand is (buffer, chunk or None for all of it)."""

    def __init__(self):
        self.widths, self.chunked, self.alone, self.instructions, events = [], [], [], [], 0
        written = []  # operands that can be read
        for _ in range(rand.randint(2, 9)):
            queue = rand.randrange(2)
            reads = rand.sample(written, min(len(written), rand.choice([1, 1, 2])))
            elementwise = bool(reads) and rand.random() < 0.6
            if not reads:  # an embedding
                queue, chunk, width = 0, None, rand.choice([1, 2])
            elif reads[0][1] is not None or elementwise:  # one operand, row by row
                reads = reads[:1]
                chunk, width = reads[0][1], self.widths[reads[0][0]]
            else:  # whole values of any width
                reads = [(b, None) for b, _ in reads if self.complete(b, written)]
                chunk, width = None, rand.choice([1, 2])
            target = self.target(chunk, width, written)
            waits = self.needed(queue, reads)
            if self.instructions and rand.random() < 0.3:
                waits |= {rand.randrange(len(self.instructions))}
            for w in waits:
                if self.instructions[w]["signal"] is None:
                    self.instructions[w]["signal"] = events
                    events += 1
            self.instructions.append({
                "queue": queue, "waits": sorted(self.instructions[w]["signal"] for w in waits), "signal": None,
                "reads": reads, "write": target, "elementwise": elementwise})
            written.append(target)
            if target[1] is None and rand.random() < 0.4:
                written += [(target[0], c) for c in range(CHUNKS)]
        self.events = events

    def complete(self, buffer, written):
        return (buffer, None) in written or all((buffer, c) in written for c in range(CHUNKS))

    def target(self, chunk, width, written):
        """A new buffer, or the other chunk of one that is written in chunks. A chunk may be alone, with memory of its own."""
        if chunk is not None:
            for b, chunked in enumerate(self.chunked):
                if chunked and not self.alone[b] and self.widths[b] == width and (b, chunk) not in written and (b, None) not in written:
                    return (b, chunk)
        self.widths.append(width)
        self.chunked.append(chunk is not None)
        self.alone.append(chunk is not None and rand.random() < 0.5)
        return (len(self.widths) - 1, chunk)

    def sizes(self):
        return [(1 if alone else 2) * width * ROW for alone, width in zip(self.alone, self.widths)]

    def needed(self, queue, reads):
        """Instructions of the other queue that write what is read."""
        return {i for i, other in enumerate(self.instructions) for b, c in reads
                if other["queue"] != queue and other["write"][0] == b and (c is None or other["write"][1] in (None, c))}

    def text(self):
        lines = [f"plan.program prefill attributes {{arena_bytes = 0 : i64, events = {self.events} : i64, max_outputs = 1 : i64, "
                 "max_sequences = 1 : i64, max_tokens = 2 : i64, micro_batches = 1 : i64, queues = 2 : i64} {"]
        for b, width in enumerate(self.widths):
            elements = width * ROW // 4
            if self.alone[b]:
                chunk = next(it["write"][1] for it in self.instructions if it["write"][0] == b)
                lines.append(f'  %b{b}_{chunk} = plan.buffer "b{b}" tokens [{elements}] replicated : f32, {elements} elements, '
                             f"{width * ROW} bytes {{chunk = {chunk} : i64, chunks = {CHUNKS} : i64}}")
                continue
            lines.append(f'  %b{b} = plan.buffer "b{b}" tokens [{elements}] replicated : f32, {elements} elements, {2 * width * ROW} bytes')
            for c in range(CHUNKS):
                lines.append(f'  %b{b}_{c} = plan.buffer "b{b}" tokens [{elements}] replicated : f32, {elements} elements, '
                             f"{width * ROW} bytes of %b{b} {{chunk = {c} : i64, chunks = {CHUNKS} : i64}}")
        name = lambda operand: f"%b{operand[0]}" + ("" if operand[1] is None else f"_{operand[1]}")
        for i, it in enumerate(self.instructions):
            out = name(it["write"])
            suffix = f" queue {it['queue']}" if it["queue"] else ""
            suffix += f" waits {it['waits']}" if it["waits"] else ""
            suffix += f" signals {it['signal']}" if it["signal"] is not None else ""
            if it["queue"] == 1 and it["elementwise"]:
                lines.append(f'  plan.all_reduce {i} : @tp number 0 sum {name(it["reads"][0])} -> {out}{suffix} "x"')
            elif it["elementwise"]:
                lines.append(f'  plan.add {i} : {name(it["reads"][0])}, {name(it["reads"][0])} -> {out}{suffix} "x"')
            elif not it["reads"]:
                lines.append(f'  plan.embedding {i} : @w from 0 -> {out}{suffix} "x"')
            elif len(it["reads"]) == 1:
                lines.append(f'  plan.linear {i} : {name(it["reads"][0])}, @w -> {out}{suffix} "x"')
            else:  # reads two: never in place, as a product of them
                it["elementwise"] = True
                lines.append(f'  plan.add {i} : {name(it["reads"][0])}, {name(it["reads"][1])} -> {out}{suffix} "x"')
        return "\n".join(lines + ["}"])


def check(program, offsets):
    """Raises where some order of the two queues gives an instruction other bytes than were written for it."""
    def rows(operand):  # bytes, by rows of both tokens
        buffer, chunk = operand
        begin, row = offsets[buffer], program.widths[buffer] * ROW
        if program.alone[buffer]:
            return [(begin, begin + row)]
        return [(begin + t * row, begin + (t + 1) * row) for t in range(2) if chunk is None or chunk == t]

    def span(operand):
        return {byte // ROW for begin, end in rows(operand) for byte in range(begin, end, ROW)}

    its = program.instructions
    queues = [[i for i, it in enumerate(its) if it["queue"] == q] for q in range(2)]
    signaller = {it["signal"]: i for i, it in enumerate(its) if it["signal"] is not None}
    for i, it in enumerate(its):  # alone: in place is the same rows at the same place, and elementwise
        for read in it["reads"]:
            if span(read) & span(it["write"]):
                assert it["elementwise"] and rows(read) == rows(it["write"]), f"{i} overwrites what it reads"
    seen = set()
    stack = [((0, 0), tuple([None] * (max(o + size for o, size in zip(offsets, program.sizes())) // ROW)))]
    while stack:
        state = stack.pop()
        if state in seen:
            continue
        seen.add(state)
        done, memory = state
        finished = {i for q in range(2) for i in queues[q][: done[q]]}
        ready = [queues[q][done[q]] for q in range(2) if done[q] < len(queues[q])
                 and all(signaller[e] in finished for e in its[queues[q][done[q]]]["waits"])]
        if len(ready) == 2:  # they may run beside each other
            for a, b in (ready, ready[::-1]):
                touched = set().union(*[span(r) for r in its[b]["reads"]], span(its[b]["write"]))
                assert not span(its[a]["write"]) & touched, f"{a} writes beside {b}"
        for i in ready:
            it, now = its[i], list(memory)
            for buffer, chunk in it["reads"]:
                for t in range(2):
                    if chunk in (None, t):
                        for place in span((buffer, t)):
                            assert now[place] == (buffer, t), f"{i} reads {now[place]}, expected {(buffer, t)}"
            for t in range(2):
                if it["write"][1] in (None, t):
                    for place in span((it["write"][0], t)):
                        now[place] = (it["write"][0], t)
            q = it["queue"]
            stack.append(((done[0] + (q == 0), done[1] + (q == 1)), tuple(now)))


header = """plan.rank @rank0 producer "hand" target "cpu" passes [] {
plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
plan.kv_pool block 1 blocks 1 per_sequence 1
"""
programs = [Program() for _ in range(PROGRAMS)]
text = header + "\n".join(p.text() for p in programs) + "\n}\n"
done = subprocess.run(["distc-opt", "--pass-pipeline=builtin.module(plan.rank(plan-memory))"], input=text, capture_output=True,
                      text=True, check=False)
assert done.returncode == 0, done.stderr[:2000]
parts = done.stdout.split("plan.program ")[1:]
assert len(parts) == PROGRAMS
reused = in_place = 0
for number, (program, part) in enumerate(zip(programs, parts)):
    places = dict(re.findall(r'plan.buffer "(b\d+)" [^\n]* bytes at (\d+)', part))
    offsets = [int(places[f"b{b}"]) for b in range(len(program.widths))]
    try:
        check(program, offsets)
    except AssertionError as error:
        sys.exit(f"program {number}: {error}\n{part}")
    sizes = program.sizes()
    reused += max(o + s for o, s in zip(offsets, sizes)) < sum(sizes)
    in_place += any(it["elementwise"] and offsets[it["write"][0]] in [offsets[b] for b, _ in it["reads"]]
                    for it in program.instructions)
print(f"{PROGRAMS} programs: memory reused in {reused}, in place in {in_place}")
assert reused > PROGRAMS // 4 and in_place > PROGRAMS // 10
