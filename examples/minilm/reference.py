#!/usr/bin/env python3
"""all-MiniLM-L6-v2 in f64: writes tests/expected.json, which `cargo test` compares with.

Independent of tileloom and of the `tokenizers` crate: BERT's tokens, the safetensors file and the model are read and
computed here, one sentence at a time. It needs numpy.

    python3 examples/minilm/reference.py "$(tools/minilm)"
"""

import json
import math
import struct
import sys
import unicodedata
from pathlib import Path

import numpy as np

SENTENCES = [
    # Those of sentence-transformers' documentation, which tells their similarities.
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    # One word, none, and one that no vocabulary has.
    "Stadium",
    "",
    "x" * 101 + " \u16a0\u16a2\u16a6",
    # Digits and signs; code; accents that are stripped, wide spaces, a control character; other scripts.
    "Call +49 30 1234-5678 before 7:30 a.m., or pay $12.50 (incl. 7% tax).",
    "fn main() { let x: Vec<f32> = vec![0.5; 3]; println!(\"{x:?}\"); }",
    "Le caf\u00e9 de la gare\u3000est ferm\u00e9\u0007 aujourd'hui, na\u00efve E\u0301cole.",
    "\u4eca\u65e5\u306f\u5929\u6c17\u304c\u3044\u3044\u3067\u3059\u3002 \u041f\u043e\u0433\u043e\u0434\u0430 \u0441\u0435\u0433\u043e\u0434\u043d\u044f.",
    # More than the model takes: the rest is cut off.
    "A long walk along the river, past the mill and the old bridge, takes about an hour. " * 16,
    "We walked along the river for an hour, from the old bridge to the mill.",
]
PUBLISHED = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
# Elements of each embedding that are stored.
ELEMENTS = [0, 1, 61, 128, 191, 256, 383]


def read_safetensors(path):
    """Tensors of f32 by name, as f64."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"]).astype(np.float64)
    return tensors


def is_punctuation(char):
    return (char.isascii() and char.isprintable() and not char.isalnum() and char != " ") or unicodedata.category(
        char
    ).startswith("P")


def is_ideograph(char):
    blocks = [
        (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
        (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
    ]  # fmt: skip
    return any(low <= ord(char) <= high for low, high in blocks)


def words(text):
    """BERT's words of a text: lower case, no accents; each mark and each ideograph by itself."""
    spaced = ""
    for char in text:
        if char in "\t\n\r" or unicodedata.category(char) == "Zs":
            spaced += " "
        elif char not in "\0\ufffd" and not unicodedata.category(char).startswith("C"):
            spaced += f" {char} " if is_ideograph(char) else char
    bare = "".join(c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn").lower()
    return "".join(f" {c} " if is_punctuation(c) else c for c in bare).split()


def pieces(word, vocabulary):
    """WordPiece: the longest entry that fits, again and again; a word that does not come out is unknown."""
    ids, start = [], 0
    while start < len(word) <= 100:
        prefix = "##" if start else ""
        end = next((e for e in range(len(word), start, -1) if prefix + word[start:e] in vocabulary), None)
        if end is None:
            return [vocabulary["[UNK]"]]
        ids.append(vocabulary[prefix + word[start:end]])
        start = end
    return ids or [vocabulary["[UNK]"]]


def tokenize(text, vocabulary, longest):
    ids = [id for word in words(text) for id in pieces(word, vocabulary)]
    return [vocabulary["[CLS]"], *ids[: longest - 2], vocabulary["[SEP]"]]


class Model:
    def __init__(self, folder):
        self.tensors = read_safetensors(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text())
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.eps = config["layer_norm_eps"]

    def linear(self, x, name):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.eps)
        return centred / deviation * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def attention(self, x, name):
        split = lambda part: self.linear(x, f"{name}.self.{part}").reshape(len(x), self.heads, -1).swapaxes(0, 1)
        q, k, v = split("query"), split("key"), split("value")
        scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ v).swapaxes(0, 1).reshape(x.shape)

    def embed(self, ids):
        tables = self.tensors
        x = tables["embeddings.word_embeddings.weight"][ids]
        x = x + tables["embeddings.position_embeddings.weight"][: len(ids)]
        x = x + tables["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for i in range(self.layers):
            name = f"encoder.layer.{i}"
            attended = self.linear(self.attention(x, f"{name}.attention"), f"{name}.attention.output.dense")
            x = self.norm(x + attended, f"{name}.attention.output.LayerNorm")
            h = self.linear(x, f"{name}.intermediate.dense")
            h = h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2
            x = self.norm(x + self.linear(h, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)


def main():
    folder = Path(sys.argv[1])
    vocabulary = {token: id for id, token in enumerate((folder / "vocab.txt").read_text("utf-8").split("\n")[:-1])}
    longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    model = Model(folder)
    ids = [tokenize(text, vocabulary, longest) for text in SENTENCES]
    rows = np.array([model.embed(sentence) for sentence in ids])
    similarities = rows @ rows.T
    for (i, j), published in PUBLISHED.items():
        assert abs(similarities[i, j] - published) < 6e-5, (i, j, similarities[i, j])

    compact = lambda value: json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    rounded = lambda values: [float(f"{value:.9f}") for value in values]
    lines = []
    for i, text in enumerate(SENTENCES):
        entry = {"text": text, "ids": ids[i], "embedding": rounded(rows[i, ELEMENTS])}
        lines.append(compact(entry | {"similarities": rounded(similarities[i])}))
    path = Path(__file__).parent / "tests" / "expected.json"
    path.write_text(f'{{"elements":{compact(ELEMENTS)},\n"sentences":[\n' + ",\n".join(lines) + "\n]}\n")


main()
