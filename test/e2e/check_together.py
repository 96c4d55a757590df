#!/usr/bin/env python3
"""Many prompts in one batch: each goes on as stored, up to the first token whose stored margin is small. Prompts of a
batch are text, so the fixture is given a tokenizer, in which the prompts' ids are letters."""
import json
from pathlib import Path

from checkpoints import copy_checkpoint
from end_to_end import Check, read

PROMPT = 16  # as check_golden.py
TOGETHER = (12, 24, 40)  # prompts: each form of the stages of many tokens

check = Check(__doc__, ("fixture", False), ("meshes", True))
fixture = Path(check.options.fixture)
golden = read(fixture / "golden.safetensors")
(rows, length), ids = golden["input_ids"]
vocabulary, new = golden["logits"][0][2], golden["generated"][0][1]
prompts = [list(ids[row * length : row * length + PROMPT]) for row in range(rows)]

# The characters that stand for bytes: printable ones for themselves, letters first.
printable = sorted([*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)], key=lambda c: not chr(c).isalpha())
characters = [chr(c) for c in sorted(printable, key=lambda c: c > 0x7E)]
characters += [chr(0x100 + i) for i in range(256 - len(characters))]
used = sorted({id for prompt in prompts for id in prompt})
order = used + [id for id in range(vocabulary) if id not in used]
letters = dict(zip(order, characters))
folder = check.folder / f"together-{fixture.name}"
if check.compiles:
    copy_checkpoint(fixture, folder)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level, "model": {"type": "BPE", "dropout": None, "unk_token": None, "merges": [],
                                         "vocab": {letter: id for id, letter in letters.items()}}}))

for mesh in check.options.meshes:
    plans = check.plans(f"{fixture.name}.together", folder, mesh, "--max-batch", max(TOGETHER))
    if not check.runs:
        continue
    for together in TOGETHER:
        texts = check.scratch / "prompts"
        texts.write_text("".join("".join(letters[id] for id in prompts[i % rows]) + "\n" for i in range(together)))
        answers = check.distrun("generate", plans, "--prompts", texts, "--print-ids", "--ignore-eos", "--max-new-tokens", new).splitlines()
        assert len(answers) == together, answers
        tokens = 0
        for i, answer in enumerate(answers):
            row = slice(i % rows * new, (i % rows + 1) * new)
            margins = golden["margin"][1][row]
            sure = next((i for i, margin in enumerate(margins) if margin < check.margin), new)
            generated, expected = list(map(int, answer.split())), list(golden["generated"][1][row])
            assert generated[:sure] == expected[:sure], f"prompt {i}: {generated} differs from {expected} within {sure} tokens"
            tokens += sure
        assert tokens > 0, "no margin is large enough to compare a token"
        print(f"{fixture.name} {mesh}: {together} prompts go on as stored, {tokens} tokens", flush=True)
