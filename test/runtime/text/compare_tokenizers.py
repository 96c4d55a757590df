#!/usr/bin/env python3
"""Holds distc's tokenizer against the Python packages `tokenizers` and `sentencepiece` on random and multilingual texts.

    pip install tokenizers sentencepiece protobuf gguf
    cmake --preset runtime -DDISTC_READERS=ON && cmake --build build-runtime --target text_driver
    test/runtime/text/compare_tokenizers.py build-runtime/bin/text_driver CHECKPOINT [--count 3000] [--seed N]

CHECKPOINT is a folder with tokenizer.json, or tokenizer.model, or a .gguf file with a byte-level (pre-tokenizer smollm or
gpt-2) or a SentencePiece vocabulary.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import time

CORPUS = """The quick brown fox's 12 dogs won't jump; they're lazy (since 1999)! I'LL see, you'Ve been.
def f(x):\n    return x ** 2  # square\n\n\tif (a && b) { puts("\\n"); }
Ünïcödé straße, naïve café, Ångström. Zażółć gęślą jaźń. Příliš žluťoučký kůň.
Съешь же ещё этих мягких французских булок. Ελληνικά γράμματα. עברית נִקּוּד. العَرَبِيَّة ١٢٣.
हिन्दी में लिखा १२३। বাংলা ภาษาไทย ကမ္ဘာ កម្ពុជា 日本語のテキスト、漢字とかな。 中文测试:你好,世界! 한국어 텍스트
🦙🚀 👩‍👩‍👧‍👦 🇫🇷 ❤️ ½ ² Ⅷ ① ǅ ﬁ e\u0301 \u1100\u1161 a\u200bb \u00a0\u3000\u180e\u2028 'ſ \x00 \x1f \x85""".split(" ")
PIECES = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "   ", "'s", "'LL", "123", "4567", "!?", "...", "\u2581", "—", "\u00a0"]


def random_text(rng, specials):
    parts = []
    for _ in range(rng.randint(0, 30)):
        kind = rng.random()
        if kind < 0.5:
            parts.append(rng.choice(CORPUS))
            if rng.random() < 0.7:
                parts.append(" ")
        elif kind < 0.75:
            parts.append(rng.choice(PIECES))
        elif kind < 0.8 and specials:
            parts.append(rng.choice(specials))
        elif kind < 0.9:
            parts.append("".join(chr(rng.randint(0x20, 0x7E)) for _ in range(rng.randint(1, 8))))
        else:
            # Assigned long ago, so that no two Unicode versions differ on it.
            low, high = rng.choice([(0xA1, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x5D0, 0x5EA), (0x621, 0x64A),
                                    (0x905, 0x939), (0xE01, 0xE2E), (0x3041, 0x3096), (0x4E00, 0x9FA5),
                                    (0xAC00, 0xD7A3), (0x1F300, 0x1F5FF), (0x300, 0x33F), (0x2000, 0x206F)])
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
    return "".join(parts)


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


def from_gguf(path):
    import gguf
    reader = gguf.GGUFReader(path)
    fields = {key.removeprefix("tokenizer.ggml."): field.contents() for key, field in reader.fields.items()
              if key.startswith("tokenizer.ggml.")}
    if fields["model"] == "llama":
        import sentencepiece
        return from_sentencepiece(sentencepiece.SentencePieceProcessor(model_proto=model_from_gguf(fields)))
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    vocab = {piece: i for i, piece in enumerate(fields["tokens"])}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(merge.split(" ")) for merge in fields["merges"]]))
    splits = {"smollm": [pre_tokenizers.Digits(individual_digits=True)], "gpt-2": []}[fields["pre"]]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits + [pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    specials = [piece for piece, kind in zip(fields["tokens"], fields["token_type"]) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in specials])
    return from_tokenizers(tokenizer, specials)


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
