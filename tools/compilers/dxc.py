"""Compiles and validates by DXC what naga writes of the composed shaders for Direct3D 12, with the arguments that wgpu 30 gives.

    python3 tools/compilers/dxc.py LIBRARY DIR     LIBRARY: libdxcompiler.so (tools/compilers/dxc); DIR: what TILELOOM_SHADERS has written

DXC validates what it has compiled. Signing is Microsoft's dxil.dll's, which is not there: nothing here depends on it.
"""

import ctypes
import sys
import uuid
from pathlib import Path

import texts

OK = "groupshared float a[4096]; RWByteAddressBuffer b: register(u0);\n[numthreads(64, 1, 1)] void f(uint i: SV_GroupIndex) { a[i] = i; b.Store(4 * i, asuint(a[i])); }"
FAULTS = {  # by the compiler, by the validator
    "use of undeclared identifier": OK.replace("= i", "= j"),
    "Thread Group Shared Memory storage": OK.replace("4096", "9000"),
}
KNOWN = [  # stem, fault, why it is DXC's
    ("gemm_quant_int8", "Module bitcode is invalid", "microsoft/DirectXShaderCompiler#7400: it takes the literal 0 of dot4add_i8packed for 64 bits"),
]
FIRST = 5  # methods of an interface: behind IUnknown's three are two destructors, but on Windows


def guid(text):
    return (ctypes.c_char * 16).from_buffer_copy(uuid.UUID(text).bytes_le)


COMPILER = guid("73e22d93-e6ce-47f3-b5bf-f0664f39c1b0")
ICOMPILER3 = guid("228b4687-5a6a-4730-900c-9702b2203f54")
IRESULT = guid("58346cda-dde7-4497-9461-6f87af5e0659")
IVERSION = guid("b04f5b50-2059-4f12-a8ff-a1e0cde1cc7e")


class Buffer(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char_p), ("size", ctypes.c_size_t), ("encoding", ctypes.c_uint32)]


class Interface:
    """A COM object, released when it is left."""

    def __init__(self):
        self.pointer = ctypes.c_void_p()

    def call(self, number, *arguments, result=ctypes.c_int32):
        table = ctypes.cast(self.pointer, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
        types = [ctypes.c_uint32 if isinstance(a, int) else ctypes.c_void_p for a in arguments]
        return ctypes.CFUNCTYPE(result, ctypes.c_void_p, *types)(table[number])(self.pointer, *arguments)

    def get(self, number, *arguments):
        """The object that a method gives by its last argument."""
        got = Interface()
        code = self.call(number, *arguments, ctypes.byref(got.pointer))
        if code or not got.pointer:
            raise OSError(f"DXC: method {number} gives {code & 0xFFFFFFFF:#x}")
        return got

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.call(2, result=ctypes.c_uint32)


class Compiler:
    def __init__(self, library):
        self.own = Interface()
        code = ctypes.CDLL(library).DxcCreateInstance(COMPILER, ICOMPILER3, ctypes.byref(self.own.pointer))
        if code:
            raise OSError(f"DxcCreateInstance gives {code & 0xFFFFFFFF:#x}")

    def version(self):
        with self.own.get(0, IVERSION) as info:
            major, minor = ctypes.c_uint32(), ctypes.c_uint32()
            info.call(FIRST, ctypes.byref(major), ctypes.byref(minor))
            return f"{major.value}.{minor.value}"

    def compile(self, source, entry, profile, half):
        """What the compiler or the validator has against a source; nothing if it is right."""
        names = ["-E", entry, "-T", profile, "-HV", "2018", "-no-warnings", "-Ges"] + ["-enable-16bit-types"] * half
        arguments = (ctypes.c_wchar_p * len(names))(*names)
        code = source.encode()
        buffer = Buffer(code, len(code), 65001)  # UTF-8
        with self.own.get(FIRST, ctypes.byref(buffer), arguments, len(names), None, IRESULT) as result:
            status = ctypes.c_int32()
            result.call(FIRST, ctypes.byref(status))
            if not status.value:
                return None
            with result.get(FIRST + 2) as errors:
                size = errors.call(FIRST + 1, result=ctypes.c_size_t)
                told = ctypes.string_at(errors.call(FIRST, result=ctypes.c_void_p), size).decode().strip("\0")
        return "\n".join(line for line in told.splitlines() if "DXIL.dll not found" not in line)


def start(library):
    texts.state = Compiler(library)


def check(text):
    """The line and the message of a text's first error."""
    told = texts.state.compile(text["source"], text["entry"], text["profile"], text["half"])
    if told is None:
        return None
    first = next((line for line in told.splitlines() if "error:" in line and line != "error: validation errors"), told)
    place, _, message = first.partition("error: ")
    line = place.split(":")[1:2]
    code = text["source"].splitlines()[int(line[0]) - 1].strip() + ": " if line and line[0].isdigit() else ""
    return f"{text['profile']}: {code}{message}"


def main(library, folder):
    start(library)
    assert texts.state.compile(OK, "f", "cs_6_0", False) is None
    for fault, source in FAULTS.items():
        told = texts.state.compile(source, "f", "cs_6_0", False)
        assert told and fault in told, f"DXC accepts a fault: {fault}"
    print(f"DXC {texts.state.version()}")
    return texts.hold(Path(folder) / "hlsl", start, (library,), check, KNOWN)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
