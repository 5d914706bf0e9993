#!/usr/bin/env python3
"""The node tests of the Python package onnx as case files (docs/CASES.md), one kernel call each.

    tools/onnx_cases.py DIR       DIR/TEST.safetensors for each test that one kernel gives, and DIR/ONNX.md, the page
    tools/onnx_cases.py --page    the page docs/ONNX.md

What is expected is what the package expects, never a result of ours. What is done to tensors on the host stands in the
metadata `host` of a case. It needs the packages onnx and numpy; tools/onnx fetches them and runs this.
"""

import json
import math
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.loader import load_node_model_tests
from onnx.reference import ReferenceEvaluator

STORED = {
    "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL", "uint8": "U8", "int32": "I32", "int64": "I64",
}  # fmt: skip
VALUES = ("float32", "float16", "bfloat16")
OUT_DTYPE = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}

# --- tests and cases ---------------------------------------------------------------------------------------------


class Left(Exception):
    """Why no single kernel call gives a test."""


class Test:
    """One node test: its node, and the arrays that go in and are expected."""

    def __init__(self, test):
        node = test.model.graph.node[0]
        self.name, self.op, self.node = test.name, node.op_type, node
        inputs, outputs = (iter(arrays) for arrays in test.data_sets[0])
        self.inputs = [array(next(inputs)) if name else None for name in node.input]
        self.outputs = [array(next(outputs)) if name else None for name in node.output]
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def get(self, name, default=None):
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def input(self, i):
        return self.inputs[i] if i < len(self.inputs) else None

    def output(self, i):
        return self.outputs[i] if i < len(self.outputs) else None

    def values(self, i=0):
        """An input of a dtype that kernels take as values."""
        x = self.input(i)
        if not isinstance(x, np.ndarray) or x.dtype.name not in VALUES:
            raise Left("tensors of a dtype that is no f32, f16 or bf16")
        return x


