"""Checks by clang the types of what naga writes of the composed shaders for Metal.

    PYTHONPATH=$(tools/compilers/clang) python3 tools/compilers/metal.py DIR     DIR: what TILELOOM_SHADERS has written

The standard library is our own sketch of Apple's (metal/metal_stdlib), which tells what it leaves out.
"""

import re
import sys
from pathlib import Path

from clang.cindex import Diagnostic, Index

import texts

LIBRARY = Path(__file__).parent / "metal"
ATTRIBUTES = {  # what clang does not know, and Metal does
    "buffer",
    "max_total_threads_per_threadgroup",
    "simdgroup_index_in_threadgroup",
    "simdgroups_per_threadgroup",
    "thread_index_in_simdgroup",
    "thread_index_in_threadgroup",
    "threadgroup_position_in_grid",
    "threads_per_simdgroup",
}
OK = """#include <metal_stdlib>
#include <simd/simd.h>
using metal::uint;
struct P { metal::uint4 at; float by; };
constant float ONE = 1.0;
void add(threadgroup float& sum, thread float const& x) { sum += x; }
kernel void f(threadgroup float& sum, device metal::float4* y [[buffer(0)]], constant P& p [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
    metal::float4 v = metal::float4(p.by * ONE, 2.0, metal::float2(0.5));
    add(sum, v.x);
    thread metal::float4& w = v;
    v = y[i].x < sum ? w : metal::float4(0.0);
    y[i] = metal::select(v, v.zwxy, v < metal::float4(p.at)) + as_type<float>(p.at.x);
}
"""
FAULTS = {  # types, assignments, names, address spaces
    "invalid operands": OK.replace("metal::float4(p.at)", "p.at"),
    "no matching": OK.replace("p.by *", "p.at *"),
    "no viable": OK.replace("{\n    metal::float4 v", "{\n    metal::uint4 u = metal::float4(1.0); metal::float4 v"),
    "no member": OK.replace("p.at.x", "p.at.r"),
    "read-only": OK.replace("y[i] =", "p.by = 1.0; y[i] ="),
    "as_type keeps the size": OK.replace("as_type<float>(p.at.x)", "as_type<half>(p.at.x)"),
    "changes address space": OK.replace("w = v;", "w = y[i];"),
    "no matching function": OK.replace("add(sum, v.x)", "add(v.y, v.x)"),
    "unknown attribute": OK.replace("thread_index_in_threadgroup", "thread_in_group"),
}


def start():
    texts.state = Index.create()


def check(text):
    """The line and the message of a text's first error."""
    major, minor = text["version"]
    arguments = ["-x", "clcpp", "-cl-std=clc++2021", "-fdeclspec", "-Xclang", "-cl-single-precision-constant", "-Wno-everything", "-Wunknown-attributes"]
    # C++ for OpenCL has no copy of a struct out of constant memory.
    source = re.sub(r"^( *type_\d+ \w+) = ([A-Z_]+);$", r"\1 = copy(\2);", text["source"], flags=re.M)
    name = "shader.metal"
    unit = texts.state.parse(name, arguments + ["-cl-no-stdinc", "-nostdinc", "-I", str(LIBRARY)], [(name, source)])
    for told in unit.diagnostics:
        attribute = re.match(r"unknown attribute '(\w+)' ignored", told.spelling)
        if (attribute and attribute[1] in ATTRIBUTES) or (not attribute and told.severity < Diagnostic.Error):
            continue
        line = text["source"].splitlines()[told.location.line - 1].strip() if str(told.location.file) == name else f"{told.location.file}:{told.location.line}"
        return f"metal{major}.{minor}: {line}: {told.spelling}"
    return None


def main(folder):
    start()
    told = check({"version": (2, 4), "source": OK})
    assert told is None, told
    for fault, source in FAULTS.items():
        told = check({"version": (2, 4), "source": source})
        assert told and fault in told, f"clang tells {told} of a fault: {fault}"
    return texts.hold(Path(folder) / "msl", start, (), check)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
