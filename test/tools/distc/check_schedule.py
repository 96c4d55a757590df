"""Seeds faults into the tile schedule of a plan set's IR: each must be refused, with its reason.

usage: check_schedule.py PLANS.mlir FOLDER
"""

import re
import subprocess
import sys

source, folder = sys.argv[1:]
text = open(source).read()


def offset_of(name):
    return re.search(rf'plan\.buffer "{re.escape(name)}" .* at (\d+)', text)[1]


def at(name, offset):
    """The buffer of that name in the decode program, moved."""
    return lambda s: re.sub(rf'(plan\.buffer "{re.escape(name)}" .* at )\d+', rf"\g<1>{offset}", s, count=1)


def first(pattern, replacement):
    return lambda s: re.sub(pattern, replacement, s, count=1)


def blocks_of_8(s):
    return s.replace("kv_block = 16", "kv_block = 8").replace("block 16 blocks 256 per_sequence 32", "block 8 blocks 512 per_sequence 64")


def of_llama():
    glu = r"(plan\.stage +glu from \d+ count \d+ waits \[\d+\] bounds \[0, )(.*, )(\d+)\]"
    q = re.search(r"plan\.rope \d+ : (%\d+), .* -> (%\d+) \"layers\.0\.q\"", text)
    v = re.search(r"plan\.kv_append \d+ : (?P<k>%\d+), (%\d+) -> @layers\.0\.kv", text)
    v = [None, v[2], re.search(r"plan\.linear \d+ : %\d+, @layers\.0\.k -> (%\d+)", text)[1]]
    return [
        ("a unit that nobody streams", lambda s: re.sub(glu, lambda m: f"{m[1]}{m[2]}{int(m[3]) - 1}]", s, count=1),
         "each unit must be streamed once"),
        ("a first unit that nobody streams", first(r"(plan\.stage +qkv .* bounds \[)0,", r"\g<1>1,"),
         "each unit must be streamed once"),
        ("bounds that descend", lambda s: re.sub(glu, lambda m: f"{m[1]}{int(m[3])}, {m[2].split(', ', 1)[1]}{m[3]}]", s, count=1),
         "each unit must be streamed once"),
        ("a share too many", first(r"(plan\.stage +rows .* bounds \[0, )", r"\g<1>0, "), "one range for each of 132 SMs"),
        ("SMs that have no share", first(r"plan\.schedule +sms 132", "plan.schedule sms 133"), "one range for each of 133 SMs"),
        ("a ring of one tile", first(r"ring 212992", "ring 16384"), "expected a decode program, at least 1 SM and 2 to 13 tiles"),
        ("a ring that no SM has", first(r"ring 212992", "ring 229376"), "2 to 13 tiles"),
        ("an attention that does not wait", first(r"(plan\.stage +attention from \d+ count 1 waits )\[\d+\]", r"\g<1>[]"),
         "needs what stage 0 writes, and does not wait for it"),
        ("a wait for a later stage", first(r"(plan\.stage +attention from \d+ count 1 waits )\[\d+\]", r"\g<1>[3]"),
         "waits for stage 3, which is not before it"),
        ("a stage that is another kind", first(r"plan\.stage +glu", "plan.stage rows"), "are not those of a stage of kind 0"),
        ("a stage that is too long", first(r"(plan\.stage +qkv from \d+ count )7", r"\g<1>8"), "are not those of a stage of kind 2"),
        ("a stage in the middle of another", first(r"(plan\.stage +attention from )8", r"\g<1>6"),
         "behind those of the stage before"),
        ("a stage behind the program", first(r"(plan\.stage +rows from )\d+", r"\g<1>100000"),
         "instructions, behind those of the stage before"),
        ("a reader of what a stage keeps to itself", first(rf"(plan\.attention \d+ : ){q[2]},", rf"\g<1>{q[1]},"),
         "does not write to memory"),
        ("a stage that writes a buffer twice", first(rf"(plan\.linear \d+ : %\d+, @layers\.0\.v -> ){v[1]} ", rf"\g<1>{v[2]} "),
         "is written twice"),
        ("an attention over blocks that it does not copy at once", blocks_of_8, "blocks of 8 tokens, expected a multiple of 16"),
        ("an output over an input of its stage", at("layers.0.x", offset_of("layers.0.a")), "layers.0.a"),
    ]