def array(value):
    """A tensor of a test as an array; what is none, such as a sequence, as it is."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


class Case:
    """One kernel call: tensors, options, and what was done to them on the host."""

    def __init__(self, op, **options):
        self.op, self.options, self.tensors, self.host = op, {}, {}, []
        self.set(**options)

    def set(self, **options):
        """Options; one that is None is left out."""
        for name, value in options.items():
            if isinstance(value, bool):
                value = str(value).lower()
            if isinstance(value, (list, tuple)):
                value = ",".join(map(str, value))
            if value is not None:
                self.options[name] = str(value)
        return self

    def put(self, **tensors):
        """Inputs; one that is None is left out."""
        self.tensors |= {name: tensor for name, tensor in tensors.items() if tensor is not None}
        return self

    def expect(self, **tensors):
        return self.put(**{f"expected.{name}": tensor for name, tensor in tensors.items()})

    def note(self, text, when=True):
        if when and text not in self.host:
            self.host.append(text)
        return self

    def write(self, path):
        """As safetensors: the length of the header, the header as JSON, then the tensors."""
        metadata = {"op": self.op, **self.options} | ({"host": "; ".join(self.host)} if self.host else {})
        header, blob = {"__metadata__": metadata}, b""
        for name, tensor in self.tensors.items():
            data = np.ascontiguousarray(tensor).tobytes()
            places = [len(blob), len(blob) + len(data)]
            header[name] = {"dtype": STORED[tensor.dtype.name], "shape": list(tensor.shape), "data_offsets": places}
            blob += data
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(len(text).to_bytes(8, "little") + text + blob)


# --- what operators become ---------------------------------------------------------------------------------------

MAKERS = {}


def covers(*operators):
    """Registers a function from a Test to a Case."""

    def register(make):
        MAKERS.update(dict.fromkeys(operators, make))
        return make

    return register


MOVED = "axes moved"
FLAT = "axes joined or split"
REPEATED = "what is broadcast repeated"
NUMBERED = "places counted as the op counts them"
PADS = "padding computed from `auto_pad` or `output_shape`"


def last(x, axis):
    """The axis moved to the end."""
    return np.moveaxis(x, axis, -1)


def rows(x, axes=1):
    """[outer, inner], the inner one being the last axes joined."""
    split = x.ndim - axes
    return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))


def by_rows(case, test, axis):
    """Input 0 as rows along an axis, and a function that brings an output to the same form."""
    x = test.values()
    axis %= x.ndim
    case.note(MOVED, axis != x.ndim - 1).note(FLAT, x.ndim != 2)
    keep = test.get("keepdims", 1)

    def form(y):
        return rows(last(y, axis) if keep else y[..., None])

    return rows(last(x, axis)), form


# Rows.


@covers("Softmax", "LogSoftmax")
def softmax(test):
    x, y, axis = test.values(), test.output(0), test.get("axis", -1)
    case = Case("softmax", log=test.op == "LogSoftmax").note(MOVED, axis % x.ndim != x.ndim - 1)
    return case.put(x=last(x, axis)).expect(y=last(y, axis))


@covers("LayerNormalization", "RMSNormalization")
def norm(test):
    x, layer = test.values(), test.op == "LayerNormalization"
    axes = -test.get("axis", -1) if test.get("axis", -1) < 0 else x.ndim - test.get("axis")
    case = Case("layer_norm" if layer else "rms_norm", eps=test.get("epsilon", 1e-5)).note(FLAT)
    weight, bias = (None if v is None else v.reshape(-1) for v in (test.input(1), test.input(2)))
    case.put(x=rows(x, axes), weight=weight, bias=bias).expect(y=rows(test.output(0), axes))
    if test.output(1) is not None:
        case.set(stats_start=0).expect(stats=np.stack([test.output(1).reshape(-1), test.output(2).reshape(-1)]))
    return case


@covers("LpNormalization")
def lp_norm(test):
    if test.get("p", 2) != 2:
        raise Left("norms of another power than 2")
    axis = test.get("axis", -1)
    x, y = last(test.values(), axis), last(test.output(0), axis)
    weight = np.full(x.shape[-1], x.shape[-1] ** -0.5, x.dtype)
    case = Case("rms_norm", eps=1e-12).note(MOVED, axis % x.ndim != x.ndim - 1)
    return case.put(x=x, weight=weight).expect(y=y).note("weights of 1 / sqrt(d), eps 1e-12 so that 0 stays 0")


# Elements and columns.

ACTIVATIONS = {"Relu": "relu", "LeakyRelu": "leaky_relu", "HardSwish": "hard_swish", "Sigmoid": "sigmoid", "Tanh": "tanh"}


@covers(*ACTIVATIONS, "Elu", "Gelu", "Swish", "HardSigmoid")
def activation(test):
    case = Case("activation").put(x=test.values()).expect(y=test.output(0))
    if test.op == "Elu":
        return case.set(activation="elu", alpha=test.get("alpha", 1.0))
    if test.op == "Gelu":
        return case.set(activation={"none": "gelu", "tanh": "gelu_tanh"}[test.get("approximate", "none")])
    if test.op == "Swish":
        if test.get("alpha", 1.0) != 1:
            raise Left("a factor in the sigmoid")
        return case.set(activation="silu")
    if test.op == "HardSigmoid":
        if abs(test.get("alpha", 0.2) - 1 / 6) > 1e-7 or test.get("beta", 0.5) != 0.5:
            raise Left("another slope of hard_sigmoid than 1 / 6")
        return case.set(activation="hard_sigmoid")
    return case.set(activation=ACTIVATIONS[test.op], slope=test.get("alpha", 0.01) if test.op == "LeakyRelu" else None)


@covers("SwiGLU", "Mul")
def gate(test):
    x, y = test.values(0), test.values(1)
    if test.get("alpha", 1.0) != 1:
        raise Left("a factor in the sigmoid")
    case = Case("activation", activation="silu" if test.op == "SwiGLU" else "none").note(REPEATED, x.shape != y.shape)
    return case.put(x=x, up=np.broadcast_to(y, x.shape)).expect(y=test.output(0))


@covers("Add", "Sub", "Sum", "Mean", "Neg")
def sums(test):
    x, y, count = test.values(), test.output(0), len(test.inputs)
    if count > 2:
        return stacked(test, np.stack([test.values(i).reshape(-1) for i in range(count)]), y.reshape(-1))
    z = test.values(1) if count == 2 else None
    if test.op == "Add" and z.shape == x.shape[-1:] != x.shape:
        return Case("activation", activation="none").put(x=x, bias=z).expect(y=y)
    first, second = {"Sub": (1, -1), "Mean": (1 / count, 1 / count), "Neg": (-1, None)}.get(test.op, (1, 1))
    case = Case("axpby", a=first, b=second if count == 2 else None)
    if z is not None:
        case.note(REPEATED, z.shape != x.shape).put(z=np.broadcast_to(z, x.shape))
    return case.put(x=x).expect(y=y)


def stacked(test, x, y):
    """The sum or the mean of the rows of x."""
    if test.op == "Sum":
        case = Case("column_sums").put(x=x).expect(y=y)
    else:
        case = Case("resize", mode="adaptive_average", size="1,1").put(x=x.T[None, :, None]).expect(y=y[None, :, None, None])
    return case.note("terms stacked")


@covers("Cast", "CastLike")
def cast(test):
    y = test.output(0)
    if y.dtype.name not in VALUES:
        raise Left("tensors of a dtype that is no f32, f16 or bf16")
    return Case("axpby", out_dtype=OUT_DTYPE[y.dtype.name]).put(x=test.values()).expect(y=y)


@covers("Dropout")
def dropout(test):
    if test.output(1) is not None:
        raise Left("the mask of dropout as an output")
    ratio, training = test.input(1), test.input(2)
    ratio = test.get("ratio", 0.5) if ratio is None else ratio.item()
    if training is not None and training.item() and ratio > 0:
        raise Left("another generator of random numbers")
    return Case("dropout", p=0).put(x=test.values()).expect(y=test.output(0))


def reduced(case, test, joined):
    """Input 0 with the axes that are reduced joined into one, the first or the last, and all others into the other."""
    x, axes = test.values(), test.input(1)
    axes = [] if axes is None else axes.tolist()
    if not axes and test.get("noop_with_empty_axes", 0):
        raise Left("nothing is computed")
    axes = sorted(a % x.ndim for a in axes or range(x.ndim))
    others = [a for a in range(x.ndim) if a not in axes]
    order = axes + others if joined == "first" else others + axes
    outer = order[: len(axes) if joined == "first" else len(others)]
    moved = x.transpose(order)
    case.note(MOVED, order != list(range(x.ndim))).note(FLAT)
    return moved.reshape(math.prod(x.shape[a] for a in outer), math.prod(x.shape[a] for a in order[len(outer) :]))


@covers("ReduceSum")
def column_sums(test):
    case = Case("column_sums")
    return case.put(x=reduced(case, test, "first")).expect(y=test.output(0).reshape(-1))


@covers("ReduceMean")
def means(test):
    case = Case("resize", mode="adaptive_average", size="1,1")
    x = reduced(case, test, "last")
    return case.put(x=x[None, :, None]).expect(y=test.output(0).reshape(1, len(x), 1, 1))


@covers("ReduceMax")
def maxima(test):
    case = Case("max_pool", indices_layout="none")
    x = reduced(case, test, "last")
    if not x.size:
        raise Left("the largest of no elements")
    return case.set(kernel=x.shape[1]).put(x=x[None]).expect(y=test.output(0).reshape(1, len(x), 1))


# Attention and position.

SCORES = "scores as an output (`qk_matmul_output`)"


def padded(x, axis, size, value):
    """x, grown at the end of an axis."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, size - x.shape[axis])
    return np.pad(x, widths, constant_values=value)


