#!/usr/bin/env python3
"""usage: check_config.py DATA FOLDER ; config.json damaged in every way, meshes and limits that cannot work."""
import os
import sys
from pathlib import Path

from checkpoints import copy_checkpoint
from tool import refused, succeeds

fixtures, work = Path(sys.argv[1]) / "fixtures", Path(sys.argv[2])
model = work / "model"
C = "<0>/config.json: "


def check(message, *flags, code=1):
    refused(message, "distc", "compile", model, "-o", work / "plans", *flags, within=work, places=[model], code=code)


def config(message, fixture="llama3-rope", **values):
    copy_checkpoint(fixtures / fixture, model, values)
    check(message)


def text(message, raw):
    copy_checkpoint(fixtures / "llama3-rope", model)
    (model / "config.json").write_bytes(raw)
    check(message)


integers = {"hidden_size": 1 << 24, "num_hidden_layers": 4096, "num_attention_heads": 1 << 16,
            "num_key_value_heads": 1 << 16, "head_dim": 1 << 16, "intermediate_size": 1 << 24, "vocab_size": 1 << 24,
            "max_position_embeddings": 1 << 24}
kinds = [("12", '"12"'), (True, "true"), (1.5, "1.5"), (1 << 70, "1.1805916207174113e+21"), ([], "an array"),
         ({}, "an object")]
for number, (key, most) in enumerate(integers.items()):
    for value in (0, -4, 1 << 62):
        config(f"{C}key '{key}' is {value}, expected 1 to {most}", **{key: value})
    for value, shown in (kinds[number % len(kinds)], kinds[(number + 2) % len(kinds)]):
        config(f"{C}key '{key}' is {shown}, expected an integer", **{key: value})
    if key not in ("num_key_value_heads", "head_dim"):  # these have defaults
        config(f"{C}key '{key}' is missing", **{key: None})

small = "expected a number of at least 0 that fits into 32 bits"
config(f"{C}key 'rms_norm_eps' is -1e-06, {small}", rms_norm_eps=-1e-6)
config(f"{C}key 'rms_norm_eps' is 1e+300, {small}", rms_norm_eps=1e300)
config(f"{C}key 'rms_norm_eps' is \"tiny\", expected a finite number", rms_norm_eps="tiny")
config(f"{C}key 'rope_theta' is 0.000000, expected a positive number", rope_theta=0)
config(f"{C}key 'rope_scaling.factor' is 0.000000, expected a positive number",
       rope_scaling={"rope_type": "llama3", "factor": 0})
config(f"{C}key 'rope_scaling.factor' is missing", rope_scaling={"rope_type": "llama3"})
config(f"{C}key 'rope_scaling' is 3, expected an object", rope_scaling=3)
config(f"{C}key 'tie_word_embeddings' is \"yes\", expected true or false", tie_word_embeddings="yes")
config(f"{C}key 'hidden_act' is 3, expected a string", hidden_act=3)
config(f"{C}key 'num_attention_heads' is 8, expected a multiple of {C}key 'num_key_value_heads', 3",
       num_key_value_heads=3)
config(f"{C}key 'num_attention_heads' × {C}key 'head_dim' is 4294967296, expected at most 16777216",
       num_attention_heads=1 << 16, num_key_value_heads=1 << 16, head_dim=1 << 16)
config(f"{C}key 'head_dim' is 17, expected an even number: rotary embedding turns pairs", head_dim=17)
config(f"{C}key 'hidden_size' divided by {C}key 'num_attention_heads' is 15, expected an even number: rotary embedding "
       "turns pairs", hidden_size=120, head_dim=None)
config(f"{C}key 'hidden_size' is 127, which is not a multiple of 8 ({C}key 'num_attention_heads')", hidden_size=127,
       head_dim=None)

# What is not supported says what is.
families = "supported are …"
config(f"{C}architecture 'GPTJForCausalLM' is not supported; {families}", architectures=["GPTJForCausalLM"])
config(f"{C}architecture 'bert' is not supported; {families}", architectures=None, model_type="bert")
config(f"{C}key 'architectures': expected a list of one name, got []", architectures=[])
config(f"{C}key 'architectures' is missing", architectures=None, model_type=None)
config(f"{C}key 'hidden_act': activation 'mish' is not supported; supported are silu, gelu, gelu_pytorch_tanh, relu",
       hidden_act="mish")
