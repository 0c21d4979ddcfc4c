"""Trains the student on one CPU core. Resumable; the clock or a step count ends it."""
import argparse
import json
import math
import os
import time

import numpy as np
import torch
from tokenizers import Tokenizer

from data import held_out_chats, pack, train_tokenizer, training_chats
from model import Shape, Student

TOKENS_PER_STEP = 8192
SHARD = 30000          # chats generated, trained on once, and dropped: no chat text is seen in two epochs as such
LONG_EVERY = 10        # each tenth step trains on rows of the whole context


def orthogonalise(g):
    """Newton-Schulz iteration: the nearest matrix with singular values near 1 (the Muon update)."""
    x = g.bfloat16()
    flip = x.size(0) > x.size(1)
    x = x.T if flip else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if flip else x).float()


class Muon:
    """Momentum, orthogonalised: for the matrices inside the blocks. Embedding and norms go to AdamW."""

    def __init__(self, params, beta=0.95):
        self.params, self.beta = list(params), beta
        self.momentum = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def step(self, lr, decay):
        for p, m in zip(self.params, self.momentum):
            m.lerp_(p.grad, 1 - self.beta)
            u = orthogonalise(p.grad.lerp(m, self.beta))
            p.mul_(1 - lr * decay)
            p.add_(u, alpha=-lr * max(1, p.size(0) / p.size(1)) ** 0.5)


def feed(tok, seed):
    """Endless batches; every shard is freshly generated. Yields tensors of (B, T)."""
    shard = 0
    while True:
        base = seed * 100000 + shard
        short = pack(tok, training_chats(base, SHARD), 256, base)
        long = pack(tok, training_chats(base + 50000, SHARD // 60, long=True), 1024, base)
        si = li = n = 0
        while True:
            n += 1
            if n % LONG_EVERY == 0 and li + 8 <= len(long[0]):
                rows, li = [a[li: li + 8] for a in long], li + 8
            elif si + 32 <= len(short[0]):
                rows, si = [a[si: si + 32] for a in short], si + 32
            else:
                break
            yield as_batch(rows)
        shard += 1


def as_batch(rows):
    ids, w, pos, doc = (torch.from_numpy(np.ascontiguousarray(a)) for a in rows)
    # the last token of one chat must not be asked to predict the first of the next: its weight is 0 in `pack`
    return ids[:, :-1], pos[:, :-1], doc[:, :-1], ids[:, 1:], w[:, 1:]


@torch.no_grad()
def held_out_loss(model, tok, seed, count=12000):
    rows = pack(tok, held_out_chats(seed + 777, count), 512, 0)
    total = weight = 0.0
    for i in range(0, len(rows[0]), 8):
        ids, pos, doc, target, w = as_batch([a[i: i + 8] for a in rows])
        w = (w == 1.0).float()  # answers only
        if w.sum() == 0:
            continue
        with torch.autocast("cpu", torch.bfloat16):
            l = model.loss(ids, pos, doc, target, w)
        total += l.item() * w.sum().item()
        weight += w.sum().item()
    return total / weight


def schedule(progress, step):
    """Warm up for 60 steps, hold, then fall in a straight line to zero over the second half."""
    return min(1.0, (step + 1) / 60) * min(1.0, (1 - progress) / 0.55)


def train(seed, minutes, out, steps=None, resume=True, compile=True, shape=None, stop_after=None):
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    os.makedirs(out, exist_ok=True)
    shape = shape or Shape()
    tok_path, ck_path = os.path.join(out, "tokenizer.json"), os.path.join(out, "checkpoint.pt")
    if os.path.exists(tok_path) and resume:
        tok = Tokenizer.from_file(tok_path)
    else:
        tok = train_tokenizer(seed * 100000 + 99999, shape.vocab)
        tok.save(tok_path)
    model = Student(shape)
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n != "token_embd.weight"]
    others = [p for n, p in model.named_parameters() if p.dim() < 2 or n == "token_embd.weight"]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.97), weight_decay=0.0)
    step, used, log = 0, 0.0, []
    if resume and os.path.exists(ck_path):
        ck = torch.load(ck_path, weights_only=False)
        model.load_state_dict(ck["model"])
        adam.load_state_dict(ck["adam"])
        for m, saved in zip(muon.momentum, ck["muon"]):
            m.copy_(saved)
        step, used, log = ck["step"], ck["used"], ck["log"]
    loss_fn = torch.compile(model.loss, dynamic=False) if compile else model.loss
    # a resumed run goes on with shards it has not seen
    batches = feed(tok, seed if step == 0 else seed + 1000 + step)

    def save():
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.momentum, "step": step,
                    "used": used, "log": log, "shape": shape.__dict__}, ck_path + ".new")
        os.replace(ck_path + ".new", ck_path)

    begin = last = time.time()
    running, n = 0.0, 0
    while True:
        now = time.time()
        spent = used + now - begin
        progress = step / steps if steps else spent / (60 * minutes)
        if progress >= 1 or (stop_after and now - begin > 60 * stop_after):
            break
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_fn(*batch)
        loss.backward()
        s = schedule(progress, step)
        for g in adam.param_groups:
            g["lr"] = 4e-3 * s
        muon.step(0.02 * s, 0.05)
        adam.step()
        for p in model.parameters():
            p.grad = None
        running, n, step = running + loss.item(), n + 1, step + 1
        if not math.isfinite(running):
            raise SystemExit("the loss is not a number; start again with a lower rate")
        if time.time() - last > 20:
            t = time.time()
            log.append((step, round(spent, 1), round(running / n, 4)))
            print(f"step {step}  {spent / 60:5.1f} min  loss {running / n:.4f}  {n * TOKENS_PER_STEP / (t - last):.0f} tokens/s", flush=True)
            running, n, last = 0.0, 0, t
            if len(log) % 6 == 0:
                keep, used = used, used + t - begin
                save()
                used = keep
    used += time.time() - begin
    save()
    return model, tok, {"steps": step, "minutes": round(used / 60, 2), "tokens": step * TOKENS_PER_STEP, "log": log}


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--minutes", type=float, default=40)
    p.add_argument("--steps", type=int)
    p.add_argument("--stop-after", type=float)
    p.add_argument("--work", default="school/.work")
    p.add_argument("--no-compile", action="store_true")
    a = p.parse_args()
    model, tok, report = train(a.seed, a.minutes, a.work, a.steps, compile=not a.no_compile, stop_after=a.stop_after)
    print(json.dumps({k: v for k, v in report.items() if k != "log"}))
    print("held-out loss of answers", held_out_loss(model, tok, a.seed))