@covers("Attention")
def attention(test):
    if test.output(3) is not None:
        raise Left(SCORES)
    q, k, v = (test.values(i) for i in range(3))
    mask, past_k, past_v, lengths = (test.input(i) for i in range(3, 7))
    packed, scale = q.ndim == 3, test.get("scale")
    case = Case("attention", scale=scale, softcap=test.get("softcap", 0) or None)
    y, axis = test.output(0), 1 if packed else 2
    if packed:
        heads = [test.get("q_num_heads")] + [test.get("kv_num_heads")] * 2
        q, k, v = (x.reshape(*x.shape[:2], h, -1) for x, h in zip((q, k, v), heads))
        y = y.reshape(*y.shape[:2], heads[0], -1)
        case.set(layout="bshd").note("heads made an axis")
    if past_k is not None:
        k, v = (joined(case, *parts, packed) for parts in ((past_k, k, test.output(1)), (past_v, v, test.output(2))))
    keys, causal = k.shape[axis], bool(test.get("is_causal", 0))
    left, right = test.get("left_window_size", -1), test.get("right_window_size", -1)
    case.set(causal=causal or None, window_left=left if left >= 0 else None, window_right=right if right >= 0 else None)
    if lengths is not None:
        case.put(seqused_k=lengths.astype(np.int32))
    elif causal or left >= 0 or right >= 0:
        k, v, mask = aligned(case, q.shape[axis], 0 if past_k is None else past_k.shape[2], k, v, mask, axis, causal)
    if mask is not None and mask.shape[-1] < keys:
        mask = padded(mask, -1, keys, False if mask.dtype == bool else -np.inf)
        case.note("masks padded to all keys")
    return case.put(q=q, k=k, v=v, mask=mask).expect(o=y)


def joined(case, past, new, present, packed):
    """Past keys or values and the new ones, which must be what the test expects as present ones."""
    if packed:
        past, present = past.swapaxes(1, 2), present.swapaxes(1, 2)
    both = np.concatenate([past, new], axis=1 if packed else 2)
    assert np.array_equal(both, present)
    case.note("past keys and values joined with the new ones, compared with the present ones on the host")
    return both


def aligned(case, queries, past, k, v, mask, axis, causal):
    """ONNX lets query i stand at key past + i; tileloom lets the last query stand at the last key."""
    keys, end = k.shape[axis], past + queries
    if end < keys:
        if not causal:
            raise Left("a window that is aligned to the first keys")
        case.put(seqused_k=np.full(len(k), end, np.int32)).note("`seqused_k` up to the last query's key")
    if end > keys:
        mask = np.ones(keys, bool) if mask is None else mask
        mask = padded(mask, -1, end, False if mask.dtype == bool else -np.inf)
        k, v = padded(k, axis, end, 0), padded(v, axis, end, 0)
        case.note("keys and values padded to the last query's place, and masked there")
    return k, v, mask


