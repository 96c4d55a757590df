#!/usr/bin/env python3
"""Holds distc's chat templates against the Python package jinja2, set up as transformers sets it up.

    pip install jinja2 gguf
    cmake --preset runtime -DDISTC_READERS=ON && cmake --build build-runtime --target text_driver
    test/runtime/text/compare_templates.py build-runtime/bin/text_driver [TEMPLATE_SOURCE ...] [--write FILE]

TEMPLATE_SOURCE is a .gguf file, a tokenizer_config.json or a .jinja file. The templates of templates.json and templates/ are
always compared: those of templates/ are ours, with the constructs that the families' own have. --write keeps what jinja2 makes of those two,
for ChatTemplateTest: test/data/chat-templates.json.xz is made by it.
"""
import argparse
import datetime
import glob
import json
import lzma
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
    [{"role": "system", "content": "Use tools. /no_think"}, {"role": "user", "content": "Weather in Köln and Rome?"},
     {"role": "assistant", "content": None, "tool_calls": [
         {"id": "abcdefgh1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}},
         {"id": "abcdefgh2", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
     {"role": "tool", "tool_call_id": "abcdefgh1", "name": "weather", "content": "{\"celsius\": 7.5}"},
     {"role": "tool", "tool_call_id": "abcdefgh2", "name": "weather", "content": "sunny"}],
    [{"role": "user", "content": "2+2?"},
     {"role": "assistant", "content": "It is 4.", "reasoning_content": "easy\n", "tool_calls": [
         {"type": "function", "function": {"name": "add", "arguments": "{\"a\": 2}"}}]},
     {"role": "tool", "content": "4"}, {"role": "assistant", "content": "\n\nFour."}, {"role": "user", "content": "Sure?"}],
]
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather <of> a \"city\"", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
        "required": ["city"]}, "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}},
]
# What a caller may give beside messages. Each set goes with every template of a family.
VARIABLES = [
    {},
    {"tools": TOOLS, "date_string": "1 May 2025"},
    {"enable_thinking": False, "date_string": "1 May 2025"},
    {"enable_thinking": True, "thinking": True, "documents": [{"title": "a", "text": "A."}, {"title": "b", "text": "B."}],
     "controls": {"citations": True}, "date_string": "1 May 2025", "tools": TOOLS[:1]},
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
    env.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
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


def render(env, source, variables):
    """The text, or None where jinja2 refuses; and why."""
    try:
        return env.from_string(source).render(**variables), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def cases_of(own, others):
    """(template, variables): every chat, with and without the prompt of an answer; a family's with what callers give beside."""
    for source, is_family in own + others:
        for chat in CHATS:
            for prompt in (False, True):
                for extra in VARIABLES if is_family else VARIABLES[:1]:
                    yield source, {"messages": chat, "tools": None, "documents": None, "add_generation_prompt": prompt,
                                   "bos_token": "<s>", "eos_token": "</s>", **extra}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("driver")
    parser.add_argument("sources", nargs="*", metavar="TEMPLATE_SOURCE")
    parser.add_argument("--write", metavar="FILE")
    args = parser.parse_args()
    driver = subprocess.Popen([args.driver, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              encoding="utf-8")
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "templates.json")) as f:
        # The first few are whole templates, the others try one construct each.
        own = [(source, len(source) > 600) for source in json.load(f)]
    for path in sorted(glob.glob(os.path.join(here, "templates", "*.jinja"))):
        own += [(source, True) for source in templates_of(path)]
    others = [(source, True) for path in args.sources for source in templates_of(path)]
    env = environment()
    written = []
    compared, failures, refused = 0, 0, 0
    for source, variables in cases_of(own, others):
        expected, why = render(env, source, variables)
        driver.stdin.write(json.dumps({"template": source, "variables": variables}) + "\n")
        driver.stdin.flush()
        reply = json.loads(driver.stdout.readline())
        compared += 1
        refused += expected is None
        is_dated = "strftime_now" in source and "date_string" not in variables
        if (source, True) not in others and not is_dated:
            written.append({"template": source, "variables": variables, "text": expected})
        if reply.get("text") != expected:
            failures += 1
            if failures <= 20:
                print(f"template {source[:300]!r}\n  variables {variables}\n  got {reply}\n  expected "
                      f"{repr(expected) if expected is not None else why}")
    driver.stdin.close()
    if args.write:
        with lzma.open(args.write, "wb", preset=9 | lzma.PRESET_EXTREME) as f:
            f.write(json.dumps(written, ensure_ascii=False).encode())
    print(f"{len(own) + len(others)} templates, {compared} renderings ({refused} refused by both or one), "
          f"{failures} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
