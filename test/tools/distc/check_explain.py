"""EXPLANATION DIR: its weights, memory and context are what the plans say, summed up here from `inspect --json`."""
import json
import subprocess
import sys
from collections import Counter

with open(sys.argv[1], encoding="utf-8") as file:
    told = json.load(file)
ranks = len(told["ranks"])
assert ranks == told["tp"] * told["pp"]
plans = [json.loads(subprocess.run(["distc", "inspect", f"{sys.argv[2]}/rank{r}.plan", "--json"], check=True,
                                   capture_output=True).stdout) for r in range(ranks)]
ZEROS = 2**64 - 1

# Every weight of every rank is told of once.
names = Counter(name for group in told["weights"] for name in group["weights"])
assert set(names.values()) == {1}
assert set(names) == {w["name"] for plan in plans for w in plan["weights"]}
for group in told["weights"]:
    for name in group["weights"]:
        stage = [(p["mesh"]["tp_index"], w) for p in plans for w in p["weights"] if w["name"] == name]
        assert len(stage) == told["tp"] and {i for i, _ in stage} == {part["tp_index"] for part in group["parts"]}
        assert all(w["copies"] == group["copies"] and w["dtype"] == group["dtype"] for _, w in stage)
        if group["axis"] is None:
            assert group["rule"] == "replicated" and group["copies"] == told["tp"], group
            continue
        for part in group["parts"]:
            weight = dict(stage)[part["tp_index"]]
            segments = [s for source in weight["sources"] for s in source["dims"][group["axis"]]["segments"]]
            held = [i for s in segments if s["begin"] != ZEROS for i in range(s["begin"], s["begin"] + s["count"])]
            assert (part["held"], part["different"]) == (len(held), len(set(held))), (name, part)
            assert part["padding"] == sum(s["count"] for s in segments if s["begin"] == ZEROS), (name, part)
            assert part["held"] + part["padding"] == weight["shape"][group["axis"]], (name, part)
            assert part["bytes"] == weight["bytes"]

# As many exchanges as the first ranks of the stages have, without receives, with the bytes of their longer end.
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4}
for p, _ in enumerate(plans[0]["programs"]):
    count, size = 0, 0.0
    for plan in plans[:: told["tp"]]:
        program = plan["programs"][p]
        for i in program["instructions"]:
            if i["op_type"] in ("AllReduce", "AllGather", "ReduceScatter", "Send"):
                ends = [program["buffers"][i["op"][end]] for end in ("input", "out") if end in i["op"]]
                count += 1
                size += max(b["row_elements"] * b["times"] / b["shards"] / b["chunks"] * SIZES[b["dtype"]] for b in ends)
    facts = [f for f in told["exchanges"] if f["program"] == p]
    assert sum(f["count"] for f in facts) == count > 0
    assert abs(sum(f["count"] * f["bytes"] for f in facts) - size) < 1e-3 * size

for rank, plan in zip(told["ranks"], plans):
    assert rank["total"] == sum(plan["ledger"].values()), rank
    pool = plan["kv"]
    assert rank["kv_per_token"] * pool["blocks"] * pool["block_tokens"] == plan["ledger"]["kv"], rank
# 1 MiB: the ranks of a CPU share it.
fixed = sum(p["ledger"][key] for p in plans for key in ("weights_loaded", "weights_mapped", "arena"))
assert told["context"]["fits"] == (fixed < 2**20)
