"""RESULT TRACE PLANS: the numbers of a simulation agree with each other, and its trace names instructions of the plans."""
import json
import subprocess
import sys
from collections import defaultdict

result, trace, plans = sys.argv[1:]
with open(result, encoding="utf-8") as file:
    result = json.load(file)
with open(trace, encoding="utf-8") as file:
    events = json.load(file)["traceEvents"]

prefill, decode = result["prefill"], result["decode"]
assert prefill["tokens"] == 4 * 512 and decode["steps"] == 63 and decode["tokens"] == 4 * 63, result
assert abs(result["prefill_tok_s"] - prefill["tokens"] / prefill["ms"] * 1e3) < 1, result
assert abs(result["decode_ms_per_step"] - decode["ms"] / decode["steps"]) < 1e-3, result
assert result["bubble"] == prefill["idle"] and 0 < prefill["exposed_communication"] < prefill["idle"] < 1, result
assert [rank["rank"] for rank in result["ranks"]] == [0, 1, 2, 3]
busy = sum(rank["prefill_busy_ms"] for rank in result["ranks"]) / 4
assert abs(1 - busy / prefill["ms"] - result["bubble"]) < 1e-3, result

# Ids and labels are the plan's; a track of one queue does one thing at a time.
names, tracks = {}, defaultdict(list)
for rank in range(4):
    text = subprocess.run(["distc", "inspect", "--json", f"{plans}/rank{rank}.plan"], capture_output=True, check=True, text=True)
    for program in json.loads(text.stdout)["programs"]:
        for instruction in program["instructions"]:
            names[rank, instruction["id"]] = (instruction["op_type"], instruction.get("queue", 0))
for event in events:
    if event["ph"] == "X":
        key = event["pid"], event["args"]["id"]
        assert names[key] == (event["name"], event["tid"]), (event, names[key])
        tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
assert len(tracks) == 8, tracks.keys()
for track in tracks.values():
    track.sort()
    assert all(end <= begin + 2e-3 for (_, end), (begin, _) in zip(track, track[1:])), track[:10]
assert sum(map(len, tracks.values())) == len(names), (sum(map(len, tracks.values())), len(names))