def of_experts():
    other = re.search(r"plan\.route \d+ : .* -> (%\d+) \"layers\.1\.r\"", text)[1]
    norm = re.search(r"plan\.rms_norm \d+ : .* -> (%\d+) \"layers\.1\.m\"", text)[1]
    routes = lambda instruction: first(rf"({instruction} )%\d+", rf"\g<1>{other}")
    return [
        ("a router of another norm", first(r"(plan\.linear \d+ : )%\d+(, @layers\.0\.router)", rf"\g<1>{norm}\g<2>"), "a product reads buffer"),
        ("a router with shares", first(r"(plan\.stage +router .* bounds \[)", r"\g<1>0, 1"), "of kind Router has no weights to deal out"),
        ("a choice that is not in its stage", first(r"(plan\.stage +router from \d+ count )3", r"\g<1>2"),
         "are not those of a stage of kind 6"),
        ("up of other routes than gate", routes(r"plan\.expert_linear \d+ : %\d+, %\d+, @layers\.0\.gate .*\n *plan\.expert_linear \d+ : %\d+,"),
         "are not those of a stage of kind 4"),
        ("a sum by other routes", routes(r"plan\.combine \d+ : %\d+,"), "are not those of a stage of kind 5"),
        ("shares of what the routes deal out", first(r"(plan\.stage +expert_glu .* bounds \[)", r"\g<1>0, 1"),
         "of kind ExpertGlu has no weights to deal out before it runs, but 2 bounds"),
        ("a unit that nobody streams",
         lambda s: re.sub(r"(plan\.stage +expert_sum .*, )(\d+)\]", lambda m: f"{m[1]}{int(m[2]) - 1}]", s, count=1),
         "each unit must be streamed once"),
        ("products without their sum", first(r"(plan\.stage +expert_sum from \d+ count )3", r"\g<1>1"),
         "are not those of a stage of kind 5"),
        ("a sum that does not wait", first(r"(plan\.stage +expert_sum from \d+ count 3 waits )\[\d+\]", r"\g<1>[]"),
         "and does not wait for it"),
    ]


def of_heads():
    number = {name: re.search(rf"plan\.{pattern} -> (%\d+) ", text)[1] for name, pattern in {
        "v": r"linear \d+ : %\d+, @layers\.0\.v", "qn": r"rms_norm \d+ : %\d+, @layers\.0\.q_norm eps \S+",
        "kn": r"rms_norm \d+ : %\d+, @layers\.0\.k_norm eps \S+"}.items()}
    number["q"] = re.search(rf"plan\.rope \d+ : {number['qn']}, .* -> (%\d+) ", text)[1]
    number["k"] = re.search(rf"plan\.rope \d+ : {number['kn']}, .* -> (%\d+) ", text)[1]
    stage = r"(plan\.stage +append from )(\d+)( count )5( waits \[\d+\] bounds \[)\]"
    offset = re.search(rf"{number['v']} = plan\.buffer .* at (\d+)", text)[1]
    return [
        ("an append that is said to be rows", first(r"plan\.stage +append", "plan.stage rows"), "are not those of a stage of kind 0"),
        ("an append with units", first(stage, r"\g<1>\g<2>\g<3>5\g<4>0, 1]"), "has no weights to deal out before it runs, but 2 bounds"),
        ("an append without its append", first(stage, r"\g<1>\g<2>\g<3>4\g<4>]"), "an append stage is the norm and rotation of q"),
        ("an append that is too long", first(stage, r"\g<1>\g<2>\g<3>6\g<4>]"), "an append stage is the norm and rotation of q"),
        ("other pairs of k", first(rf"(plan\.rope \d+ : {number['kn']}, @\S+ +)half", r"\g<1>interleaved"),
         "q and k are not rotated alike"),
        ("keys that are not rotated", first(rf"(plan\.kv_append \d+ : ){number['k']},", rf"\g<1>{number['kn']},"),
         "expected the keys of this stage"),
        ("heads of another size", first(rf"(plan\.rope \d+ : {number['qn']}, @\S+ +half) heads 8 dim 16", r"\g<1> heads 4 dim 32"),
         "norms of each head or of all"),
        ("a norm of several heads", first(r"(plan\.rms_norm \d+ : %\d+, @layers\.0\.)q_norm", r"\g<1>attention_norm"),
         "norms of each head or of all"),
        ("an attention of what is not rotated", first(rf"(plan\.attention \d+ : ){number['q']},", rf"\g<1>{number['qn']},"),
         "keeps to itself and does not write to memory"),
        ("an attention that does not wait", first(r"(plan\.stage +attention from \d+ count 1 waits )\[\d+\]", r"\g<1>[0]"),
         "needs what stage 1 writes, and does not wait for it"),
        ("an append that does not wait", first(r"(plan\.stage +append from \d+ count 5 waits )\[\d+\]", r"\g<1>[]"),
         "needs what stage 0 writes, and does not wait for it"),
        ("queries over the values", first(rf"({number['q']} = plan\.buffer .* at )\d+", rf"\g<1>{offset}"), "layers.0.v"),
    ]


