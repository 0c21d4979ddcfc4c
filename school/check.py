"""Reads the exported file back and runs it: an own reader, an own BPE and a plain numpy forward.

Shares no code with the trainer or the writer, so that an error in one does not hide in the other.

    python3 school/check.py school/first.gguf "Who are you?"     answers a prompt greedily
"""
import re
import struct
import sys

import numpy as np

SIZES = {0: ("<B", 1), 1: ("<b", 1), 2: ("<H", 2), 3: ("<h", 2), 4: ("<I", 4), 5: ("<i", 4), 6: ("<f", 4), 7: ("<?", 1), 10: ("<Q", 8), 11: ("<q", 8), 12: ("<d", 8)}


class File:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.b = f.read()
        assert self.b[:4] == b"GGUF"
        self.at = 4
        version, tensors, keys = self.num(4), self.num(10), self.num(10)
        assert version == 3
        self.meta = {}
        for _ in range(keys):
            key = self.text()
            self.meta[key] = self.value(self.num(4))
        heads = []
        for _ in range(tensors):
            name = self.text()
            dims = [self.num(10) for _ in range(self.num(4))]
            heads.append((name, dims, self.num(4), self.num(10)))
        start = -(-self.at // 32) * 32
        self.tensors, self.types = {}, {}
        for name, dims, kind, offset in heads:
            n = int(np.prod(dims))
            raw = self.b[start + offset:]
            if kind == 0:
                x = np.frombuffer(raw, "<f4", n)
            elif kind == 8:
                blocks = np.frombuffer(raw, np.dtype([("d", "<f2"), ("q", "i1", (32,))]), n // 32)
                x = (blocks["d"].astype(np.float32)[:, None] * blocks["q"]).reshape(-1)
            else:
                raise ValueError(f"{name}: unexpected block type {kind}")
            self.tensors[name] = x.reshape(dims[::-1]).astype(np.float32)
            self.types[name] = kind

    def num(self, kind):
        code, size = SIZES[kind]
        v = struct.unpack_from(code, self.b, self.at)[0]
        self.at += size
        return v

    def text(self):
        n = self.num(10)
        self.at += n
        return self.b[self.at - n: self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, n = self.num(4), self.num(10)
            return [self.value(inner) for _ in range(n)]
        return self.num(kind)


class Words:
    """Byte-level BPE from the file's tokens and merges."""

    def __init__(self, meta):
        self.tokens = meta["tokenizer.ggml.tokens"]
        self.id = {t: i for i, t in enumerate(self.tokens)}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(meta["tokenizer.ggml.merges"])}
        self.special = [t for t, k in zip(self.tokens, meta["tokenizer.ggml.token_type"]) if k == 3]
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        other = [b for b in range(256) if b not in plain]
        self.char = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(other)}
        self.byte = {c: b for b, c in self.char.items()}

    def pieces(self, text):
        for run in re.split(r"(\d)", text):  # each digit alone
            at = 0
            while at < len(run):
                # whitespace before a word gives its last blank to the word
                m = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:(?![^\W\d_])[^\s\d])+|\s+(?!\S)|\s+").match(run, at)
                yield m.group()
                at = m.end()

    def encode(self, text):
        ids = []
        for part in re.split("(" + "|".join(map(re.escape, self.special)) + ")", text):
            if part in self.special:
                ids.append(self.id[part])
                continue
            for piece in self.pieces(part):
                s = [self.char[b] for b in piece.encode()]
                while len(s) > 1:
                    rank, i = min((self.rank.get((s[i], s[i + 1]), 1 << 30), i) for i in range(len(s) - 1))
                    if rank == 1 << 30:
                        break
                    s[i: i + 2] = [s[i] + s[i + 1]]
                ids += [self.id[t] for t in s]
        return ids

    def decode(self, ids):
        return bytes(self.byte[c] for i in ids if self.tokens[i] not in self.special for c in self.tokens[i]).decode("utf-8", "replace")


class Model:
    """One token at a time with a KV cache, in f32 over the dequantized weights."""

    def __init__(self, path):
        f = File(path)
        self.meta, self.w, self.types = f.meta, f.tensors, f.types
        a = f.meta["general.architecture"] + "."
        g = lambda k: f.meta[a + k]
        self.L, self.H, self.K, self.E = g("block_count"), g("attention.head_count"), g("attention.head_count_kv"), g("attention.key_length")
        self.eps, self.theta = g("attention.layer_norm_rms_epsilon"), g("rope.freq_base")
        self.words = Words(f.meta)
        self.eos = f.meta["tokenizer.ggml.eos_token_id"]
        self.reset()

    def reset(self):
        self.k, self.v, self.t = [[] for _ in range(self.L)], [[] for _ in range(self.L)], 0

    def norm(self, x, w):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * w

    def rope(self, x):
        half = self.E // 2
        angle = self.t * self.theta ** (-np.arange(half) / half)
        c, s = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        return np.concatenate([x[:, :half] * c - x[:, half:] * s, x[:, half:] * c + x[:, :half] * s], 1)

    def step(self, token, want=True):
        w = self.w
        x = w["token_embd.weight"][token]
        for l in range(self.L):
            p = lambda n: w[f"blk.{l}.{n}.weight"]
            h = self.norm(x, p("attn_norm"))
            q = self.rope(self.norm((p("attn_q") @ h).reshape(self.H, self.E), p("attn_q_norm")))
            k = self.rope(self.norm((p("attn_k") @ h).reshape(self.K, self.E), p("attn_k_norm")))
            self.k[l].append(k)
            self.v[l].append((p("attn_v") @ h).reshape(self.K, self.E))
            keys, values = np.stack(self.k[l]), np.stack(self.v[l])  # (T, K, E)
            group = self.H // self.K
            out = []
            for i in range(self.H):
                s = keys[:, i // group] @ q[i] / np.sqrt(self.E)
                e = np.exp(s - s.max())
                out.append(e / e.sum() @ values[:, i // group])
            x = x + p("attn_output") @ np.concatenate(out)
            h = self.norm(x, p("ffn_norm"))
            gate = p("ffn_gate") @ h
            x = x + p("ffn_down") @ (gate / (1 + np.exp(-gate)) * (p("ffn_up") @ h))
        self.t += 1
        if want:
            return w.get("output.weight", w["token_embd.weight"]) @ self.norm(x, w["output_norm.weight"])

    def logits(self, ids):
        self.reset()
        for i in ids[:-1]:
            self.step(i, want=False)
        return self.step(ids[-1])

    def prompt(self, messages):
        """The chat template, spelled out by hand: what the file's Jinja text must give as well."""
        return "".join(f"<|im_start|>{r}\n{t}<|im_end|>\n" for r, t in messages) + "<|im_start|>assistant\n"

    def answer(self, messages, limit=160):
        y = self.logits(self.words.encode(self.prompt(messages)))
        ids = []
        while len(ids) < limit:
            i = int(y.argmax())
            if i == self.eos:
                break
            ids.append(i)
            y = self.step(i)
        return self.words.decode(ids)


if __name__ == "__main__":
    m = Model(sys.argv[1])
    chat = []
    for q in sys.argv[2:]:
        chat.append(("user", q))
        chat.append(("assistant", m.answer(chat)))
        print("user:     ", q)
        print("assistant:", chat[-1][1])
