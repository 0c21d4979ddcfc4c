"""Trains a recipe's network on the school's text. Resumable; a clock or a number of steps ends it.

    python3 school/train/train.py school/recipes/student.json --minutes 60 --work school/.work/student

The text comes from the `school` program (`--school`, by default target/release/school), shard by shard: every chat is
fresh, none is seen twice. The result is `weights.safetensors` and `training.json` in the work folder.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from model import Student

LONG_EVERY = 12  # each twelfth step trains on rows of the whole context


def orthogonalise(g):
    """Newton-Schulz iteration: the nearest matrix with singular values near 1 (the update of the Muon optimizer)."""
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


def shard(a, number, length, chats, kept=False):
    """A shard of the text as arrays ids, weights, positions, chats, each (rows, length + 1)."""
    command = [a.school, "shard", a.recipe, a.tokenizer, "-", "--seed", str(a.seed), "--first", str(number), "--chats", str(chats), "--row", str(length)]
    hard = (number // a.shard) % 4 < 4 * a.practice  # of four shards in a row, so many have the shares of practice
    command += ["--kept"] if kept else ["--practice"] if hard else []
    raw = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    head, _, body = raw.partition(b"\n")
    shape = json.loads(head)
    flat = np.frombuffer(body, dtype="<u2").reshape(4, shape["rows"], shape["width"]).astype(np.int64)
    weights = np.array([0.0, a.quiet, 1.0], dtype=np.float32)  # not trained; what people write and the frame; answers
    return flat[0], weights[flat[1]], flat[2], flat[3]


def feed(a, start):
    """Endless batches (ids, pos, doc, target, weight). `start`: chats that were used before."""
    first = start
    maker = ThreadPoolExecutor(1)

    def make(first):
        # short rows and long rows from parts of the stream that never meet
        return shard(a, first, 256, a.shard), shard(a, first + 2**40, 1024, max(a.shard // 40, 64))

    ahead = maker.submit(make, first)
    while True:
        short, long = ahead.result()
        first += a.shard
        ahead = maker.submit(make, first)
        si = li = n = 0
        wide, few = a.batch // 256, max(a.batch // 1024, 1)
        while si + wide <= len(short[0]):
            n += 1
            if n % LONG_EVERY == 0 and li + few <= len(long[0]):
                rows, li = [x[li: li + few] for x in long], li + few
            else:
                rows, si = [x[si: si + wide] for x in short], si + wide
            yield first, as_batch(rows, a.device)


def as_batch(rows, device):
    ids, w, pos, doc = (torch.from_numpy(np.ascontiguousarray(x)).to(device, non_blocking=True) for x in rows)
    return ids[:, :-1], pos[:, :-1], doc[:, :-1], ids[:, 1:], w[:, 1:]


@torch.no_grad()
def held_out_loss(model, a, chats=6000):
    """Mean loss per token of the answers in chats with a kept question."""
    rows = shard(a, 2**41, 512, chats, kept=True)
    total = weight = 0.0
    for i in range(0, len(rows[0]), 16):
        ids, pos, doc, target, w = as_batch([x[i: i + 16] for x in rows], a.device)
        w = (w == 1.0).float()
        if w.sum() == 0:
            continue
        with torch.autocast(a.device, torch.bfloat16):
            l = model.loss(ids, pos, doc, target, w)
        total += l.item() * w.sum().item()
        weight += w.sum().item()
    return total / weight


@torch.no_grad()
def close_look(model):
    """The highest logits after some tokens, in f32: the runner must find them in the exported file."""
    ids = list(range(3, 27))
    t = torch.tensor([ids], device=next(model.parameters()).device)
    x = model.hidden(t, torch.arange(len(ids), device=t.device)[None], torch.ones_like(t))
    y = (x @ model.token_embd.weight.T)[0, -1].float().cpu()
    return {"ids": ids, "top": [[int(i), round(float(y[i]), 6)] for i in y.topk(8).indices]}


def schedule(progress, step, tail):
    """Warm up for 60 steps, hold, then fall in a straight line to zero over the last share `tail`."""
    return min(1.0, (step + 1) / 60) * min(1.0, max(0.0, 1 - progress) / tail)


def train(a):
    torch.manual_seed(a.seed)
    if a.device == "cpu":
        torch.set_num_threads(a.threads)
    else:
        torch.set_float32_matmul_precision("high")
    os.makedirs(a.work, exist_ok=True)
    with open(a.recipe, encoding="utf-8") as f:
        shape = json.load(f)["shape"]
    model = Student(shape).to(a.device)
    if a.start:
        model.load_state_dict(load_file(a.start))
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n != "token_embd.weight"]
    others = [p for n, p in model.named_parameters() if p.dim() < 2 or n == "token_embd.weight"]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.97), weight_decay=0.0)
    checkpoint = os.path.join(a.work, "checkpoint.pt")
    step, used, seen, log = 0, 0.0, 0, []
    if os.path.exists(checkpoint) and not a.fresh:
        ck = torch.load(checkpoint, weights_only=False, map_location=a.device)
        if ck["shape"] != shape:
            raise SystemExit("the checkpoint in the work folder is of another shape: name another folder, or give --fresh")
        model.load_state_dict(ck["model"])
        adam.load_state_dict(ck["adam"])
        for m, saved in zip(muon.momentum, ck["muon"]):
            m.copy_(saved)
        step, used, seen, log = ck["step"], ck["used"], ck["seen"], ck["log"]
    mean_of = {n: p.detach().clone() for n, p in model.named_parameters()} if a.average else {}
    if a.average and step:
        mean_of = ck.get("average") or mean_of
    loss_fn = model.loss if a.no_compile else torch.compile(model.loss, dynamic=False)
    batches = feed(a, seen or a.first)

    def save(spent):
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.momentum, "step": step, "used": spent,
                    "seen": seen, "log": log, "shape": shape, "average": mean_of}, checkpoint + ".new")
        os.replace(checkpoint + ".new", checkpoint)

    begin = last = saved = time.time()
    running, n = torch.zeros((), device=a.device), 0
    while True:
        now = time.time()
        spent = used + now - begin
        progress = step / a.steps if a.steps else spent / (60 * a.minutes)
        if progress >= 1 or (a.stop_after and now - begin > 60 * a.stop_after):
            break
        seen, batch = next(batches)
        with torch.autocast(a.device, torch.bfloat16):
            loss = loss_fn(*batch)
        loss.backward()
        s = schedule(progress, step, a.tail)
        for g in adam.param_groups:
            g["lr"] = a.embedding_rate * s
        muon.step(a.rate * s, 0.05)
        adam.step()
        for p in model.parameters():
            p.grad = None
        running, n, step = running + loss.detach(), n + 1, step + 1
        if a.average:
            with torch.no_grad():
                keep = min(a.average, step / (step + 10))  # short at first: the mean must not remember the beginning for long
                for name, p in model.named_parameters():
                    mean_of[name].lerp_(p, 1 - keep)
        if time.time() - last > a.report or step == 1:
            t, mean = time.time(), running.item() / n
            if not math.isfinite(mean):
                raise SystemExit("the loss is not a number; start again with a lower --rate")
            log.append((step, round(used + t - begin, 1), round(mean, 4)))
            print(f"step {step}  {(used + t - begin) / 60:5.1f} min  loss {mean:.4f}  {n * a.batch / (t - last):.0f} tokens/s", flush=True)
            running, n, last = torch.zeros((), device=a.device), 0, t
            if t - saved > 240:
                saved = t
                save(used + t - begin)
    used += time.time() - begin
    save(used)
    if a.average:
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(mean_of[name])
    save_file(model.tensors(), os.path.join(a.work, "weights.safetensors"))
    facts = {"steps": step, "tokens": step * a.batch, "minutes": round(used / 60, 1), "seed": a.seed, "machine": a.machine, "loss": log[0::max(1, len(log) // 12)] + log[-1:]}
    facts["logits"] = close_look(model)
    if a.earlier:
        with open(a.earlier, encoding="utf-8") as f:
            before = json.load(f)
        facts["earlier"] = before.pop("earlier", []) + [{k: before[k] for k in ("steps", "tokens", "minutes", "seed", "machine")}]
    if not a.no_ruler:
        facts["held_out_loss"] = round(held_out_loss(model, a), 5)
    with open(os.path.join(a.work, "training.json"), "w", encoding="utf-8") as f:
        json.dump(facts, f, indent=1)
    print(json.dumps({k: v for k, v in facts.items() if k != "logits"}))
    return facts


def arguments(words=None):
    p = argparse.ArgumentParser()
    p.add_argument("recipe")
    p.add_argument("--work", required=True, help="checkpoint and result; a run that was interrupted goes on from here")
    p.add_argument("--tokenizer", help="by default tokenizer.json beside the work folder")
    p.add_argument("--school", default="target/release/school")
    p.add_argument("--start", help="weights to begin with instead of chance: what grow.py made")
    p.add_argument("--earlier", help="training.json of the run that made the weights to begin with, for the card")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--minutes", type=float, default=60, help="training time; ignored where --steps is given")
    p.add_argument("--steps", type=int, help="train exactly so many steps instead")
    p.add_argument("--stop-after", type=float, help="minutes after which this run pauses; the next goes on")
    p.add_argument("--batch", type=int, default=8192, help="tokens a step")
    p.add_argument("--shard", type=int, default=30000, help="chats that are made at a time")
    p.add_argument("--first", type=int, default=0, help="number of the first chat: another part of the text")
    p.add_argument("--practice", type=float, nargs="?", const=1.0, default=0.0, metavar="PART",
                   help="shards with the shares of the second course, more of what was hardest: all of them, or a part from 0 to 1 in quarters")
    p.add_argument("--rate", type=float, default=0.02, help="of the matrices (Muon)")
    p.add_argument("--embedding-rate", type=float, default=0.004, help="of embedding and norms (AdamW)")
    p.add_argument("--quiet", type=float, default=0.1, help="weight of what people write; that of answers is 1")
    p.add_argument("--average", type=float, default=0.0, help="keep a running mean of the weights, with so much of the old at each step, and save that")
    p.add_argument("--tail", type=float, default=0.5, help="share of the run over which the rates fall to zero")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--machine", default="a CPU")
    p.add_argument("--report", type=float, default=20, help="seconds between two lines")
    p.add_argument("--fresh", action="store_true", help="forget what the work folder holds")
    p.add_argument("--no-compile", action="store_true", help="without a C++ compiler: slower")
    p.add_argument("--no-ruler", action="store_true", help="skip the held-out loss")
    a = p.parse_args(words)
    a.tokenizer = a.tokenizer or os.path.join(os.path.dirname(os.path.normpath(a.work)), "tokenizer.json")
    if not 0 <= a.practice <= 1 or not 0 <= a.average < 1:
        p.error("--practice is a part from 0 to 1, --average is at least 0 and below 1")
    if not 0 <= a.quiet < 1:
        p.error("--quiet is at least 0 and below 1")
    if a.minutes <= 0 or (a.steps is not None and a.steps < 1) or a.batch < 1024 or a.shard < 64:
        p.error("--minutes and --steps are positive, --batch is at least 1024 and --shard at least 64")
    return a


if __name__ == "__main__":
    train(arguments())
