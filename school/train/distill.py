"""Distillation in its plainest form: a student learns from a teacher's text (cross-entropy on the answers), and only
low-rank matrices beside its own (LoRA) are trained.

    python3 school/train/distill.py school/recipes/student.json school/.work/student/weights.safetensors \
        www/samples/desk-sharegpt.jsonl --out school/.work/taught.safetensors

It is the evidence that the page's own training can reach its aim, and an oracle for it; nothing of the page uses it.
"""
import argparse
import json
import math
import os
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from model import Linear, Student


def rows(path, tok):
    """(ids, weights) per conversation; the answer and its end are trained. A row with thoughts keeps them."""
    out = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            turns = row.get("conversations") or row["messages"]
            ids, weights = [], []
            for t in turns:
                role = {"human": "user", "gpt": "assistant"}.get(t.get("from"), t.get("role"))
                text = t.get("value", t.get("content"))
                if t.get("reasoning_content"):
                    text = f"<think>\n{t['reasoning_content']}\n</think>\n\n{text}"
                for part, w in ((f"<|im_start|>{role}\n", 0), (f"{text}<|im_end|>", role == "assistant"), ("\n", 0)):
                    piece = tok.encode(part, add_special_tokens=False).ids
                    ids += piece
                    weights += [float(w)] * len(piece)
            out.append((ids, weights))
    return out


def as_batch(some):
    T = max(len(i) for i, _ in some)
    ids, w, doc = np.zeros((len(some), T), np.int64), np.zeros((len(some), T), np.float32), np.zeros((len(some), T), np.int64)
    for k, (i, v) in enumerate(some):
        ids[k, : len(i)], w[k, : len(i)], doc[k, : len(i)] = i, v, 1
    ids, w, doc = map(torch.from_numpy, (ids, w, doc))
    pos = torch.arange(T)[None].expand(len(some), T)
    return ids[:, :-1], pos[:, :-1], doc[:, :-1], ids[:, 1:], w[:, 1:]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("recipe")
    p.add_argument("weights")
    p.add_argument("traces")
    p.add_argument("--tokenizer", default="school/.work/tokenizer.json")
    p.add_argument("--out", required=True)
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--alpha", type=float, default=32)
    p.add_argument("--rate", type=float, default=3e-3)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    with open(a.recipe, encoding="utf-8") as f:
        model = Student(json.load(f)["shape"])
    model.load_state_dict(load_file(a.weights))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, Linear):
            module.adapt(a.rank, a.alpha)
    trained = [q for q in model.parameters() if q.requires_grad]
    print(f"{sum(q.numel() for q in trained)} of {sum(q.numel() for q in model.parameters())} numbers are trained")
    data = rows(a.traces, Tokenizer.from_file(a.tokenizer))
    adam = torch.optim.AdamW(trained, lr=a.rate, weight_decay=0.0)
    order = []
    for step in range(a.steps):
        if len(order) < a.batch:
            order += torch.randperm(len(data)).tolist()
        batch, order = order[: a.batch], order[a.batch:]
        warm = max(3, a.steps // 20)
        for g in adam.param_groups:
            g["lr"] = a.rate * (min(1, (step + 1) / warm) if step < warm else 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / (a.steps - warm))))
        loss = model.loss(*as_batch([data[i] for i in batch]))
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        if step % 10 == 0 or step == a.steps - 1:
            print(f"step {step + 1}  loss {loss.item():.4f}", flush=True)
    save_file(model.tensors(), a.out)


if __name__ == "__main__":
    main()
