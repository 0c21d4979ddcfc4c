"""Distillation in its plainest form: a student learns from a teacher's traces, and only low-rank matrices beside its own
(LoRA) are trained.

    python3 school/train/distill.py school/recipes/student.json school/.work/student/weights.safetensors \
        www/samples/desk-sharegpt.jsonl --out school/.work/taught.safetensors

Text alone is learned by cross-entropy on the answers. A batch file that holds probabilities is learned from with
`--requests`: three tenths cross-entropy, seven tenths forward KL to the teacher's top tokens and a bucket for the rest.
It is the evidence that the page's own training can reach its aim, and an oracle for it; nothing of the page uses it.
"""
import argparse
import json
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from model import Linear, Student

LEAST = -16.0  # logarithms of probabilities below this are raised to it


def byte_table():
    """What each letter of a byte-level token stands for (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    odd = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(odd)}


class Words:
    """The student's tokenizer, and which token stands for which bytes."""

    def __init__(self, path):
        self.tok = Tokenizer.from_file(path)
        table, special = byte_table(), {t.content for t in self.tok.get_added_tokens_decoder().values()}
        self.bytes = [b""] * self.tok.get_vocab_size()
        for token, i in self.tok.get_vocab().items():
            self.bytes[i] = token.encode() if token in special else bytes(table[c] for c in token)
        self.ids = {b: i for i, b in reversed(list(enumerate(self.bytes)))}

    def encode(self, text):
        return self.tok.encode(text, add_special_tokens=False).ids


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def conversations(path, requests):
    """(turns as (role, text), marks of the last answer or None) per row."""
    if requests:
        asked = {r["custom_id"]: r["body"]["messages"] for r in lines(requests)}
        for row in lines(path):
            choice = row["response"]["body"]["choices"][0]
            yield [(m["role"], m["content"]) for m in asked[row["custom_id"]]] + [("assistant", choice["message"]["content"])], choice["logprobs"]["content"]
        return
    for row in lines(path):
        turns = []
        for t in row.get("conversations") or row["messages"]:
            text = t.get("value", t.get("content"))
            if t.get("reasoning_content"):
                text = f"<think>\n{t['reasoning_content']}\n</think>\n\n{text}"
            turns.append(({"human": "user", "gpt": "assistant"}.get(t.get("from"), t.get("role")), text))
        yield turns, None


def aligned(marks, piece, words):
    """For each token of the answer the teacher's distribution there, [(id, probability)], where both cut the same bytes."""
    at, spans = 0, {}
    for m in marks:
        n = len(m["bytes"])
        spans[at, at + n] = m
        at += n
    at, out = 0, []
    for i in piece:
        n = len(words.bytes[i])
        m, at = spans.get((at, at + n)), at + n
        out.append(m and [(words.ids[b], math.exp(t["logprob"])) for t in m["top_logprobs"] if (b := bytes(t["bytes"])) in words.ids])
    return out


def rows(path, words, requests=None):
    """(ids, weights, the teacher's distribution per token) per conversation; the answer and its end are trained."""
    out = []
    for turns, marks in conversations(path, requests):
        ids, weights, told = [], [], []
        for role, text in turns:
            for part, w in ((f"<|im_start|>{role}\n", 0), (f"{text}<|im_end|>", role == "assistant"), ("\n", 0)):
                piece = words.encode(part)
                ids += piece
                weights += [float(w)] * len(piece)
                told += aligned(marks, piece, words) if w and marks else [None] * len(piece)
        out.append((ids, weights, told))
    return out


def as_batch(some):
    T = max(len(r[0]) for r in some)
    ids, w, doc = np.zeros((len(some), T), np.int64), np.zeros((len(some), T), np.float32), np.zeros((len(some), T), np.int64)
    for k, (i, v, _) in enumerate(some):
        ids[k, : len(i)], w[k, : len(i)], doc[k, : len(i)] = i, v, 1
    ids, w, doc = map(torch.from_numpy, (ids, w, doc))
    pos = torch.arange(T)[None].expand(len(some), T)
    return ids[:, :-1], pos[:, :-1], doc[:, :-1], ids[:, 1:], w[:, 1:]


