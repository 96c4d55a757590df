"""What --sequence-parallel changes in plans, from `inspect --json`: the arena is smaller, ranks of a stage exchange as many bytes,
stages 1 / tp of them, and decode is the same. Shapes without weights: MODEL TP PP..."""
import json
import sys
from pathlib import Path

from tool import succeeds

TOKENS = 2048


def plans(model, tp, pp, out, *flags):
    succeeds("distc", "compile", model, "--weights", "none", "--tp", tp, "--pp", pp, "--max-tokens", TOKENS, "-o", out, *flags)
    return [json.loads(succeeds("distc", "inspect", Path(out) / f"rank{rank}.plan", "--json").out) for rank in range(tp * pp)]


def sent(plan, program):
    """Bytes that a rank sends in the largest step: to the ranks of its stage, by a ring, and to other stages."""
    ranks = plan["mesh"]["tp"]
    stage = pipeline = 0
    for instruction in program["instructions"]:
        kind, op = instruction["op_type"], instruction["op"]
        size = lambda value: program["buffers"][op[value]]["bytes"]
        if kind == "AllReduce":
            stage += 2 * size("input") * (ranks - 1) // ranks
        elif kind == "ReduceScatter":
            stage += size("input") * (ranks - 1) // ranks
        elif kind == "AllGather":
            stage += size("out") * (ranks - 1) // ranks
        elif kind == "Send" and program["buffers"][op["input"]]["dtype"] != "I32":
            pipeline += size("input")
    return stage, pipeline


model, tp, pp, scratch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
whole = plans(model, tp, pp, f"{scratch}/whole")
scattered = plans(model, tp, pp, f"{scratch}/scattered", "--sequence-parallel")
total_a = total_b = 0
for rank, (a, b) in enumerate(zip(whole, scattered, strict=True)):
    (decode_a, prefill_a), (decode_b, prefill_b) = a["programs"], b["programs"]
    assert decode_a == decode_b, f"rank {rank}: decode differs"
    assert a["weights"] == b["weights"] and a["kv"] == b["kv"], f"rank {rank}: weights or cache differ"
    (stage_a, pipeline_a), (stage_b, pipeline_b) = sent(a, prefill_a), sent(b, prefill_b)
    total_a, total_b = total_a + stage_a, total_b + stage_b
    assert pipeline_a == tp * pipeline_b, f"rank {rank}: {pipeline_a} bytes to other stages, and {pipeline_b}"
    assert (pipeline_b > 0) == (b["mesh"]["stage"] + 1 < pp), f"rank {rank}: {pipeline_b} bytes to other stages"
    arenas = [plan["ledger"]["arena"] for plan in (a, b)]
    assert arenas[1] < arenas[0], f"rank {rank}: arena {arenas[0]}, and {arenas[1]}"
    ops = [instruction["op_type"] for instruction in prefill_b["instructions"]]
    sums = [instruction["op_type"] for instruction in prefill_a["instructions"]].count("AllReduce")
    assert "AllReduce" not in ops and ops.count("ReduceScatter") == sums, f"rank {rank}: {ops}"
    # q, k and v share a gather, gate and up another; the last stage gathers for the outputs, and the candidates.
    last = b["mesh"]["stage"] + 1 == pp
    assert ops.count("AllGather") == 2 * b["mesh"]["layers"] + 2 * last, f"rank {rank}: {ops}"
# Over all stages: the first scatters the embedding, the last gathers for the outputs.
assert total_a == total_b > 0, f"{total_a} bytes between ranks of a stage, and {total_b}"
print(f"{model} tp {tp} x pp {pp}: arena {arenas[0]} and {arenas[1]}, {total_a} bytes between ranks of a stage")