def of_norms():
    return [
        ("a norm with its sum that is said to be rows", first(r"plan\.stage +post_norm", "plan.stage rows"),
         "its 2 instructions are not those of a stage of kind 0"),
        ("a norm without its sum", first(r"(plan\.stage +post_norm from \d+ count )2", r"\g<1>1"),
         "a post-norm stage is one RmsNorm and the Add of it to a residual"),
        ("a sum that the norm has no part in",
         first(r"(plan\.rms_norm \d+ : .* -> (%\d+) .*\n *plan\.add \d+ : )(%\d+), \2 ", r"\g<1>\g<3>, \g<3> "),
         "a post-norm stage is one RmsNorm and the Add of it to a residual"),
        ("a norm that does not wait", first(r"(plan\.stage +post_norm from \d+ count 2 waits )\[\d+\]", r"\g<1>[]"),
         "and does not wait for it"),
    ]


def of_factors():
    return [
        ("a sum with what its stage keeps to itself",
         first(r"(plan\.linear \d+ : %\d+, @layers\.0\.o -> (%\d+) .*\n *plan\.scale \d+ : .* -> (%\d+) .*\n *plan\.add \d+ : )%\d+, \3 ", r"\g<1>\g<2>, \g<3> "),
         "are its own, which are not in memory"),
    ]


def of_layer_norms():
    normed = re.search(r"plan\.layer_norm \d+ : %\d+, @layers\.0\.mlp_norm .* -> (%\d+) ", text)[1]
    other = re.search(r"plan\.linear \d+ : %\d+, @layers\.1\.up .* -> (%\d+) ", text)[1]
    return [
        ("a layer norm in front of a gated product", first(r"(plan\.stage +)rows( from 10 count 3)", r"\g<1>glu\g<2>"),
         "its 3 instructions are not those of a stage of kind 1"),
        ("a layer norm that others read", first(r"(plan\.add 14 : )%\d+", rf"\g<1>{normed}"),
         "keeps to itself and does not write to memory"),
        ("a product of what is not normed", lambda s: re.sub(r"(plan\.layer_norm 10 : (%\d+).*\n *plan\.linear 11 : )%\d+", r"\g<1>\g<2>", s, count=1),
         "a product reads buffer"),
        ("an activation of what the stage does not make", first(r"(plan\.activate \d+ : +gelu_tanh )%\d+", rf"\g<1>{other}"),
         "its 3 instructions are not those of a stage of kind 0"),
        ("a stage that is too long", first(r"(plan\.stage +rows from 10 count )3", r"\g<1>4"),
         "its 4 instructions are not those of a stage of kind 0"),
        ("a last row that nobody streams",
         lambda s: re.sub(r"(plan\.stage +rows from 41 count 2 .*), 126\]", r"\g<1>, 125]", s, count=1), "its 126 units"),
    ]


faults = (of_experts() if "expert_glu from" in text else of_layer_norms() if "layer_norm" in text else of_heads() if "append from" in text else
          of_norms() if "post_norm from" in text else of_factors() if re.search(r"plan\.scale .*layers", text) else of_llama())
failed = 0
for name, fault, reason in faults:
    changed = fault(text)
    path = folder + ".mlir"
    open(path, "w").write(changed)
    run = subprocess.run(["distc-translate", "--import", path, folder], capture_output=True, text=True)
    if changed == text or run.returncode != 1 or reason not in run.stderr:
        failed += 1
        print(f"{name}: {'not seeded' if changed == text else f'exit code {run.returncode}'}, expected '{reason}'\n{run.stderr[:800]}")
print(f"{len(faults) - failed} of {len(faults)} faults were found")
sys.exit(failed > 0)
