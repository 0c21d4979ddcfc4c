"""Grows a trained network into a wider one that computes the same, as a start for further training.

    python3 school/train/grow.py school/recipes/student.json school/.work/student/weights.safetensors \
        school/recipes/teacher.json school/.work/teacher/start.safetensors

Every unit of the wide network is a copy of one of the narrow; what reads copies shares the weight among them unevenly,
so that the copies get different gradients and part ways (Chen, Goodfellow, Shlens: "Net2Net", 2016). Heads are copied
with the key heads that they read. The tied head would count every copy, so the last norm is divided by their number.
"""
import json
import sys

import torch
from safetensors.torch import load_file, save_file

from model import Student


def copies(wide, narrow):
    """For each unit of the wide network the unit that it copies; every unit is copied about equally often."""
    return torch.arange(wide) % narrow


def shared(weight, place, generator, uneven):
    """Columns (out, in) -> (out, wide): each copy gets a share of its source's weight; the shares add up to one."""
    share = 1 + uneven * (2 * torch.rand(weight.shape[0], len(place), generator=generator) - 1)
    total = torch.zeros(weight.shape[0], weight.shape[1]).index_add_(1, place, share)
    return weight[:, place] * share / total[:, place]


def heads(place, width):
    """Copies of whole heads, as places of their rows."""
    return (place[:, None] * width + torch.arange(width)[None]).flatten()


def grow(old, s, w, seed=1, uneven=0.6):
    """Tensors of shape `s` to tensors of shape `w`."""
    if any(s[k] != w[k] for k in ("layers", "head", "vocab", "theta", "eps")) or w["heads"] // w["kv_heads"] != s["heads"] // s["kv_heads"]:
        raise SystemExit("these two shapes differ in more than width: layers, head width, vocabulary, groups and rope must agree")
    if w["width"] % s["width"] or w["kv_heads"] % s["kv_heads"]:
        raise SystemExit("the wide network's width and heads must be multiples of the narrow one's")
    g = torch.Generator().manual_seed(seed)
    d = copies(w["width"], s["width"])
    f = copies(w["ffn"], s["ffn"])
    group = s["heads"] // s["kv_heads"]
    kv = copies(w["kv_heads"], s["kv_heads"])
    q = (kv[:, None] * group + torch.arange(group)[None]).flatten()
    q, kv = heads(q, s["head"]), heads(kv, s["head"])
    rows = {"attn_q": q, "attn_k": kv, "attn_v": kv, "attn_output": d, "ffn_gate": f, "ffn_up": f, "ffn_down": d}
    columns = {"attn_q": d, "attn_k": d, "attn_v": d, "attn_output": q, "ffn_gate": d, "ffn_up": d, "ffn_down": f}
    new = {}
    for name, t in old.items():
        part = name.split(".")[-2]
        if name == "token_embd.weight":
            new[name] = t[:, d]
        elif name == "output_norm.weight":
            new[name] = t[d] * s["width"] / w["width"]
        elif part in rows:
            new[name] = shared(t[rows[part]], columns[part], g, uneven)
        elif part in ("attn_norm", "ffn_norm"):
            new[name] = t[d]
        else:  # the norms inside heads
            new[name] = t
    return {n: t.contiguous() for n, t in new.items()}


def main():
    recipe, weights, wide, out = sys.argv[1:5]
    with open(recipe, encoding="utf-8") as f:
        s = json.load(f)["shape"]
    with open(wide, encoding="utf-8") as f:
        w = json.load(f)["shape"]
    old = load_file(weights)
    new = grow(old, s, w)
    a, b = Student(s), Student(w)
    a.load_state_dict(old)
    b.load_state_dict(new)
    ids = torch.randint(0, s["vocab"], (2, 24), generator=torch.Generator().manual_seed(0))
    pos, doc = torch.arange(24)[None].expand(2, 24), torch.ones(2, 24, dtype=torch.long)
    with torch.no_grad():
        x = a.hidden(ids, pos, doc) @ a.token_embd.weight.T
        y = b.hidden(ids, pos, doc) @ b.token_embd.weight.T
    worst = (x - y).abs().max().item()
    print(f"largest difference of a logit {worst:.2e}, at logits of up to {x.abs().max().item():.1f}")
    if worst > 1e-2:
        raise SystemExit("the wide network does not compute what the narrow one does")
    save_file(new, out)


if __name__ == "__main__":
    main()
