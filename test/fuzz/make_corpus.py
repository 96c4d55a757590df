#!/usr/bin/env python3
"""Writes the seeds of the fuzzers that take more than a few words of text: test/fuzz/corpus/. Run after the schema of
plans has changed: make_corpus.py DISTC."""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(folder, name, data):
    (CORPUS / folder).mkdir(parents=True, exist_ok=True)
    (CORPUS / folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def config(**more):
    return {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 128, "vocab_size": 64, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "torch_dtype": "bfloat16", **more}


def payload(plan):
    """The payload of a plan file: field 3 of the FlatBuffers table at the root."""
    root, = struct.unpack_from("<I", plan, 0)
    table = root - struct.unpack_from("<i", plan, root)[0]
    field = root + struct.unpack_from("<H", plan, table + 4 + 2 * 3)[0]
    vector = field + struct.unpack_from("<I", plan, field)[0]
    size, = struct.unpack_from("<I", plan, vector)
    return plan[vector + 4 : vector + 4 + size]


def plans(distc):
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "tiny"
        model.mkdir()
        (model / "config.json").write_text(json.dumps(config()))
        for name, flags in {"cpu": [], "stages": ["--target", "sm_90", "--sms", "2"],
                            "chunks": ["--tp", "2", "--overlap-chunks", "2", "--micro-batches", "2"]}.items():
            out = pathlib.Path(folder) / name
            subprocess.run([distc, "compile", model, "--weights", "none", "--max-batch", "2", "--max-tokens", "8",
                            "--max-seq", "64", "-o", out, *flags], check=True, stdout=subprocess.DEVNULL)
            write("plan", name, payload((out / "rank0.plan").read_bytes()))


def tokenizer_json(pieces, merges, pre, decoder, **model):
    return json.dumps({
        "version": "1.0", "added_tokens": [{"id": len(pieces), "content": "<s>", "special": True, "single_word": False,
                                            "lstrip": False, "rstrip": False, "normalized": False}],
        "normalizer": None, "pre_tokenizer": pre, "post_processor": None, "decoder": decoder,
        "model": {"type": "BPE", "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges, **model}})


def byte_pieces():
    """The characters that stand for bytes in byte-level vocabularies (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(others))]


def varint(value):
    out = b""
    while True:
        out += bytes([value & 127 | (128 if value > 127 else 0)])
        value >>= 7
        if value == 0:
            return out


def message(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def sentence_piece(pieces, kind):
    """A ModelProto: pieces (1) of text (1), score (2), type (3); trainer_spec (2) of model_type (3)."""
    out = b"".join(message(1, message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(type_))
                   for text, score, type_ in pieces)
    return out + message(2, b"\x18" + varint(kind)) + message(3, message(1, b"identity"))


def gguf(metadata):
    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def one(value):
        if isinstance(value, str):
            return 8, text(value)
        if isinstance(value, float):
            return 6, struct.pack("<f", value)
        if isinstance(value, bool):
            return 7, struct.pack("<B", value)
        return 4, struct.pack("<I", value)

    out = b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata))
    for key, value in metadata.items():
        if isinstance(value, list):
            out += text(key) + struct.pack("<IIQ", 9, one(value[0])[0], len(value)) + b"".join(one(v)[1] for v in value)
        else:
            kind, data = one(value)
            out += text(key) + struct.pack("<I", kind) + data
    return out


def main():
    plans(sys.argv[1])
    write("config", "llama", json.dumps(config()))
    write("config", "scaled", json.dumps(config(rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}, tie_word_embeddings=True, head_dim=32)))
    pieces = byte_pieces() + ["He", "ll", "llo"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False, "trim_offsets": True}
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"}, "behavior": "Isolated",
             "invert": False}
    write("tokenizer-json", "bytes", tokenizer_json(pieces, ["H e", "l l", "ll o"], {
        "type": "Sequence", "pretokenizers": [split, byte_level]}, byte_level))
    spm = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "\u2581", "a", "b", "ab", "\u2581a"]
    write("tokenizer-json", "metaspace", tokenizer_json(
        spm, ["a b", "\u2581 a"], None, {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        byte_fallback=True, unk_token="<unk>"))
    kinds = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *((f"<0x{b:02X}>", 0.0, 6) for b in range(256)),
             ("\u2581a", -1.0, 1), ("ab", -2.0, 1), ("\u2581", -3.0, 1), ("a", -4.0, 1), ("b", -5.0, 1)]
    write("tokenizer-model", "bpe", sentence_piece(kinds, 2))
    write("tokenizer-model", "unigram", sentence_piece(kinds, 1))
    common = {"general.architecture": "llama", "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    write("tokenizer-gguf", "llama", gguf({
        **common, "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": [k[0] for k in kinds],
        "tokenizer.ggml.scores": [k[1] for k in kinds], "tokenizer.ggml.token_type": [k[2] for k in kinds],
        "tokenizer.ggml.add_bos_token": True}))
    write("tokenizer-gguf", "gpt2", gguf({
        **common, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": [1] * len(pieces), "tokenizer.ggml.merges": ["H e", "l l", "ll o"]}))
    write("gguf", "metadata", gguf({**common, "list": [1, 2]}))
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    write("safetensors", "one", struct.pack("<Q", len(header)) + header + bytes(8))
    write("json", "values", '{"a": [1, -2.5e3, "\\u00e9", null, true], "b": {}}')
    write("chat", "chatml", "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] | trim + "
          "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
    write("chat", "checks", "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages if m.role != 'system' %}"
          "{% set ns.n = ns.n + 1 %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}"
          "{% elif loop.last %}{{ m.content[:3] | upper ~ eos_token }}{% endif %}{% endfor %}{{ ns.n }}")
    write("chat", "macro", "{% macro f(a, b=1) %}{{ a | default('x') }}{{ b * 2 }}{% endmacro %}{{ f('q', b=3) }}"
          "{{ [1, 2, 3] | join(', ') }}{{ range(3) | list | length }}{{ {'a': 1}.items() | list }}")


if __name__ == "__main__":
    main()
