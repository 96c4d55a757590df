#!/usr/bin/env python3
"""Holds distc's chat templates against the Python package jinja2, set up as transformers sets it up.

    pip install jinja2 gguf
    cmake --preset runtime -DDISTC_READERS=ON && cmake --build build-runtime --target text_driver
    test/runtime/text/compare_templates.py build-runtime/bin/text_driver [TEMPLATE_SOURCE ...]

TEMPLATE_SOURCE is a .gguf file, a tokenizer_config.json or a .jinja file. The templates of templates.json are always compared.
"""
import json
import os
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2.ext import Extension

CHATS = [
    [],
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  What is 1+1?\n"}],
    [{"role": "system", "content": " S\t"}, {"role": "user", "content": "Größe 日本 'x' \"y\" <b>&\\"},
     {"role": "assistant", "content": "<think>\nhm\n</think>\n\nOk."}, {"role": "user", "content": ""}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
     {"role": "assistant", "content": "d\n\n  e\rf"}],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "tool", "content": "{\"x\": 1}"}],
    [{"role": "assistant", "content": "first"}],
]


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                       extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def templates_of(path):
    if path.endswith(".gguf"):
        import gguf
        return [gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()]
    with open(path) as f:
        if path.endswith(".jinja"):
            return [f.read()]
        source = json.load(f)["chat_template"]
    return [source] if isinstance(source, str) else [entry["template"] for entry in source]


def main():
    driver = subprocess.Popen([sys.argv[1], "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              encoding="utf-8")
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates.json")) as f:
        templates = json.load(f)
    for path in sys.argv[2:]:
        templates += templates_of(path)
    env = environment()
    compared, failures, refused = 0, 0, 0
    for source in templates:
        for chat in CHATS:
            for prompt in (False, True):
                try:
                    expected = env.from_string(source).render(
                        messages=chat, tools=None, documents=None, add_generation_prompt=prompt, bos_token="<s>",
                        eos_token="</s>")
                except Exception as error:
                    expected = None
                    why = f"{type(error).__name__}: {error}"
                driver.stdin.write(json.dumps({"template": source, "messages": chat, "prompt": prompt}) + "\n")
                driver.stdin.flush()
                reply = json.loads(driver.stdout.readline())
                compared += 1
                refused += expected is None
                if reply.get("text") != expected:
                    failures += 1
                    if failures <= 20:
                        print(f"template {source[:300]!r}\n  chat {chat}\n  got {reply}\n  expected "
                              f"{repr(expected) if expected is not None else why}")
    driver.stdin.close()
    print(f"{len(templates)} templates, {compared} renderings ({refused} refused by both or one), {failures} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
