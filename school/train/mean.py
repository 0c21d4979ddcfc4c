"""The mean of networks that went different ways from one beginning: it does better than each of them.

    python3 school/train/mean.py school/recipes/teacher.json --work OUT 0.5:FOLDER 0.5:FOLDER ...

Each FOLDER holds the weights.safetensors and training.json of a course; the shares add up to one. The courses saw other parts of the
text and ended with steps of their own, so that what is noise in one is not in another (Wortsman et al., "Model soups", 2022).
"""
import argparse
import json
import os
import sys

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from model import Student
from train import close_look, held_out_loss


def mean(a):
    torch.set_num_threads(a.threads)
    parts = [(float(share), folder) for share, _, folder in (part.partition(":") for part in a.parts)]
    if abs(sum(share for share, _ in parts) - 1) > 1e-6:
        raise SystemExit("the shares must add up to one")
    with open(a.recipe, encoding="utf-8") as f:
        shape = json.load(f)["shape"]
    model = Student(shape)
    courses = [load_file(os.path.join(folder, "weights.safetensors")) for _, folder in parts]
    model.load_state_dict({name: sum(share * course[name] for (share, _), course in zip(parts, courses)) for name in courses[0]})
    # What was trained last tells how: the others are its beginnings.
    with open(os.path.join(parts[-1][1], "training.json"), encoding="utf-8") as f:
        facts = json.load(f)
    facts["mean"] = [[round(share, 4), os.path.basename(os.path.normpath(folder))] for share, folder in parts]
    facts["logits"] = close_look(model)
    facts.pop("held_out_loss", None)
    if not a.no_ruler:
        facts["held_out_loss"] = round(held_out_loss(model, a), 5)
    os.makedirs(a.work, exist_ok=True)
    save_file(model.tensors(), os.path.join(a.work, "weights.safetensors"))
    with open(os.path.join(a.work, "training.json"), "w", encoding="utf-8") as f:
        json.dump(facts, f, indent=1)
    print(json.dumps({k: facts.get(k) for k in ("mean", "held_out_loss")}))


def arguments(words=None):
    p = argparse.ArgumentParser()
    p.add_argument("recipe")
    p.add_argument("parts", nargs="+", metavar="SHARE:FOLDER")
    p.add_argument("--work", required=True)
    p.add_argument("--tokenizer", help="by default tokenizer.json beside the work folder")
    p.add_argument("--school", default="target/release/school")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--no-ruler", action="store_true", help="skip the held-out loss")
    a = p.parse_args(words)
    a.tokenizer = a.tokenizer or os.path.join(os.path.dirname(os.path.normpath(a.work)), "tokenizer.json")
    # What the ruler asks of a training's settings.
    a.practice, a.quiet, a.device, a.shard = 0.0, 0.02, "cpu", 30000
    return a


if __name__ == "__main__":
    mean(arguments())
