#!/usr/bin/env python3
"""What SmolLM2 answers, worked out in f64 by numpy, without any code of tileloom: tests/expected.json.

    python3 reference.py MODEL.gguf [--full] [--only NAME]

Reads the GGUF file itself, decodes its blocks, splits text into tokens by its own byte-pair encoder, and runs the model with exact
keys and values. --full takes the prompts of 512 and 1023 tokens, too; without it those in the file stay as they are.
Needs numpy and regex.
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
import regex

STEPS = 64


class Gguf:
    """The metadata and tensors of a GGUF file (ggml-org/ggml, docs/gguf.md)."""

    def __init__(self, path):
        self.data, self.at = Path(path).read_bytes(), 4
        assert self.data[:4] == b"GGUF"
        _, tensors, values = self.take("I"), self.take("Q"), self.take("Q")
        self.meta = {}
        for _ in range(values):
            key = self.text()
            self.meta[key] = self.value(self.take("I"))
        told = []
        for _ in range(tensors):
            name = self.text()
            shape = [self.take("Q") for _ in range(self.take("I"))]
            told.append((name, shape, self.take("I"), self.take("Q")))
        start = -(-self.at // 32) * 32
        self.tensors = {name: (shape, kind, start + offset) for name, shape, kind, offset in told}

    def take(self, kind):
        (value,) = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def text(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            kind = self.take("I")
            return [self.value(kind) for _ in range(self.take("Q"))]
        return self.take("BbHhIif?..QqdX"[kind])

    def tensor(self, name):
        """A tensor as f64, [rows, columns] or [columns]."""
        shape, kind, at = self.tensors[name]
        count = int(np.prod(shape))
        if kind == 0:
            flat = np.frombuffer(self.data, "<f4", count, at).astype(np.float64)
        elif kind == 3:  # q4_1: d, m, 32 nibbles
            block = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)])
            blocks = np.frombuffer(self.data, block, count // 32, at)
            codes = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], 1).astype(np.float64)
            flat = codes * blocks["d"][:, None].astype(np.float64) + blocks["m"][:, None].astype(np.float64)
        elif kind == 8:  # q8_0: d, 32 bytes
            blocks = np.frombuffer(self.data, np.dtype([("d", "<f2"), ("q", "i1", 32)]), count // 32, at)
            flat = blocks["q"].astype(np.float64) * blocks["d"][:, None].astype(np.float64)
        else:
            raise SystemExit(f"{name}: GGML's type {kind} is not read here")
        return flat.reshape(shape[::-1])


class Tokens:
    """GPT-2's byte-level pairs; digits stand alone."""

    SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

    def __init__(self, meta):
        words = meta["tokenizer.ggml.tokens"]
        self.ids = {word: i for i, word in enumerate(words)}
        self.ranks = {tuple(pair.split(" ")): i for i, pair in enumerate(meta["tokenizer.ggml.merges"])}
        special = [w for w, kind in zip(words, meta["tokenizer.ggml.token_type"]) if kind == 3]
        self.special = regex.compile("(" + "|".join(map(regex.escape, special)) + ")")
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [b for b in range(256) if b not in plain]
        self.bytes = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}

    def word(self, text):
        parts = [self.bytes[b] for b in text.encode()]
        while len(parts) > 1:
            pairs = [self.ranks.get(pair, 1 << 30) for pair in zip(parts, parts[1:])]
            best = min(pairs)
            if best == 1 << 30:
                break
            i = pairs.index(best)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return [self.ids[part] for part in parts]

    def encode(self, text):
        ids = []
        for i, piece in enumerate(self.special.split(text)):
            if i % 2:
                ids.append(self.ids[piece])
                continue
            for run in regex.split(r"(\p{N})", piece):
                for word in self.SPLIT.findall(run):
                    ids += self.word(word)
        return ids


