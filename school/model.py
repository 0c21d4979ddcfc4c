"""The student's network in PyTorch: a decoder in the style of Qwen3, sized for a web page.

B batch, T time, D width, H query heads, K key/value heads, E head width, F feed-forward width, V vocabulary.
"""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Shape:
    layers: int = 6
    width: int = 256      # D
    heads: int = 4        # H
    kv_heads: int = 2     # K
    head: int = 64        # E
    ffn: int = 512        # F
    vocab: int = 1536     # V
    context: int = 1024
    theta: float = 10000.0
    eps: float = 1e-6


class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x, cos, sin):
    """Neox-style rotation: dimension i pairs with i + E/2. x (B, T, heads, E); cos, sin (B, T, 1, E/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.attn_norm = Norm(s.width, s.eps)
        self.attn_q = nn.Linear(s.width, s.heads * s.head, bias=False)
        self.attn_k = nn.Linear(s.width, s.kv_heads * s.head, bias=False)
        self.attn_v = nn.Linear(s.width, s.kv_heads * s.head, bias=False)
        self.attn_output = nn.Linear(s.heads * s.head, s.width, bias=False)
        self.attn_q_norm = Norm(s.head, s.eps)
        self.attn_k_norm = Norm(s.head, s.eps)
        self.ffn_norm = Norm(s.width, s.eps)
        self.ffn_gate = nn.Linear(s.width, s.ffn, bias=False)
        self.ffn_up = nn.Linear(s.width, s.ffn, bias=False)
        self.ffn_down = nn.Linear(s.ffn, s.width, bias=False)

    def forward(self, x, cos, sin, mask):
        s = self.s
        B, T, _ = x.shape
        h = self.attn_norm(x)
        q = rotate(self.attn_q_norm(self.attn_q(h).view(B, T, s.heads, s.head)), cos, sin)
        k = rotate(self.attn_k_norm(self.attn_k(h).view(B, T, s.kv_heads, s.head)), cos, sin)
        v = self.attn_v(h).view(B, T, s.kv_heads, s.head)
        q = q.to(v.dtype).transpose(1, 2)
        # query head h reads key/value head h // (H/K)
        k = k.to(v.dtype).repeat_interleave(s.heads // s.kv_heads, dim=2).transpose(1, 2)
        v = v.repeat_interleave(s.heads // s.kv_heads, dim=2).transpose(1, 2)
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.attn_output(o.transpose(1, 2).reshape(B, T, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Student(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.token_embd = nn.Embedding(s.vocab, s.width)
        self.blk = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.output_norm = Norm(s.width, s.eps)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # the two writers into the residual stream start smaller, so that depth does not raise its variance
                small = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(p, std=0.02 / ((2 * s.layers) ** 0.5 if small else 1))
        angle = torch.arange(s.context)[:, None] / s.theta ** (torch.arange(0, s.head, 2) / s.head)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden(self, ids, pos, doc):
        """ids, pos, doc (B, T). A token sees earlier tokens of its own chat (`doc`) and no other."""
        B, T = ids.shape
        causal = torch.ones(T, T, dtype=torch.bool, device=ids.device).tril()
        same = (doc[:, :, None] == doc[:, None, :]) & causal
        mask = torch.zeros(B, 1, T, T, dtype=torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32)
        mask = mask.masked_fill(~same[:, None], -1e9)
        cos, sin = self.cos[pos][:, :, None], self.sin[pos][:, :, None]
        x = self.token_embd(ids)
        for b in self.blk:
            x = b(x, cos, sin, mask)
        return self.output_norm(x)

    def loss(self, ids, pos, doc, target, weight):
        """Weighted mean cross-entropy; target and weight (B, T)."""
        x = self.hidden(ids, pos, doc)
        logits = F.linear(x, self.token_embd.weight)  # tied head
        ce = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="none")
        w = weight.flatten()
        return (ce * w).sum() / w.sum()