rope = "is not supported; supported are default, linear, dynamic, yarn, llama3, longrope"
config(f"{C}key 'rope_scaling.rope_type': rope type 'xpos' {rope}", rope_scaling={"rope_type": "xpos", "factor": 2})
config(f"{C}key 'rope_scaling.type': rope type 'axial' {rope}", rope_scaling={"type": "axial", "factor": 2})
config(f"{C}key 'rope_parameters.rope_type': rope type 'xpos' {rope}", rope_parameters={"rope_type": "xpos"})
config(f"{C}key 'rope_scaling.factor' is 0.500000, expected at least 1", rope_scaling={"type": "dynamic", "factor": 0.5})
config(f"{C}key 'rope_parameters.beta_fast' is -1.000000, expected a positive number",
       rope_parameters={"rope_type": "yarn", "factor": 2, "beta_fast": -1})
config(f"{C}key 'rope_scaling.long_factor' is missing", rope_scaling={"type": "longrope", "short_factor": [1] * 8})
config(f"{C}key 'rope_scaling.short_factor': expected a list of 8 positive numbers, got 3",
       rope_scaling={"type": "longrope", "short_factor": [1, 1, 1]})
config(f"{C}key 'partial_rotary_factor': rotates 24 of the 16 elements of a head, expected an even number from 2 to all",
       partial_rotary_factor=1.5)
config(f"{C}key 'partial_rotary_factor': rotates 0 of the 16 elements of a head, expected an even number from 2 to all",
       partial_rotary_factor=0)
config(f"{C}key 'quantization_config': quantized checkpoints are supported as GGUF; from Hugging Face "
       "folders F32, F16 and BF16 are", quantization_config={"quant_method": "gptq"})

# Values by layer.
config(f"{C}key 'layer_types' is a list of 2, expected a list of 3, as many as there are layers ({C}key "
       "'num_hidden_layers')", fixture="qwen2-window", layer_types=["full_attention", "sliding_attention"])
config(f"""{C}key 'layer_types' holds "chunked", expected "sliding_attention" or "full_attention\"""", fixture="gemma2",
       layer_types=["chunked"] * 3)
config(f"{C}key 'no_rope_layers' holds 2, expected 0 or 1", fixture="smollm3", no_rope_layers=[2, 0, 1, 1])
config(f"{C}key 'no_rope_layer_interval' is 0, expected 1 to 16777216", fixture="smollm3", no_rope_layers=None,
       no_rope_layer_interval=0)
config(f"{C}key 'logits_scaling': 1 / logits_scaling is inf, expected a number of at least 0 that fits into 32 bits",
       fixture="granite", logits_scaling=0)
config(f"{C}key 'attention_bias' is true: biases are not supported", fixture="gemma", attention_bias=True)

# Experts.
config(f"{C}key 'num_experts_per_tok' is 9, expected at most the number of experts, 5", fixture="mixtral",
       num_experts_per_tok=9)
config(f"{C}key 'num_local_experts' is 5000, expected 1 to 4096", fixture="mixtral", num_local_experts=5000)
config("<0>/model.safetensors: tensor 'model.layers.0.block_sparse_moe.gate.weight' has shape [5, 64], expected [4, 64]: "
       f"dimension 0 contradicts {C}key 'num_local_experts' (4)", fixture="mixtral", num_local_experts=4)
config("<0>: tensor 'model.layers.0.block_sparse_moe.experts.5.w2.weight' is missing: family mixtral expects it with "
       "shape [64, 66]", fixture="mixtral", num_local_experts=6)
sparse = "layers without experts are not supported beside those with experts"
config(f"{C}key 'decoder_sparse_step' is 2: {sparse}", fixture="qwen3-moe", decoder_sparse_step=2)
config(f"{C}key 'mlp_only_layers' is [1]: {sparse}", fixture="qwen3-moe", mlp_only_layers=[1])

text(C + "not valid JSON: line 1, column 1: syntax error while parsing value - unexpected end of input; expected '[', "
     "'{', or a literal", b"")
text(C + "nested deeper than 64 levels", b"[" * 100000)
text(C + "nested deeper than 64 levels", b'{"a":' * 100000)
text(C + "not valid JSON: line 1, column 7: syntax error while parsing value - invalid string: ill-formed UTF-8 byte; …",
     b'{"a":"\xff\xfe"}')
