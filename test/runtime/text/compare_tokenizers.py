#!/usr/bin/env python3
"""Holds distc's tokenizer against the Python packages `tokenizers` and `sentencepiece` on random and multilingual texts.

    pip install tokenizers sentencepiece protobuf gguf
    cmake --preset runtime -DDISTC_READERS=ON && cmake --build build-runtime --target text_driver
    test/runtime/text/compare_tokenizers.py build-runtime/bin/text_driver CHECKPOINT [--count 3000] [--seed N]

CHECKPOINT is a folder with tokenizer.json, or tokenizer.model, or a .gguf file with a byte-level (pre-tokenizers smollm,
gpt-2, and those of GGUF_PATTERNS) or a SentencePiece vocabulary.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import time

from text_cases import PATTERNS, random_text

class Reference:
    """encode(text) -> ids with special tokens parsed and none added; decode(ids) -> text, or None if not compared."""


def from_tokenizers(tokenizer, specials):
    ref = Reference()
    ref.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    ref.decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
    ref.specials = specials
    return ref


def from_sentencepiece(processor):
    ref = Reference()
    ref.encode = lambda text: processor.encode(text)
    ref.decode = None
    ref.specials = []
    return ref


def model_from_gguf(fields):
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    for piece, score, kind in zip(fields["tokens"], fields["scores"], fields["token_type"]):
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type = pb.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    return model.SerializeToString()


# The pattern that each tokenizer.ggml.pre stands for.
GGUF_PATTERNS = {"llama-bpe": "llama3", "dbrx": "llama3", "qwen2": "qwen2", "tekken": "tekken", "gpt-4o": "o200k"}


def from_gguf(path):
    import gguf
    reader = gguf.GGUFReader(path)
    fields = {key.removeprefix("tokenizer.ggml."): field.contents() for key, field in reader.fields.items()
              if key.startswith("tokenizer.ggml.")}
    if fields["model"] == "llama":
        import sentencepiece
        return from_sentencepiece(sentencepiece.SentencePieceProcessor(model_proto=model_from_gguf(fields)))
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    vocab = {piece: i for i, piece in enumerate(fields["tokens"])}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(merge.split(" ")) for merge in fields["merges"]],
                                     ignore_merges=fields["pre"] in ("llama-bpe", "tekken")))
    splits = {"smollm": [pre_tokenizers.Digits(individual_digits=True)], "gpt-2": []}
    if fields["pre"] in splits:
        parts = splits[fields["pre"]] + [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    else:
        pattern = PATTERNS[GGUF_PATTERNS[fields["pre"]]]
        parts = [pre_tokenizers.Split(Regex(pattern), "isolated"),
                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [piece for piece, kind in zip(fields["tokens"], fields["token_type"]) if kind == 3]
    plain = [piece for piece, kind in zip(fields["tokens"], fields["token_type"]) if kind == 4]
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in plain])
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in specials])
    return from_tokenizers(tokenizer, specials + plain)


def reference_of(path):
    if os.path.isfile(path):
        return from_gguf(path)
    if os.path.exists(os.path.join(path, "tokenizer.json")):
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
        return from_tokenizers(tokenizer, [t.content for t in tokenizer.get_added_tokens_decoder().values()])
    import sentencepiece
    return from_sentencepiece(
        sentencepiece.SentencePieceProcessor(model_file=os.path.join(path, "tokenizer.model")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("driver")
    parser.add_argument("checkpoint")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    rng = random.Random(args.seed)
    ref = reference_of(args.checkpoint)
    driver = subprocess.Popen([args.driver, args.checkpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, encoding="utf-8")

    def ask(request):
        driver.stdin.write(json.dumps(request) + "\n")
        driver.stdin.flush()
        return json.loads(driver.stdout.readline())

    failures = 0
    for i in range(args.count):
        text = random_text(rng, ref.specials)
        expected = ref.encode(text)
        reply = ask({"text": text, "special": False, "parse": True})
        problem = None
        if reply.get("ids") != expected:
            problem = f"ids {reply.get('ids', reply)}, expected {expected}"
        elif ref.decode and reply["decoded"] != ref.decode(expected):
            problem = f"decoded {reply['decoded']!r}, expected {ref.decode(expected)!r}"
        if problem:
            failures += 1
            if failures <= 5:
                print(f"text {i} {text!r}: {problem}")
        if ref.decode:
            # Any ids decode alike, also those that no text gives; but of bytes that are no UTF-8, which distc gives as
            # they are, each package makes another number of U+FFFD.
            ids = [rng.choice(expected) for _ in range(8)] if expected else []
            reply = ask({"decode": ids, "special": False})
            if "\ufffd" not in ref.decode(ids) and reply["text"] != ref.decode(ids):
                failures += 1
                if failures <= 5:
                    print(f"ids {ids}: decoded {reply['text']!r}, expected {ref.decode(ids)!r}")
    driver.stdin.close()
    print(f"{args.count} texts, {failures} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
