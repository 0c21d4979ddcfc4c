"""Corpus -> tokenizer -> packed rows."""
import random
import zlib

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus import as_text, chats

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QUIET = 0.1  # loss weight of what the user says and of the frame; the answers weigh 1


def held_out(message):
    """One question in fifty never reaches training, whatever chat it stands in: the ruler for unseen phrasings."""
    return len(message) >= 12 and zlib.crc32(message.encode()) % 50 == 0


def training_chats(seed, count, long=False):
    return [c for c in chats(seed, count, long) if not any(r == "user" and held_out(t) for r, t in c)]


def held_out_chats(seed, count):
    """Chats that hold at least one question kept from training."""
    return [c for c in chats(seed, count) if any(r == "user" and held_out(t) for r, t in c)]


def train_tokenizer(seed, vocab):
    t = Tokenizer(models.BPE())
    # The engine's `smollm` rule: every digit alone, then GPT-2's expression over bytes.
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), min_frequency=2)
    # the role names stand at the head of each message, as in the template, so that each becomes one token
    texts = (role + "\n" + text for c in training_chats(seed, 20000) for role, text in c)
    t.train_from_iterator(texts, trainer)
    assert t.get_vocab_size() == vocab, t.get_vocab_size()
    return t


def encode(tok, messages):
    """Token ids of a chat, and per token the weight of predicting it."""
    ids, weight = [], []
    parts = []
    for role, text in messages:
        parts.append(("<|im_start|>" + role + "\n", QUIET))
        parts.append((text + "<|im_end|>", 1.0 if role == "assistant" else QUIET))
        parts.append(("\n", QUIET))
    whole = tok.encode(as_text(messages), add_special_tokens=False)
    edge, spans = 0, []
    for s, w in parts:
        edge += len(s)
        spans.append((edge, w))
    k = 0
    for i, (a, _) in zip(whole.ids, whole.offsets):
        while a >= spans[k][0]:
            k += 1
        ids.append(i)
        weight.append(spans[k][1])
    return ids, weight


def pack(tok, chat_list, T, seed):
    """Rows of length T+1 with several chats each. Returns ids, weight, pos, doc as (N, T+1) arrays."""
    r = random.Random(seed)
    rows, open_rows = [], []
    for c in chat_list:
        ids, w = encode(tok, c)
        ids, w = ids[: T + 1], w[: T + 1]
        for row in open_rows:  # first fit among a few open rows wastes about one percent
            if len(row[0]) + len(ids) <= T + 1:
                break
        else:
            row = ([], [], [], [])
            open_rows.append(row)
            if len(open_rows) > 24:
                open_rows.sort(key=lambda x: len(x[0]))
                rows.append(open_rows.pop())
        d = row[3][-1] + 1 if row[3] else 1
        row[0].extend(ids)
        row[1].extend([0.0] + w[1:])
        row[2].extend(range(len(ids)))
        row[3].extend([d] * len(ids))
    rows += [x for x in open_rows if x[0]]
    r.shuffle(rows)
    N = len(rows)
    out = [np.zeros((N, T + 1), dt) for dt in (np.int64, np.float32, np.int64, np.int64)]
    for i, row in enumerate(rows):
        for a, part in zip(out, row):
            a[i, : len(part)] = part
    return out
