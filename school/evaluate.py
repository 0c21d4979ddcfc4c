"""Greedy answers of the exported file, compared with the corpus on questions kept from training.

    python3 school/evaluate.py school/first.gguf --each 25
"""
import argparse
import json
import random
import re

import corpus
from check import Model
from data import held_out

# Makers whose answer is determined by the question (and the turns before it).
FIXED = ["topic", "asked", "identity", "sums", "word_sum", "too_big", "counting", "opposites", "colours", "calendar", "spelling", "lower", "fact", "misc_fact", "remember", "echo", "outside", "senses", "unclear"]


def accuracy(model, name, each, seed):
    """Share of last answers that are right to the letter, and the failures."""
    r = random.Random(f"{name} {seed}")
    right, wrong, tries = 0, [], 0
    total = 0
    while total < each and tries < 200000:
        tries += 1
        turns = getattr(corpus, name)(r)
        # the last question was kept from training; where a skill has too few such, any unseen-by-chance question will do
        if not held_out(turns[-1][0]) and not (name in ("unclear", "lower") or tries > 150000):
            continue
        total += 1
        messages = []
        for u, a in turns[:-1]:
            messages += [("user", u), ("assistant", a)]
        messages.append(("user", turns[-1][0]))
        got = model.answer(messages)
        if got == turns[-1][1]:
            right += 1
        else:
            wrong.append((turns[-1][0], turns[-1][1], got))
    return right, total, wrong


def story_ok(model, count, seed):
    """A story that uses the asked name and animal, and ends."""
    r = random.Random(seed)
    right = total = 0
    while total < count:
        q, a = corpus.story(r)[0]
        m = re.search(r"about an? (\w+) (?:named|called) (\w+)", q)
        if not m:
            continue
        total += 1
        got = model.answer([("user", q)])
        right += got.startswith("Once there was") and f"{m.group(1)} named {m.group(2)}" in got and got.endswith(".") and got.count(m.group(2)) >= 3
    return right, total


def table(path, each, seed=7):
    model = Model(path)
    out, failures = {}, []
    for name in FIXED:
        right, total, wrong = accuracy(model, name, each, seed)
        out[name] = [right, total]
        failures += [(name, *w) for w in wrong]
    out["story"] = list(story_ok(model, each, seed))
    return out, failures


def probe(model, path):
    """The fixed prompts of probe.json. Returns the failures."""
    with open(path, encoding="utf-8") as f:
        cases = json.load(f)["cases"]
    bad = []
    for c in cases:
        got = model.answer([("user", c["prompt"])])
        if not re.search(c["expect"], got):
            bad.append((c["prompt"], c["expect"], got))
    return bad


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("gguf")
    p.add_argument("--each", type=int, default=25)
    p.add_argument("--failures", type=int, default=40)
    a = p.parse_args()
    out, failures = table(a.gguf, a.each)
    right, total = sum(x for x, _ in out.values()), sum(x for _, x in out.values())
    for k, (x, n) in out.items():
        print(f"{k:12} {x:3} of {n}")
    print(f"together     {right} of {total}")
    for f in failures[: a.failures]:
        print(f)
