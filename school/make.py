"""Makes the bundled student: generate, tokenize, train, measure, quantize, export, check.

    python3 school/make.py --seed 1 --minutes 40 --out school/first.gguf
"""
import argparse
import json
import math
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import torch

import evaluate
from check import Model
from export import export
from train import held_out_loss, train

SAMPLES = ["Hello!", "Who are you?", "What can you do?", "What is distillation?", "And how is it different from quantization?", "Where do my prompts go?", "what is 7 + 8", "Tell me a story about a fox named Mia.",
           "What is the capital of France?", "What is the capital of Mongolia?", "What is the opposite of hot?", "Count from 3 to 9.", "Write hello in capitals.", "Who was Napoleon?"]


def close_look(path, out):
    """Token ids of one short prompt and the five highest logits after it: what an engine must agree with."""
    m = Model(path)
    prompt = m.prompt([("user", "Who are you?")])
    ids = m.words.encode(prompt)
    y = m.logits(ids)
    top = y.argsort()[::-1][:5]
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"prompt": prompt, "ids": ids, "top5": [[int(i), round(float(y[i]), 5)] for i in top],
                   "note": "Last position; f32 forward over the weights dequantized from the file (school/check.py)."}, f, indent=1)
        f.write("\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--minutes", type=float, default=40, help="training time; ignored where --steps is given")
    p.add_argument("--steps", type=int, help="train exactly so many steps instead (the same file again on a like machine)")
    p.add_argument("--out", default=os.path.join(HERE, "first.gguf"))
    p.add_argument("--work", default=os.path.join(HERE, ".work"), help="checkpoint and tokenizer; a run that was interrupted goes on from here")
    p.add_argument("--fresh", action="store_true", help="forget what the work folder holds")
    p.add_argument("--no-compile", action="store_true", help="without a C++ compiler: slower")
    p.add_argument("--each", type=int, default=25, help="questions per skill in the table of answers")
    a = p.parse_args()
    if a.minutes <= 0 or (a.steps is not None and a.steps < 1) or a.each < 1:
        raise SystemExit("--minutes, --steps and --each must be positive")
    model, tok, report = train(a.seed, a.minutes, a.work, a.steps, resume=not a.fresh, compile=not a.no_compile)
    loss = held_out_loss(model, tok, a.seed)
    print(f"held-out loss of the answers {loss:.4f}, perplexity {math.exp(loss):.4f}")
    count = export(a.work, a.out)
    print(f"{count} parameters, {os.path.getsize(a.out)} bytes")

    m = Model(a.out)
    # the file's own tokenizer against the one it was trained with
    for text in ["Hello, what's 12 + 7?", "  two  blanks\n\nand lines ", "na\u00efve \u4f60\u597d \U0001f642 don't", "1. one\n- two **three** {\"a\": 4}"]:
        assert m.words.encode(text) == tok.encode(text).ids, text
        assert m.words.decode(m.words.encode(text)) == text
    # the quantized file against the trained network, on one prompt
    ids = m.words.encode(m.prompt([("user", "Who are you?")]))
    with torch.no_grad():
        t = torch.tensor([ids])
        x = model.eval().hidden(t, torch.arange(len(ids))[None], torch.ones_like(t))
        want = (x @ model.token_embd.weight.T)[0, -1].numpy()
    print(f"largest difference of a logit by quantization {abs(want - m.logits(ids)).max():.4f}")
    close_look(a.out, os.path.join(HERE, "first-logits.json"))

    for q in SAMPLES:
        print(f"> {q}\n{m.answer([('user', q)])}")
    out, failures = evaluate.table(a.out, a.each)
    for k, (x, n) in out.items():
        print(f"{k:12} {x:3} of {n}")
    for f in failures[:60]:
        print(f)
    probe = os.path.join(HERE, "probe.json")
    if os.path.exists(probe):
        bad = evaluate.probe(m, probe)
        print(f"probe: {len(bad)} of the prompts fail", *bad, sep="\n")
    print(json.dumps({**{k: v for k, v in report.items() if k != "log"}, "loss": round(loss, 4), "perplexity": round(math.exp(loss), 4), "parameters": count, "answers": out}))


if __name__ == "__main__":
    main()
