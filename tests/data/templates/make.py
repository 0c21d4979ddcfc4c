#!/usr/bin/env python3
"""Writes cases.json: what Jinja2, set up as the library transformers sets it up, makes of the templates of this folder.

Needs jinja2 (3.1). The templates are written for this project, in the ways of those that model files bring. Run it after a
template or a chat has changed, and look at the difference: the file is the test's oracle.
"""

import json
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = Path(__file__).parent
DATE = "2026-11-24T09:05:03"


class Generation(Extension):
    """{% generation %} marks what the assistant wrote; it changes no text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    def _inside(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.fromisoformat(DATE).strftime(form)
    return env


def call(name, arguments, number=0):
    return {"id": f"call{number:05}", "type": "function", "function": {"name": name, "arguments": arguments}}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a place, in \"plain\" words: it's <hot> & dry.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "Town, e.g. Zürich"},
                    "days": {"type": "integer", "minimum": 1, "enum": [1, 3, 7]},
                    "exact": {"type": ["boolean", "null"], "default": None},
                },
                "required": ["place"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "  The time. ", "parameters": {"type": "object", "properties": {}}}},
]

CHATS = {
    "one": [{"role": "user", "content": "Hello!"}],
    "system": [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "  Who are you?\n"},
        {"role": "assistant", "content": "\nA student. "},
        {"role": "user", "content": "Good — and \"what\" do you do?\t<b>&</b> 你好 🙂"},
    ],
    "thought": [
        {"role": "system", "content": "Think. /think"},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\n4"},
        {"role": "user", "content": "3 + 3?"},
        {"role": "assistant", "content": "6", "reasoning_content": "Three and three."},
    ],
    "thought-open": [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "<think>\nTwo.\n</think>\n\n4", "reasoning_content": "Two and two."},
        {"role": "user", "content": "/no_think and now?"},
    ],
    "tools": [
        {"role": "system", "content": "Use functions."},
        {"role": "user", "content": "Weather in Zürich?"},
        {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"place": "Zürich", "days": 3, "f": 1.0, "n": None, "l": ["a", {"b": True}]})]},
        {"role": "tool", "name": "get_weather", "content": "{\"sky\": \"blue\"}", "tool_call_id": "call00000"},
    ],
    "tools-done": [
        {"role": "user", "content": "Weather and time?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call("get_weather", {"place": "Bern"}), call("now", {}, 1)]},
        {"role": "tool", "content": "sunny", "tool_call_id": "call00000"},
        {"role": "tool", "content": "noon", "tool_call_id": "call00001"},
        {"role": "assistant", "content": "Sunny, and it is noon."},
        {"role": "user", "content": "Thanks!"},
    ],
    "parts": [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is this? "}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        {"role": "user", "content": "Sure?"},
    ],
    "two-users": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "stranger": [{"role": "narrator", "content": "Once."}],
    "answer-last": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1, 2"}],
    "answered": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n<answer>\nHo\n</answer>"},
        {"role": "user", "content": "Bye"},
    ],
    "system-tools": [
        {"role": "system", "content": "Help.", "tools": "[{\"name\": \"f\"}]"},
        {"role": "user", "content": "Go"},
    ],
    "empty": [],
}

# Template, chat, and what is told besides.
PAIRS = [
    (template, chat, options)
    for template, pairs in {
        "chatml": [("one", {}), ("system", {}), ("answer-last", {"add_generation_prompt": False}), ("parts", {}), ("empty", {})],
        "llama3": [
            ("one", {}), ("system", {}), ("tools", {"tools": TOOLS}), ("tools", {"tools": TOOLS, "tools_in_user_message": False}),
            ("tools-done", {"tools": TOOLS}), ("system", {"date_string": "26 Jul 2024"}), ("empty", {}),
        ],
        "qwen3": [
            ("one", {}), ("system", {"enable_thinking": False}), ("thought", {}), ("thought", {"add_generation_prompt": False}),
            ("thought-open", {"enable_thinking": True}), ("tools", {"tools": TOOLS}), ("tools-done", {"tools": TOOLS}),
        ],
        "qwen-coder": [("one", {}), ("tools", {"tools": TOOLS}), ("tools-done", {"tools": TOOLS}), ("system", {})],
        "gemma": [("one", {}), ("system", {}), ("parts", {}), ("two-users", {}), ("answer-last", {"add_generation_prompt": False})],
        "phi3": [("one", {}), ("system", {}), ("answer-last", {"add_generation_prompt": False})],
        "phi4-mini": [("system", {}), ("system-tools", {}), ("tools", {"tools": TOOLS})],
        "mistral": [
            ("one", {}), ("system", {}), ("tools", {"tools": TOOLS}), ("tools-done", {"tools": TOOLS}), ("two-users", {}), ("stranger", {}),
        ],
        "granite": [
            ("one", {}), ("system", {}), ("tools", {"tools": TOOLS}), ("one", {"tools": TOOLS}),
            ("one", {"documents": [{"doc_id": 1, "text": "Cats sleep."}], "controls": {"length": "short"}}), ("one", {"thinking": True}),
        ],
        "smollm3": [
            ("one", {}), ("one", {"enable_thinking": False}), ("thought", {}), ("thought-open", {"enable_thinking": False}),
            ("tools", {"tools": TOOLS}), ("system", {"xml_tools": ["{'a': 1}"]}),
        ],
        "lfm2": [("one", {}), ("system", {}), ("tools", {"tools": TOOLS}), ("parts", {}), ("tools-done", {"tools": ["f"]})],
        "hunyuan": [("one", {}), ("system", {}), ("answered", {"enable_thinking": False}), ("answered", {"enable_thinking": True})],
        "exaone": [
            ("one", {}), ("thought", {"skip_think": False, "add_generation_prompt": False}), ("tools", {"tools": TOOLS}),
            ("tools-done", {"tools": TOOLS, "enable_thinking": True}), ("stranger", {}),
        ],
        "deepseek": [("one", {}), ("system", {}), ("thought", {}), ("tools", {}), ("tools-done", {})],
        "olmo": [("one", {}), ("system", {}), ("one", {"tools": TOOLS}), ("answer-last", {"add_generation_prompt": False}), ("tools-done", {"tools": None})],
        "ernie": [("one", {}), ("system", {}), ("answer-last", {})],
        "values": [("one", {})],
        "whitespace": [("one", {})],
        "blocks": [("one", {})],
    }.items()
    for chat, options in pairs
]


def main():
    env = environment()
    cases = []
    for template, chat, options in PAIRS:
        options = {"add_generation_prompt": True, **options}
        source = (HERE / f"{template}.jinja").read_text(encoding="utf-8")
        names = {"bos_token": "<s>", "eos_token": "</s>", **options}
        case = {"template": template, "chat": chat, "options": options}
        try:
            case["prompt"] = env.from_string(source).render(messages=CHATS[chat], **names)
        except (jinja2.exceptions.TemplateError, TypeError) as error:
            # Words of the template are the same here and there; Python's are not.
            own = type(error) is jinja2.exceptions.TemplateError
            case["refusal"] = str(error) if own else None
        cases.append(case)
    out = {"date": DATE, "chats": CHATS, "cases": cases}
    (HERE / "cases.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(len(cases), "cases,", sum("refusal" in case for case in cases), "of them refused")


if __name__ == "__main__":
    main()
