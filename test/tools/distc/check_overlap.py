#!/usr/bin/env python3
"""usage: check_overlap.py CHUNKS < IR ; counts, in the prefill programs of dist IR, what stands between start and wait of each
all-reduce: of a row-parallel linear the next chunk's linear at least."""
import re
import sys

chunks, programs = int(sys.argv[1]), 0
for program in sys.stdin.read().split("func.func @")[1:]:
    if 'llm.regime = "prefill"' not in program:
        continue
    programs += 1
    lines = program.splitlines()
    made = {m[1]: line for line in lines if (m := re.match(r"\s*(%\S+) =", line))}
    reductions = hidden = 0
    for at, line in enumerate(lines):
        if not (start := re.match(r"\s*(%\S+) = dist.all_reduce_start (%\S+) ", line)):
            continue
        end = next(i for i in range(at, len(lines)) if re.search(rf"dist.wait {start[1]} ", lines[i]))
        linears = [l for l in lines[at:end] if "llm.linear" in l]
        if "llm.linear" not in made[start[2]]:
            continue  # the embedding's
        reductions += 1
        symbol = re.search(r"@(\S+)", made[start[2]])[1]
        if reductions % chunks:  # of the same linear, by another chunk
            assert any(f"@{symbol} " in l for l in linears), (symbol, lines[at:end])
        else:  # behind the last chunk the first one goes on
            hidden += bool(linears)
    # At the end of the stage there is nothing to go on with.
    assert reductions and reductions % chunks == 0 and hidden == reductions // chunks - 1, (reductions, hidden)
    print(f"prefill: {reductions} reductions of linears in {chunks} chunks")
assert programs