@covers("FlexAttention")
def flex_attention(test):
    q, k, v = (test.values(i) for i in range(3))
    if test.get("prob_mod") is not None:
        raise Left("a function of probabilities (`prob_mod`)")
    case = Case("attention", scale=test.get("scale")).put(q=q, k=k, v=v).expect(o=test.output(0))
    graph = test.get("score_mod")
    if graph is None:
        return case
    if [node.op_type for node in graph.node] == ["Div", "Tanh", "Mul"]:
        return case.set(softcap=numpy_helper.to_array(graph.initializer[0]).item())
    scores = [np.full((*q.shape[:3], k.shape[2]), value, q.dtype) for value in (0, 1)]
    zero, one = (score_mod(graph, score) for score in scores)
    if not np.array_equal(zero + 1, one):
        raise Left("a function of scores that does not add (`score_mod`)")
    return case.put(mask=zero).note("`score_mod` evaluated at scores of 0: a mask that is added")


def score_mod(graph, scores):
    """What a graph makes of scores."""
    imports = [helper.make_opsetid("", 26)]
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, {graph.input[0].name: scores})[0]


@covers("RotaryEmbedding")
def rope(test):
    x, cos, sin, positions = (test.input(i) for i in range(4))
    case, y = Case("rope", style="interleaved" if test.get("interleaved", 0) else "half"), test.output(0)
    test.values()
    if x.ndim == 3:
        x, y = (t.reshape(*t.shape[:2], test.get("num_heads"), -1) for t in (x, y))
        case.set(layout="bshd").note("heads made an axis")
    if positions is None:
        positions = np.arange(cos.shape[0] * cos.shape[1], dtype=np.int32).reshape(cos.shape[:2])
        cos, sin = (t.reshape(-1, t.shape[-1]) for t in (cos, sin))
        case.note("without `position_ids` the caches of all batches joined, and counted through as positions")
    case.set(rotary_dim=test.get("rotary_embedding_dim", 0) or None)
    return case.put(x=x, cos=cos, sin=sin, positions=positions.astype(np.int32)).expect(y=y)


@covers("TensorScatter")
def kv_append(test):
    cache, update, y = test.values(0), test.values(1), test.output(0)
    starts = np.zeros(len(cache), np.int64) if test.input(2) is None else test.input(2)
    case = Case("kv_append").note("both k and v are the tensor").note("slots computed from `write_indices`")
    if cache.ndim == 3:
        cache, update, y = (t[:, None] for t in (cache, update, y))
    cache, update, y = (t.swapaxes(1, 2) for t in (cache, update, y))
    case.note(MOVED).note(FLAT)
    size, count = cache.shape[1], update.shape[1]
    places = (starts[:, None] + np.arange(count)) % size
    slots = (np.arange(len(cache))[:, None] * size + places).reshape(-1)
    new = update.reshape(-1, *update.shape[2:])
    return case.put(k=new, v=new, k_cache=cache, v_cache=cache, slots=slots).expect(k_cache=y, v_cache=y)


# Products.


@covers("MatMul")
def matmul(test):
    a, b, y = test.values(0), test.values(1), test.output(0)
    case = Case("gemm").note("an axis of 1 for vectors", a.ndim == 1 or b.ndim == 1)
    y = y.reshape(*y.shape[: y.ndim - (a.ndim > 1) - (b.ndim > 1)], *([1] if a.ndim == 1 else a.shape[-2:-1]), -1)
    a, b = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    return case.put(a=a, b=b).expect(d=y)


@covers("Gemm")
def gemm(test):
    a, b, c, y = test.values(0), test.values(1), test.input(2), test.output(0)
    case = Case("gemm", trans_a=bool(test.get("transA", 0)), trans_b=bool(test.get("transB", 0)), alpha=test.get("alpha"))
    if c is not None and c.shape == (1, y.shape[1]) and test.get("beta", 1.0) == 1:
        case.put(bias=c[0])
    elif c is not None:
        case.put(c=np.broadcast_to(c, y.shape)).set(beta=test.get("beta")).note(REPEATED, c.shape != y.shape)
    return case.put(a=a, b=b).expect(d=y)


@covers("Einsum")
def einsum(test):
    a = test.values()
    if test.get("equation").replace(" ", "") != "bij,bjk->bik":
        raise Left("a sum that is no product of matrices")
    return Case("gemm").put(a=a, b=test.values(1)).expect(d=test.output(0))


# Choices.