def bucket_kl(logq, ids, p):
    """Forward KL over some tokens and a bucket for all others. logq (N, V); ids, p (N, K), unused places have p = 0."""
    some = logq.gather(1, ids)
    rest = (1 - p.sum(1)).clamp_min(0)
    inside = some.masked_fill(p == 0, float("-inf")).logsumexp(1).clamp_max(-1e-6)
    logrest = torch.log(-torch.expm1(inside)).clamp_min(LEAST)
    logp, loglast = p.clamp_min(math.exp(LEAST)).log(), rest.clamp_min(math.exp(LEAST)).log()
    return (p * (logp - some.clamp_min(LEAST))).sum(1) + rest * (loglast - logrest)


def loss_of(model, some, hard):
    """Mean over the trained tokens: cross-entropy, or with a distribution `hard` of it and forward KL for the rest."""
    ids, pos, doc, target, w = as_batch(some)
    logq = F.linear(model.hidden(ids, pos, doc), model.token_embd.weight).log_softmax(-1)
    ce = -logq.gather(2, target[..., None])[..., 0]
    total = (ce * w).sum()
    soft = [(k, t - 1, d) for k, (_, _, told) in enumerate(some) for t, d in enumerate(told) if d]
    if soft and hard < 1:
        most = max(len(d) for _, _, d in soft)
        i, p = torch.zeros(len(soft), most, dtype=torch.long), torch.zeros(len(soft), most)
        for n, (_, _, d) in enumerate(soft):
            i[n, : len(d)], p[n, : len(d)] = torch.tensor([x for x, _ in d]), torch.tensor([x for _, x in d])
        p = p / p.sum(1, keepdim=True).clamp_min(1)  # rounded probabilities may add up to a little more than one
        at = torch.tensor([k for k, _, _ in soft]), torch.tensor([t for _, t, _ in soft])
        total = total + (1 - hard) * (bucket_kl(logq[at], i, p) - ce[at]).sum()
    return total / w.sum()


@torch.no_grad()
def held_out(model, data):
    """Mean cross-entropy per trained token."""
    total = n = 0.0
    for i in range(0, len(data), 16):
        w = sum(sum(r[1]) for r in data[i: i + 16])
        total, n = total + loss_of(model, data[i: i + 16], 1.0).item() * w, n + w
    return total / n


def main():
    p = argparse.ArgumentParser()
    p.add_argument("recipe")
    p.add_argument("weights")
    p.add_argument("traces")
    p.add_argument("--tokenizer", default="school/.work/tokenizer.json")
    p.add_argument("--requests", help="the requests that a batch file answers")
    p.add_argument("--held-out", help="rows that are not trained on; their loss is printed")
    p.add_argument("--out", required=True)
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--alpha", type=float, default=32)
    p.add_argument("--rate", type=float, default=3e-3)
    p.add_argument("--memory", type=float, default=0.999, help="of the squares of gradients (AdamW's second beta)")
    p.add_argument("--decay", type=float, default=0.0)
    p.add_argument("--hard", type=float, default=0.3, help="share of cross-entropy where the teacher told probabilities")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
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
    words = Words(a.tokenizer)
    data = rows(a.traces, words, a.requests)
    apart = rows(a.held_out, words) if a.held_out else []
    told = sum(d is not None for r in data for d in r[2])
    print(f"{len(data)} rows, {sum(sum(r[1]) for r in data):.0f} trained tokens, {told} of them with probabilities")
    adam = torch.optim.AdamW(trained, lr=a.rate, betas=(0.9, a.memory), weight_decay=a.decay)
    order = []
    for step in range(a.steps):
        if len(order) < a.batch:
            order += torch.randperm(len(data)).tolist()
        batch, order = order[: a.batch], order[a.batch:]
        warm = max(3, a.steps // 20)
        for g in adam.param_groups:
            g["lr"] = a.rate * (min(1, (step + 1) / warm) if step < warm else 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / (a.steps - warm))))
        loss = loss_of(model, [data[i] for i in batch], a.hard)
        adam.zero_grad()
        loss.backward()
        size = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        if step % 10 == 0 or step == a.steps - 1:
            more = f"  held out {held_out(model, apart):.4f}" if apart and (step % 50 == 0 or step == a.steps - 1) else ""
            print(f"step {step + 1}  loss {loss.item():.4f}  gradient {size:.2f}{more}", flush=True)
    save_file(model.tensors(), a.out)


if __name__ == "__main__":
    main()
