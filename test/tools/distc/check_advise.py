"""ADVICE: every mesh that four ranks of llama-gqa (8 heads, 3 layers) allow is there, in the order of its time."""
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    advice = json.load(file)
all_ = advice["candidates"]
assert {(c["tp"], c["pp"]) for c in all_} == {(tp, pp) for tp in range(1, 5) for pp in range(1, 4) if tp * pp <= 4}, all_
assert advice["fits_one_device"] and all(c["fits"] and c["replicas"] == 1 for c in all_), all_
assert all_[0]["remark"] == "" and all(c["remark"] for c in all_[1:]), all_
# The first may be one of fewer ranks that is as fast as the fastest.
times = [c["ms_per_step"] for c in all_]
assert sorted(times[1:]) == times[1:] and times[0] <= 1.02 * min(times), times