@covers("ArgMax")
def argmax(test):
    return choice(test, "sample", dict(temperature=0), "token")


@covers("ArgMin")
def argmin(test):
    return choice(test, "vq_assign", dict(metric="dot"), "indices")


UNITS = "a codebook of negative unit vectors, so that distances are elements"


def choice(test, op, options, output):
    """Of each row the first of the best, or the last where the row is reversed."""
    case = Case(op, **options)
    x, form = by_rows(case, test, test.get("axis", 0))
    best = form(test.output(0))[:, 0]
    if test.get("select_last_index", 0):
        x, best = x[:, ::-1], x.shape[1] - 1 - best
        case.note("rows reversed, and places counted from the end")
    if op == "sample":
        return case.put(logits=x, uniform=np.zeros(len(x), np.float32)).expect(token=best)
    return case.put(x=x, codebook=-np.eye(x.shape[1], dtype=x.dtype)).expect(indices=best).note(UNITS)


@covers("Hardmax")
def hardmax(test):
    case = Case("sample", temperature=0)
    x, form = by_rows(case, test, test.get("axis", -1))
    return case.put(logits=x, uniform=np.zeros(len(x), np.float32)).expect(probs=form(test.output(0)))


@covers("TopK")
def top_k(test):
    largest = test.get("largest", 1)
    case = Case("beam_step" if largest else "vq_assign", top=test.input(1).item())
    x, form = by_rows(case, test, test.get("axis", -1))
    values, places = form(test.output(0)), form(test.output(1))
    if not largest:
        case.set(metric="dot").put(x=x, codebook=-np.eye(x.shape[1], dtype=x.dtype)).note(UNITS)
        return case.expect(indices=places, distance=values)
    case.set(log_softmax=False).note("one beam with a score of 0")
    return case.put(logits=x[:, None], scores=np.zeros((len(x), 1), np.float32)).expect(out_scores=values, out_tokens=places)


# Moving by index.


@covers("Gather")
def gather(test):
    data, indices, axis = test.values(), test.input(1), test.get("axis", 0)
    y = test.output(0)
    case = Case("vq_lookup").note(MOVED, axis % data.ndim != 0).note(FLAT, data.ndim != 2)
    case.note("negative indices counted from the start", (indices < 0).any())
    book = np.moveaxis(data, axis, 0)
    ends = [axis % data.ndim + i for i in range(indices.ndim)]
    y = np.moveaxis(y, ends, range(indices.ndim))
    book, y = book.reshape(len(book), -1), y.reshape(*indices.shape, -1)
    return case.put(indices=indices % len(book), codebook=book).expect(y=y)


def flat_places(indices, shape):
    """The places that tuples of indices, along the last axis, name in the first axes of a shape."""
    sizes = shape[: indices.shape[-1]]
    return np.ravel_multi_index(tuple(np.moveaxis(indices % np.array(sizes), -1, 0)), sizes)


def element_tuples(indices, axis):
    """The tuples of GatherElements and ScatterElements: the place of an index, the index in place of one axis."""
    places = np.indices(indices.shape)
    places[axis] = indices
    return np.moveaxis(places, 0, -1)


@covers("GatherND", "GatherElements")
def gather_tuples(test):
    data, indices = test.values(), test.input(1)
    if test.op == "GatherElements":
        indices = element_tuples(indices, test.get("axis", 0))
    places = flat_places(indices, data.shape)
    book = data.reshape(math.prod(data.shape[: indices.shape[-1]]), -1)
    case = Case("vq_lookup").note(FLAT).note(NUMBERED)
    return case.put(indices=places, codebook=book).expect(y=test.output(0).reshape(*places.shape, -1))


@covers("ScatterND", "ScatterElements")
def scatter(test):
    data, indices, updates = test.values(), test.input(1), test.values(2)
    if test.get("reduction", "none") != "add":
        raise Left("a scatter that does not add")
    if test.op == "ScatterElements":
        indices = element_tuples(indices, test.get("axis", 0))
    places = flat_places(indices, data.shape)
    book = data.reshape(math.prod(data.shape[: indices.shape[-1]]), -1)
    case = Case("vq_scatter", num_codes=len(book), add=True).note(FLAT).note(NUMBERED).note("counts of 0")
    case.put(indices=places, x=updates.reshape(*places.shape, -1), sums=book, counts=np.zeros(len(book), np.int32))
    return case.expect(sums=test.output(0).reshape(book.shape))


# Convolution and pictures.


def spatial(test, x):
    """The axes behind batch and channels."""
    size = x.shape[2:]
    if len(size) > 2:
        raise Left("three spatial axes")
    return size


def same(total, auto):
    """Padding of an axis, before and behind."""
    total = max(total, 0)
    return (total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2)


