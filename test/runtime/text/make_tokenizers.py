#!/usr/bin/env python3
"""Trains tiny tokenizers of every supported kind, and says what the Python packages make of random texts with each.

    pip install tokenizers sentencepiece gguf
    test/runtime/text/make_tokenizers.py OUT [--pack DIR [--vocabularies DIR]] [--samples N] [--seed N]

OUT gets a folder, or a .gguf file, for each kind, to be given to compare_tokenizers.py. --pack writes a NAME.json.xz for each, with its
files and N texts, the ids and the text that the ids decode to: test/data/tokenizers/tiny is made by it. --vocabularies adds
such texts, without the files, for the folders and .gguf files in DIR.
"""
import argparse
import io
import json
import lzma
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import compare_tokenizers
from text_cases import PATTERNS, random_text

LINES = ["The quick brown fox's 12 dogs won't jump over the lazy dog; they are lazy (since 1999)!", "  two  spaces  here ",
         "Ünïcödé straße, naïve café.", "Съешь же ещё этих мягких французских булок.", "日本語のテキスト、漢字とかな。",
         "def f(x):\n    return x ** 2", "the the the quick quick lazy lazy over over jump jump", "1234567890 42 007"] * 3
MARK = "\u2581"
TAGS = [AddedToken("<tag>", normalized=False, rstrip=True), AddedToken("<norm>", normalized=True),
        AddedToken("[s\u0326]", normalized=True)]


def save(out, name, tokenizer, config):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(config, f, indent=1)


def characters(out, name, normalizer, pre_tokenizer, decoder, byte_fallback=True, bos=True, added=TAGS):
    specials = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=byte_fallback, fuse_unk=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    bytes_ = [f"<0x{b:02X}>" for b in range(256)] if byte_fallback else []
    trainer = trainers.BpeTrainer(vocab_size=len(bytes_) + 220, special_tokens=specials + bytes_, show_progress=False,
                                  max_token_length=8)
    tokenizer.train_from_iterator(LINES, trainer)
    # The bytes are ordinary pieces of the vocabulary, not added tokens.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in specials]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_tokens(added)
    tokenizer.add_special_tokens([AddedToken("<|user|>", special=True, normalized=False, rstrip=True)])
    tokenizer.decoder = decoder
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B",
                                                                 special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    save(out, name, tokenizer, {"bos_token": "<s>", "eos_token": {"content": "</s>"},
                                "chat_template": [{"name": "tool", "template": "T"},
                                                  {"name": "default", "template": "{{ bos_token }}D"}]})


