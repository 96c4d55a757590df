#!/usr/bin/env python3
"""Trains tiny tokenizers of every supported kind, one folder each, with sample texts and the ids that the Python packages
give: test/data/tokenizers/tiny is made by it, and compare_tokenizers.py can be run on each.

    pip install tokenizers sentencepiece
    test/runtime/text/make_tokenizers.py OUT
"""
import io
import json
import os
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LINES = ["The quick brown fox's 12 dogs won't jump over the lazy dog; they are lazy (since 1999)!", "  two  spaces  here ",
         "Ünïcödé straße, naïve café.", "Съешь же ещё этих мягких французских булок.", "日本語のテキスト、漢字とかな。",
         "def f(x):\n    return x ** 2", "the the the quick quick lazy lazy over over jump jump", "1234567890 42 007"] * 3
SAMPLES = ["", " ", "Hello world", " Hello  world ", "the quick brown fox's 12 dogs", "a<tag>b <tag> c", "<s>the</s> lazy",
           "x <mask> y", "Ünïcödé e\u0301 日本語 🦙", "\n\n  return x\t", "1999 007!?", "\u2581the\u2581 quick", "(since) 42"]
MARK = "\u2581"


def save(out, name, tokenizer, config, samples=SAMPLES):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(config, f, indent=1)
    expected = []
    for text in samples:
        ids = tokenizer.encode(text, add_special_tokens=True).ids
        expected.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    with open(os.path.join(folder, "expected.json"), "w") as f:
        json.dump(expected, f, ensure_ascii=False, indent=0)


def characters(out, name, normalizer, pre_tokenizer, decoder, byte_fallback=True, **options):
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
    tokenizer.add_tokens([AddedToken("<tag>", normalized=False)])
    tokenizer.decoder = decoder
    if options.get("bos", True):
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B",
                                                                 special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    save(out, name, tokenizer, {"bos_token": "<s>", "eos_token": {"content": "</s>"},
                                "chat_template": [{"name": "tool", "template": "T"},
                                                  {"name": "default", "template": "{{ bos_token }}D"}]})


def byte_level(out, name, splits, normalizer=None, **options):
    tokenizer = Tokenizer(models.BPE(ignore_merges=options.get("ignore_merges", False)))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_tokens([AddedToken("<tag>", normalized=False, rstrip=True)])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(),
        processors.TemplateProcessing(single="<s> $A </s>", pair="$A $B", special_tokens=[
            ("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))])])
    save(out, name, tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})


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
    processor = spm.SentencePieceProcessor(model_proto=model.getvalue())
    expected = []
    for text in SAMPLES:
        if "<s>" in text or "<mask>" in text:
            continue  # SentencePiece does not parse control pieces; distc's samples do
        ids = [processor.bos_id()] + processor.encode(text)
        expected.append({"text": text, "ids": ids, "decoded": None})
    with open(os.path.join(folder, "expected.json"), "w") as f:
        json.dump(expected, f, ensure_ascii=False, indent=0)


def main(out):
    to_mark = normalizers.Replace(" ", MARK)
    pieces = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = decoders.Sequence(pieces + [decoders.Strip(" ", 1, 0)])
    meta = pre_tokenizers.Metaspace
    characters(out, "spm-prepend", normalizers.Sequence([normalizers.Prepend(MARK), to_mark]), None, strip)
    characters(out, "spm-unknown", normalizers.Sequence([normalizers.Prepend(MARK), to_mark]), None, strip,
               byte_fallback=False)
    characters(out, "spm-first", None, meta(MARK, "first", False), strip)
    characters(out, "spm-always-split", None, meta(MARK, "always", True), 
               decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(MARK, "always")]), bos=False)
    characters(out, "spm-plain", to_mark, pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence(pieces))
    byte = pre_tokenizers.ByteLevel
    byte_level(out, "bytes-gpt2", [byte(add_prefix_space=False)])
    byte_level(out, "bytes-prefix", [byte(add_prefix_space=True)])
    byte_level(out, "bytes-nfc-digits", [pre_tokenizers.Digits(True), byte(add_prefix_space=False)],
               normalizer=normalizers.NFC())
    byte_level(out, "bytes-punctuation", [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits(False),
                                          byte(add_prefix_space=False)], ignore_merges=True)
    sentencepiece(out, "model-default", vocab_size=250)
    sentencepiece(out, "model-bytes", vocab_size=520, byte_fallback=True, remove_extra_whitespaces=False)


if __name__ == "__main__":
    main(sys.argv[1])