def windows(case, test, x, kernel, dilated=True):
    """Sets kernel, stride, dilation and padding, which is also given back as (before, behind) by axis."""
    size, n = spatial(test, x), len(kernel)
    stride, dilation = (list(test.get(name) or [1] * n) for name in ("strides", "dilations"))
    pads, auto = list(test.get("pads") or [0] * 2 * n), test.get("auto_pad", "NOTSET")
    sides = list(zip(pads[:n], pads[n:]))
    if auto.startswith("SAME"):
        case.note(PADS)
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
        sides = [same((-(-i // s) - 1) * s + k - i, auto) for i, s, k in zip(size, stride, spans)]
    if not dilated and dilation != [1] * n:
        raise Left("dilation of averages")
    case.set(stride=in_pairs(stride), dilation=in_pairs(dilation) if dilated else None, padding=in_sides(sides))
    return sides


def in_pairs(values):
    """`h,w`, of one axis the number."""
    return ",".join(map(str, values))


def in_sides(sides):
    """`top,bottom,left,right`, of one axis `left,right`."""
    return ",".join(str(n) for side in sides for n in side)


@covers("Conv")
def conv(test):
    x, weight = test.values(), test.values(1)
    case = Case(f"conv{len(spatial(test, x))}d", groups=test.get("group"))
    windows(case, test, x, weight.shape[2:])
    return case.put(x=x, weight=weight, bias=test.input(2)).expect(y=test.output(0))


@covers("CausalConvWithState")
def causal_conv(test):
    x, weight, bias, past = (test.input(i) for i in range(4))
    state = test.output(1)
    test.values()
    case = Case("conv1d", groups=x.shape[1], activation="silu" if test.get("activation", "none") != "none" else None)
    all_of = np.concatenate([np.zeros_like(state) if past is None else past, x], axis=2)
    assert np.array_equal(all_of[:, :, x.shape[2] :], state)
    case.note("the state behind, which is a part of the input, compared on the host")
    if past is None:
        case.set(padding=f"{weight.shape[2] - 1},0")
    else:
        case.note("the state before joined with the input")
    return case.put(x=x if past is None else all_of, weight=weight, bias=bias).expect(y=test.output(0))


@covers("ConvTranspose")
def conv_transpose(test):
    x, weight, y = test.values(), test.values(1), test.output(0)
    size, n = spatial(test, x), x.ndim - 2
    stride, dilation = (list(test.get(name) or [1] * n) for name in ("strides", "dilations"))
    more, pads = list(test.get("output_padding") or [0] * n), list(test.get("pads") or [0] * 2 * n)
    case, auto = Case(f"conv_transpose{n}d", groups=test.get("group")), test.get("auto_pad", "NOTSET")
    sides = list(zip(pads[:n], pads[n:]))
    if test.get("output_shape") or auto.startswith("SAME"):
        full = [(i - 1) * s + (k - 1) * d + 1 for i, s, k, d in zip(size, stride, weight.shape[2:], dilation)]
        cut = [f + m - out for f, m, out in zip(full, more, y.shape[2:])]
        sides, more = [same(c, auto) for c in cut], [m + max(-c, 0) for m, c in zip(more, cut)]
        case.note(PADS)
    case.set(stride=in_pairs(stride), dilation=in_pairs(dilation), padding=in_sides(sides), output_padding=in_pairs(more))
    return case.put(x=x, weight=weight, bias=test.input(2)).expect(y=y)


@covers("MaxPool", "GlobalMaxPool")
def max_pool(test):
    x, places = test.values(), test.output(1)
    kernel = test.get("kernel_shape") or spatial(test, x)
    case = Case("max_pool", kernel=in_pairs(kernel), ceil_mode=bool(test.get("ceil_mode", 0)))
    sides = windows(case, test, x, kernel)
    # A window takes half of itself as padding at most; the rest is padded here.
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, test.get("dilations") or [1] * len(kernel))]
    outside = [tuple(max(p - s // 2, 0) for p in side) for side, s in zip(sides, spans)]
    if any(map(any, outside)):
        x = np.pad(x, [(0, 0)] * 2 + outside, constant_values=-np.inf)
        sides = [(a - c, b - d) for (a, b), (c, d) in zip(sides, outside)]
        case.note("padding beyond half of a window made of -inf")
    case.set(padding=in_sides([(0, 0)] * (2 - len(kernel)) + sides)).put(x=x).expect(y=test.output(0))
    if places is None:
        return case.set(indices_layout="none")
    if any(map(any, outside)):
        raise Left("places in padding that is not the kernel's")
    return case.expect(indices=in_planes(case, test, places, x.shape))


def in_planes(case, test, places, shape):
    """Places in a tensor as row * width + column in their plane."""
    plane = math.prod(shape[2:])
    if test.get("storage_order", 0):
        case.note("places by column counted by row")
        column, row = np.divmod(places % plane, shape[2])
        return row * shape[3] + column
    return places % plane


@covers("MaxUnpool")
def max_unpool(test):
    x, places, size = test.values(), test.input(1), test.output(0).shape[2:]
    kernel = test.get("kernel_shape")
    case = Case("max_pool_backward", kernel=in_pairs(kernel), size=in_pairs(size))
    windows(case, test, x, kernel)
    own = [(i - 1) * s + k for i, s, k in zip(x.shape[2:], test.get("strides"), kernel)]
    row, column = np.divmod(places % math.prod(own), own[1])
    case.note(NUMBERED, list(size) != own)
    return case.put(dy=x, indices=row * size[1] + column).expect(dx=test.output(0))


@covers("AveragePool")
def average_pool(test):
    x, y, kernel = test.values(), test.output(0), list(test.get("kernel_shape"))
    case = Case("resize", mode="average", ceil_mode=bool(test.get("ceil_mode", 0)))
    case.set(count_padding=bool(test.get("count_include_pad", 0)))
    sides = windows(case, test, x, kernel, dilated=False)
    if len(kernel) == 1:
        x, y = x[:, :, None], y[:, :, None]
        case.set(stride=f"1,{case.options['stride']}", padding=in_sides([(0, 0), *sides])).note("an axis of 1 for the height")
    return case.set(kernel=in_pairs(([1] + kernel)[-2:])).put(x=x).expect(y=y)


@covers("GlobalAveragePool")
def global_average_pool(test):
    return Case("resize", mode="adaptive_average", size="1,1").put(x=test.values()).expect(y=test.output(0))


@covers("Resize", "Upsample")
def resize(test):
    x, y, axes = test.values(), test.output(0), test.get("axes")
    upsample, mode = test.op == "Upsample", test.get("mode", "nearest")
    coordinates = "asymmetric" if upsample else test.get("coordinate_transformation_mode", "half_pixel")
    scales = test.input(1 if upsample else 2)
    if coordinates in ("tf_crop_and_resize", "half_pixel_symmetric"):
        raise Left(f"coordinates of `{coordinates}`")
    case = Case("resize", mode=mode, coordinates=coordinates, size=in_pairs(y.shape[2:]))
    if mode == "nearest":
        case.set(rounding="floor" if upsample else test.get("nearest_mode", "round_prefer_floor"))
    else:
        case.set(antialias=bool(test.get("antialias", 0)), exclude_outside=bool(test.get("exclude_outside", 0)))
    case.set(cubic_a=test.get("cubic_coeff_a") if mode == "cubic" else None)
    axes = list(range(x.ndim)) if axes is None else list(axes)
    policy = test.get("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        ratios = [size / x.shape[a] for size, a in zip(test.input(3), axes)]
        scales = [min(ratios) if policy == "not_larger" else max(ratios)] * len(axes)
        case.note("scale computed from `keep_aspect_ratio_policy`")
    if scales is not None:
        scales = [float(scales[axes.index(a)]) for a in (2, 3)]
        if coordinates == "align_corners" and any(s * n % 1 for s, n in zip(scales, x.shape[2:])):
            # The last corner lies at scale * size - 1, which is no place.
            scales = [(s * n - 1) / (n - 1) for s, n in zip(scales, x.shape[2:])]
            case.set(coordinates="asymmetric").note("`align_corners` by a scale written as `asymmetric` by another one")
        case.set(scale=scales)
    return case.put(x=x).expect(y=y)


@covers("DepthToSpace", "SpaceToDepth")
def space_to_depth(test):
    case = Case("space_to_depth", block=test.get("blocksize"), mode=test.get("mode", "DCR").lower())
    return case.set(inverse=test.op == "DepthToSpace").put(x=test.values()).expect(y=test.output(0))


@covers("GroupNormalization", "InstanceNormalization", "BatchNormalization", "MeanVarianceNormalization")
def group_norm(test):
    x, weight, bias, mean, variance = (test.input(i) for i in range(5))
    case = Case("group_norm", eps=test.get("epsilon", 1e-5)).put(x=test.values(), weight=weight, bias=bias)
    if test.op == "GroupNormalization":
        case.set(groups=test.get("num_groups"))
    elif test.op == "InstanceNormalization":
        case.set(groups=x.shape[1])
    elif test.op == "BatchNormalization":
        if test.get("training_mode", 0):
            raise Left("running statistics moved by the variance over n, where ours is over n - 1")
        case.set(over="batch").put(running_mean=mean, running_variance=variance)
    else:
        case.set(over="batch", eps=0).note("eps of 1e-9 left out, which ONNX adds to the deviation")
    return case.expect(y=test.output(0))


# --- the package -------------------------------------------------------------------------------------------------

# Tests whose expected values are given with few digits: their bounds are the package's own.
FEW_DIGITS = ("test_averagepool_2d_ceil_last_window_starts_on_pad",)

# Operators of tests without a case, of which one kernel is meant or would come near.
NONE = {
    "Adagrad": "no kernel yet",
    "Adam": "no kernel yet",
    "Celu": "no activation of this form",
    "Clip": "no activation of this form",
    "LinearAttention": "no kernel yet",
    "Mish": "no activation of this form",
    "Momentum": "no kernel yet",
    "NegativeLogLikelihoodLoss": "no kernel yet",
    "PRelu": "no activation of this form",
    "Selu": "no activation of this form",
    "SoftmaxCrossEntropyLoss": "no kernel yet",
    "Softplus": "no activation of this form",
    "Softsign": "no activation of this form",
    "ThresholdedRelu": "no activation of this form",
}


def collect():
    """Cases by test, reasons by test, operators by test, of all node tests but the expanded ones, which have the same data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = [test for test in load_node_model_tests() if "_expanded" not in test.name]
    cases, left, operators = {}, {}, {}
    for test in tests:
        op = test.model.graph.node[0].op_type
        operators[test.name] = op
        if op in MAKERS:
            try:
                case = cases[test.name] = MAKERS[op](Test(test))
                if test.name in FEW_DIGITS:
                    case.set(tolerance=test.atol, rtolerance=test.rtol)
            except Left as reason:
                left[test.name] = str(reason)
        elif op in NONE:
            left[test.name] = NONE[op]
    return cases, left, operators


PAGE = """# ONNX

The node tests of the Python package onnx {version} as [case files](CASES.md), written by `tools/onnx_cases.py` and replayed by
`loom run`. What is expected is what the package expects. A test is covered where one kernel call gives all outputs that are no
copies of inputs. On the host data are only moved, and constants and options computed; the table says what, and so does the
metadata `host` of a case.

{covered} of the {tests} tests of {operators} operators are covered. The package's `_expanded` tests, which have the same data, do not
count.

```sh
tools/onnx                                      # fetches the package, and writes the cases into target/onnx/cases
tools/drivers run mesa26 target/debug/loom run target/onnx/cases --check
```

Results are judged by the [numerics rule](CASES.md#how-an-output-is-judged). It is widened to the bounds of the package, 1e-7 and
1e-3 of what is expected, only where the package gives few digits: {few}.

This page is written by `tools/onnx_cases.py --page`; `tools/test` tells where it is stale.

| operator | op of the cases | covered | tests | on the host |
|---|---|---|---|---|
{table}

## Tests without a case

{left}

## Operators without a case

{others}
"""


def page(cases, left, operators):
    """The page docs/ONNX.md, of what `collect` gives."""
    total, lines = Counter(operators.values()), []
    listed = sorted(set(MAKERS) | set(NONE))
    for operator in listed:
        mine = [case for name, case in cases.items() if operators[name] == operator]
        ops = ", ".join(f"`{op}`" for op in sorted({case.op for case in mine})) or "none"
        host = "; ".join(dict.fromkeys(note for case in mine for note in case.host))
        lines.append(f"| {operator} | {ops} | {len(mine)} | {total[operator]} | {host} |")
    groups = {}
    for name, reason in left.items():
        groups.setdefault(reason, {}).setdefault(operators[name], []).append(name.removeprefix("test_"))
    left_lines = []
    for reason, by_op in sorted(groups.items(), key=lambda group: (-sum(map(len, group[1].values())), group[0])):
        count = sum(map(len, by_op.values()))
        left_lines.append(f"**{reason[0].upper()}{reason[1:]}** ({count}):\n")
        left_lines += [f"* {op}: " + ", ".join(f"`{name}`" for name in names) for op, names in sorted(by_op.items())]
        left_lines.append("")
    others = [f"{op} ({total[op]})" for op in sorted(total) if op not in listed]
    return PAGE.format(
        version=onnx.__version__,
        covered=len(cases),
        tests=sum(total[op] for op in listed),
        operators=len(listed),
        table="\n".join(lines),
        few=", ".join(f"`{name.removeprefix('test_')}`" for name in FEW_DIGITS),
        left="\n".join(left_lines).strip(),
        others=f"{sum(total[op] for op in total if op not in listed)} tests: " + ", ".join(others) + ".",
    )


def write(folder, cases, left, operators):
    """All cases and the page; cases that a former run has left there go."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.safetensors"):
        stale.unlink()
    for name, case in cases.items():
        case.write(folder / f"{name}.safetensors")
    (folder / "ONNX.md").write_text(page(cases, left, operators))


def main(arguments):
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    if arguments[0] == "--page":
        print(page(*collect()), end="")
    else:
        write(Path(arguments[0]), *collect())


if __name__ == "__main__":
    main(sys.argv[1:])