def byte_level(out, name, splits, normalizer=None, ignore_merges=False, added=TAGS, gguf_pre=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_tokens(added)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(),
        processors.TemplateProcessing(single="<s> $A </s>", pair="$A $B", special_tokens=[
            ("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))])])
    save(out, name, tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})
    if gguf_pre:
        write_gguf(os.path.join(out, f"{name}.gguf"), tokenizer, gguf_pre)


def write_gguf(path, tokenizer, pre):
    """The vocabulary alone, with the keys that llama.cpp's converter writes."""
    import gguf
    data = json.loads(tokenizer.to_str())
    added = {t["id"]: t for t in data["added_tokens"]}
    pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size(with_added_tokens=True))]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(pieces)
    writer.add_token_types([(3 if added[i]["special"] else 4) if i in added else 1 for i in range(len(pieces))])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.token_to_id("<s>"))
    writer.add_eos_token_id(tokenizer.token_to_id("</s>"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sentencepiece(out, name, **options):
    import sentencepiece as spm
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, model_type="bpe",
                                   hard_vocab_limit=False, minloglevel=2, character_coverage=1.0, num_threads=1,
                                   normalization_rule_name="identity", **options)
    with open(os.path.join(folder, "tokenizer.model"), "wb") as f:
        f.write(model.getvalue())


def make_all(out):
    to_mark = normalizers.Replace(" ", MARK)
    pieces = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = decoders.Sequence(pieces + [decoders.Strip(" ", 1, 0)])
    meta = pre_tokenizers.Metaspace
    prepend = normalizers.Sequence([normalizers.Prepend(MARK), to_mark])
    characters(out, "spm-prepend", prepend, None, strip) # LLaMA 2, Mistral, Phi-3
    characters(out, "spm-unknown", prepend, None, strip, byte_fallback=False)
    characters(out, "spm-first", None, meta(MARK, "first", False), strip)
    characters(out, "spm-always-split", None, meta(MARK, "always", True),
               decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(MARK, "always")]), bos=False)
    spaces = [AddedToken(MARK * n, normalized=False) for n in (2, 3, 4)]
    characters(out, "spm-gemma", to_mark, pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence(pieces),
               added=TAGS + spaces + [AddedToken("\n\n", normalized=False)])
    byte = pre_tokenizers.ByteLevel
    plain = byte(add_prefix_space=False)

    def regex(name, behavior="isolated", invert=False):
        return [pre_tokenizers.Split(Regex(PATTERNS[name]), behavior, invert),
                byte(add_prefix_space=False, use_regex=False)]

    byte_level(out, "bytes-gpt2", [plain], gguf_pre="gpt-2")
    byte_level(out, "bytes-prefix", [byte(add_prefix_space=True)])
    byte_level(out, "bytes-smollm2", [pre_tokenizers.Digits(True), plain], gguf_pre="smollm") # Granite too
    byte_level(out, "bytes-nfc-digits", [pre_tokenizers.Digits(True), plain], normalizer=normalizers.NFC())
    byte_level(out, "bytes-neox", [plain], normalizer=normalizers.NFC(),
               added=TAGS + [AddedToken(" " * n, normalized=True) for n in range(2, 9)]) # OLMo
    byte_level(out, "bytes-punctuation", [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits(False), plain],
               ignore_merges=True)
    byte_level(out, "bytes-llama3", regex("llama3"), ignore_merges=True, gguf_pre="llama-bpe")
    byte_level(out, "bytes-olmo2", regex("llama3"), gguf_pre="dbrx")
    byte_level(out, "bytes-qwen2", regex("qwen2"), normalizer=normalizers.NFC(), gguf_pre="qwen2")
    byte_level(out, "bytes-tekken", regex("tekken"), ignore_merges=True, gguf_pre="tekken")
    byte_level(out, "bytes-phi4", regex("o200k", "removed", True), gguf_pre="gpt-4o")
    sentencepiece(out, "model-default", vocab_size=250)
    sentencepiece(out, "model-bytes", vocab_size=520, byte_fallback=True, remove_extra_whitespaces=False)
    sentencepiece(out, "model-symbols", vocab_size=520, byte_fallback=True, remove_extra_whitespaces=False,
                  user_defined_symbols=["<tag>", MARK * 2, MARK * 3, "\n\n", "qu"])
    sentencepiece(out, "model-gemma", vocab_size=520, byte_fallback=True, remove_extra_whitespaces=False,
                  add_dummy_prefix=False, user_defined_symbols=["<start_of_turn>", MARK * 2, "12"])


def expected_of(path, samples, seed):
    rng = random.Random(seed)
    reference = compare_tokenizers.reference_of(path)
    expected = []
    for _ in range(samples):
        text = random_text(rng, reference.specials)
        ids = reference.encode(text)
        expected.append({"text": text, "ids": ids, "decoded": reference.decode(ids) if reference.decode else None})
    return expected


def pack(source, target, name, args, with_files):
    files = {}
    if with_files:
        paths = [source] if os.path.isfile(source) else [os.path.join(source, f) for f in sorted(os.listdir(source))]
        for path in paths:
            with open(path, "rb") as f:
                files[os.path.basename(path)] = f.read().hex()
    data = {"files": files, "expected": expected_of(source, args.samples, args.seed)}
    with lzma.open(os.path.join(target, f"{name}.json.xz"), "wb", preset=9 | lzma.PRESET_EXTREME) as f:
        f.write(json.dumps(data, ensure_ascii=False).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--pack")
    parser.add_argument("--vocabularies")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    make_all(args.out)
    if args.pack:
        os.makedirs(args.pack, exist_ok=True)
        for folder, with_files in ((args.out, True), (args.vocabularies, False)):
            for name in sorted(os.listdir(folder)) if folder else []:
                pack(os.path.join(folder, name), args.pack, name, args, with_files)


if __name__ == "__main__":
    main()
