"""The network in PyTorch: a decoder in the style of Qwen3, sized for a web page.

B batch, T time, D width, H query heads, K key/value heads, E head width, F feed-forward width, V vocabulary.
Names of parameters are those of the GGUF file.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F


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


class Linear(nn.Linear):
    """A matrix without bias, and beside it a low-rank change (LoRA) where one is being trained."""

    def __init__(self, columns, rows):
        super().__init__(columns, rows, bias=False)
        self.lora = None

    def adapt(self, rank, alpha):
        bound = self.in_features ** -0.5
        self.lora_a = nn.Parameter(torch.empty(rank, self.in_features).uniform_(-bound, bound))
        self.lora_b = nn.Parameter(torch.zeros(self.out_features, rank))
        self.lora = alpha / rank

    def merged(self):
        return self.weight if self.lora is None else self.weight + self.lora * (self.lora_b @ self.lora_a)

    def forward(self, x):
        y = F.linear(x, self.weight)
        return y if self.lora is None else y + self.lora * F.linear(F.linear(x, self.lora_a), self.lora_b)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        d, q, k = s["width"], s["heads"] * s["head"], s["kv_heads"] * s["head"]
        self.attn_norm = Norm(d, s["eps"])
        self.attn_q = Linear(d, q)
        self.attn_k = Linear(d, k)
        self.attn_v = Linear(d, k)
        self.attn_output = Linear(q, d)
        self.attn_q_norm = Norm(s["head"], s["eps"])
        self.attn_k_norm = Norm(s["head"], s["eps"])
        self.ffn_norm = Norm(d, s["eps"])
        self.ffn_gate = Linear(d, s["ffn"])
        self.ffn_up = Linear(d, s["ffn"])
        self.ffn_down = Linear(s["ffn"], d)

    def forward(self, x, cos, sin, mask):
        s = self.s
        B, T, _ = x.shape
        h = self.attn_norm(x)
        q = rotate(self.attn_q_norm(self.attn_q(h).view(B, T, s["heads"], s["head"])), cos, sin)
        k = rotate(self.attn_k_norm(self.attn_k(h).view(B, T, s["kv_heads"], s["head"])), cos, sin)
        v = self.attn_v(h).view(B, T, s["kv_heads"], s["head"])
        # query head h reads key/value head h // (H/K)
        shared = s["heads"] // s["kv_heads"]
        q = q.to(v.dtype).transpose(1, 2)
        k = k.to(v.dtype).repeat_interleave(shared, dim=2).transpose(1, 2)
        v = v.repeat_interleave(shared, dim=2).transpose(1, 2)
        if x.is_cuda:
            o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:  # on a CPU the short rows make plain products several times quicker than the fused kernel
            scores = q @ k.transpose(2, 3) * s["head"] ** -0.5 + mask
            o = scores.float().softmax(-1).to(v.dtype) @ v
        x = x + self.attn_output(o.transpose(1, 2).reshape(B, T, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Student(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.token_embd = nn.Embedding(s["vocab"], s["width"])
        self.blk = nn.ModuleList(Block(s) for _ in range(s["layers"]))
        self.output_norm = Norm(s["width"], s["eps"])
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # the two writers into the residual stream start smaller, so that depth does not raise its variance
                small = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(p, std=0.02 / ((2 * s["layers"]) ** 0.5 if small else 1))
        angle = torch.arange(s["context"])[:, None] / s["theta"] ** (torch.arange(0, s["head"], 2) / s["head"])
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden(self, ids, pos, doc):
        """ids, pos, doc (B, T). A token sees earlier tokens of its own chat (`doc`) and no other."""
        B, T = ids.shape
        causal = torch.ones(T, T, dtype=torch.bool, device=ids.device).tril()
        same = (doc[:, :, None] == doc[:, None, :]) & causal
        cos, sin = self.cos[pos][:, :, None], self.sin[pos][:, :, None]
        x = self.token_embd(ids)
        kind = torch.bfloat16 if torch.is_autocast_enabled(ids.device.type) else torch.float32
        mask = torch.zeros(B, 1, T, T, dtype=kind, device=ids.device).masked_fill(~same[:, None], -1e9)
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

    def tensors(self):
        """Every tensor under its name in the GGUF file, low-rank changes merged, as f32 on the CPU."""
        out = {n: p.detach().float().cpu().contiguous() for n, p in self.named_parameters() if "lora" not in n}
        for n, m in self.named_modules():
            if isinstance(m, Linear) and m.lora is not None:
                out[n + ".weight"] = m.merged().detach().float().cpu().contiguous()
        return out