text(C + "is an array, expected an object", b"[1]")
text(C + "key 'hidden_size' occurs twice", b'{"hidden_size":12,"hidden_size":13}')
text(C + "not valid JSON: byte 18 is zero", b'{"hidden_size":12}\0')
text(C + "not valid JSON: line 1, column 16: syntax error while parsing value - invalid literal; last read: "
     "'\"hidden_size\":N'", b'{"hidden_size":NaN}')
text(C + "not valid JSON: number overflow parsing '1e400'", b'{"hidden_size":1e400}')
copy_checkpoint(fixtures / "llama3-rope", model)
(model / "config.json").unlink()
check("<0>: holds no config.json; expected a Hugging Face folder, with *.safetensors, or a .gguf file")
(model / "config.json").mkdir()
check(C + "is a folder, expected a file")
(model / "config.json").rmdir()
os.mkfifo(model / "config.json")  # nobody writes to it
check(C + "not a regular file")
copy_checkpoint(fixtures / "llama3-rope", model)
(model / "model.safetensors").unlink()
check("<0>: holds neither model.safetensors nor model.safetensors.index.json")

# Meshes and limits: 3 layers, 8 query heads.
copy_checkpoint(fixtures / "llama3-rope", model)
split = "expected {} stages of at least 1 layer, 3 layers together"
check("<0>: tensor parallel degree 9 is more than the model's 8 query heads; the largest that works is --tp 8", "--tp",
      9)
check("<0>: pipeline parallel degree 4 is more than the model's 3 layers; the largest that works is --pp 3", "--pp", 4)
check("<0>: --pp-split gives 2 stages with 2 layers; " + split.format(2), "--pp", 2, "--pp-split", "1,1")
check("--max-batch 65536 sequences of --max-seq 16777216 tokens are 68719476736 blocks of the KV cache, expected at most "
      "2147483647", "--max-batch", 65536, "--max-seq", 1 << 24, "--max-tokens", 65536)

see = "\nRun 'distc compile --help' for its options."
for flag, most in {"--tp": 65536, "--pp": 4096, "--max-batch": 65536, "--max-tokens": 1 << 20, "--max-seq": 1 << 24,
                   "--kv-block": 4096}.items():
    for value in (0, most + 1):
        check(f"{flag} is {value}, expected 1 to {most}{see}", flag, value, code=2)
check(f"--pp-split is 0, expected 1 to 65536{see}", "--pp", 2, "--pp-split", "0,3", code=2)
check(f"--pp-split is -1, expected 1 to 65536{see}", "--pp", 2, "--pp-split", "-1,4", code=2)
check(f"--pp-split gives 2 stages, expected --pp 3{see}", "--pp", 3, "--pp-split", "1,2", code=2)
check(f"--tp is -3, expected 1 to 65536{see}", "--tp", -3, code=2)
check(f"Could not convert: --pp = x; expected a whole number{see}", "--pp", "x", code=2)
check(f"--target 'tpu' is not supported; supported are cpu, sm_90{see}", "--target", "tpu", code=2)
check(f"--weights 'some': expected none{see}", "--weights", "some", code=2)
check(f"--emit: nope not in {{llm,shard,dist,plan}}{see}", "--emit", "nope", code=2)
refused(f"unknown command 'run', expected compile, verify, inspect, explain, diff, report, simulate or advise"
        "\nRun 'distc --help' for the commands, 'distc COMMAND --help' for its options.", "distc", "run", code=2)
refused(f"MODEL is required{see}", "distc", "compile", code=2)

# Where the output cannot go.
place = work / "place"
place.write_text("mine")
output = lambda message, where: refused(message, "distc", "compile", model, "-o", where, within=work, places=[work])
output("<0>/place: is not a folder; choose another with -o", place)
output("<0>/place/below: cannot create: Not a directory", place / "below")
place.unlink()
succeeds("distc", "compile", model, "-o", place)
# The folder that one is in stays, and what is in it is replaced.
for tp in (4, 1):
    succeeds("distc", "compile", model, "-o", ".", "--tp", tp, cwd=place)
    assert sorted(os.listdir(place)) == [f"rank{rank}.plan" for rank in range(tp)], os.listdir(place)

succeeds("distc", "compile", model, "-o", work / "plans", "--tp", 8, "--pp", 3, "--pp-split", "1,1,1")