class Model:
    def __init__(self, file):
        meta = file.meta
        self.layers, self.heads = meta["llama.block_count"], meta["llama.attention.head_count"]
        self.kv_heads = meta["llama.attention.head_count_kv"]
        self.eps, self.base = meta["llama.attention.layer_norm_rms_epsilon"], meta["llama.rope.freq_base"]
        self.w = {name: file.tensor(name) for name in file.tensors}
        self.dim = self.w["blk.0.attn_q.weight"].shape[0] // self.heads
        self.cache = None

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def rotate(self, x, positions):
        """x [tokens, heads, dim]: pairs are (2i, 2i + 1), since rows of q and k are permuted so in GGUF files."""
        turns = self.base ** (-np.arange(0, self.dim, 2) / self.dim)
        angle = (positions[:, None] * turns)[:, None, :]
        a, b = x[..., 0::2], x[..., 1::2]
        y = np.empty_like(x)
        y[..., 0::2] = a * np.cos(angle) - b * np.sin(angle)
        y[..., 1::2] = a * np.sin(angle) + b * np.cos(angle)
        return y

    def run(self, ids, first):
        """Logits of tokens [ids] that stand from position `first` on; what came before is in the cache."""
        if first == 0:
            self.cache = [(np.zeros((0, self.kv_heads, self.dim)),) * 2 for _ in range(self.layers)]
        n, w = len(ids), self.w
        x = w["token_embd.weight"][ids]
        positions = np.arange(first, first + n)
        hidden = np.arange(first + n)[None, :] > positions[:, None]
        for i in range(self.layers):
            name = f"blk.{i}."
            h = self.norm(x, name + "attn_norm.weight")
            q, k, v = ((h @ w[f"{name}attn_{c}.weight"].T).reshape(n, -1, self.dim) for c in "qkv")
            q, k = self.rotate(q, positions), self.rotate(k, positions)
            k, v = (np.concatenate([old, new]) for old, new in zip(self.cache[i], (k, v)))
            self.cache[i] = (k, v)
            o = np.empty((n, self.heads, self.dim))
            for head in range(self.heads):
                of = head // (self.heads // self.kv_heads)
                scores = q[:, head] @ k[:, of].T / np.sqrt(self.dim)
                scores[hidden] = -np.inf
                scores = np.exp(scores - scores.max(-1, keepdims=True))
                o[:, head] = scores / scores.sum(-1, keepdims=True) @ v[:, of]
            x = x + o.reshape(n, -1) @ w[name + "attn_output.weight"].T
            h = self.norm(x, name + "ffn_norm.weight")
            gate, up = h @ w[name + "ffn_gate.weight"].T, h @ w[name + "ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[name + "ffn_down.weight"].T
        return self.norm(x, "output_norm.weight") @ w.get("output.weight", w["token_embd.weight"]).T


def prompts():
    """Name, text, tokens at most, and whether it is left to --full."""
    chat = lambda text: (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    )
    code = 'fn gcd(mut a: u64, mut b: u64) -> u64 {\n    while b != 0 {\n        (a, b) = (b, a % b);\n    }\n    a\n}\n\n#[test]\nfn'
    licence = (Path(__file__).resolve().parents[2] / "LICENSE-APACHE").read_text()
    return [
        ("one", "The", 1, False),
        ("chat", chat("What is the capital of France?"), 512, False),
        ("code", code, 512, False),
        ("digits", "3.14159265358979 1 1 2 3 5 8 13 21 34 55 89 144", 512, False),
        ("scripts", "Привет, мир! こんにちは世界。 שלום עולם مرحبا 😀 naïve café —", 512, False),
        ("short", licence, 129, False),
        ("long", licence, 512, True),
        ("longest", licence, 1023, True),
        ("adapter", "The canal boat carries coal to the mill", 512, False),
    ]


def adapter(model):
    """Adds factors of low rank to a model, whose elements follow from their place: those of tests/model.rs."""
    element = lambda seed, rows, cols: (np.arange(rows * cols) * 7919 + seed * 104729) % 2001 / 1000 - 1
    factor = lambda seed, rows, cols: element(seed, rows, cols).reshape(rows, cols)
    for i in range(model.layers):
        for j, (name, rank) in enumerate([("attn_q", 4), ("attn_v", 2), ("attn_k", 2), ("attn_output", 3), ("ffn_down", 5)]):
            w = model.w[f"blk.{i}.{name}.weight"]
            a, b = factor(100 * i + 2 * j, rank, w.shape[1]), factor(100 * i + 2 * j + 1, w.shape[0], rank)
            if name in ("attn_q", "attn_k"):
                # Checkpoints have the halves of a head one after the other, GGUF files have them in turns.
                b = b.reshape(-1, 2, model.dim // 2, rank).swapaxes(1, 2).reshape(-1, rank)
            w += b @ a * (0.02 / rank)


def sample(row):
    """A few logits: the best, and some from all over the vocabulary."""
    places = [*np.argsort(-row)[:8].tolist(), *range(7, len(row), 2741)]
    return {str(place): round(float(row[place]), 4) for place in places}


def main():
    full, only = "--full" in sys.argv, [b for a, b in zip(sys.argv, sys.argv[1:]) if a == "--only"]
    file = Gguf(sys.argv[1])
    tokens, model = Tokens(file.meta), Model(file)
    out = Path(__file__).parent / "tests/expected.json"
    known = json.loads(out.read_text()) if out.exists() else {}
    for name, text, most, long in prompts():
        if (long and not full) or (only and name not in only):
            continue
        ids = tokens.encode(text)
        told = text if len(ids) <= most else None
        ids = ids[:most]
        if name == "adapter":
            adapter(model)
        logits = model.run(ids, 0)
        places = sorted({0, len(ids) // 2, len(ids) - 1})
        entry = {"long": long, "text": told, "ids": ids}
        entry["logits"] = {str(place): sample(logits[place]) for place in places}
        entry["greedy"], entry["margins"], row = [], [], logits[-1]
        for step in range(STEPS):
            second, best = np.sort(row)[-2:]
            entry["greedy"].append(int(row.argmax()))
            entry["margins"].append(round(float(best - second), 3))
            row = model.run(entry["greedy"][-1:], len(ids) + step)[0]
        entry["after"] = sample(row)
        words = file.meta["tokenizer.ggml.tokens"]
        print(name, len(ids), "".join(words[i] for i in entry["greedy"]), min(entry["margins"]), flush=True)
        known[name] = entry
        lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in known.items())
        out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
