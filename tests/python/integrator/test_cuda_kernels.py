"""The device kernels compile for CUDA as OpenMM compiles them: at run time, with NVRTC."""

import ctypes
import itertools
from importlib import metadata
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[3] / "kernels"

# OpenMM uses that type, which CUDA 13 would replace.
DEPRECATED_DOUBLE4 = b"--diag-suppress=1444"

# What OpenMM's CUDA platform defines of its common compute language, as far as the kernels use it.
LANGUAGE = """
#define KERNEL extern "C" __global__
#define DEVICE __device__
#define GLOBAL
#define RESTRICT __restrict__
#define GLOBAL_ID (blockIdx.x*blockDim.x+threadIdx.x)
#define GLOBAL_SIZE (blockDim.x*gridDim.x)
typedef long long mm_long;
typedef unsigned long long mm_ulong;
"""


def library() -> ctypes.CDLL:
    """NVRTC of the wheel that OpenMM's CUDA platform needs."""
    try:
        files = metadata.files("nvidia-cuda-nvrtc") or []
    except metadata.PackageNotFoundError:
        pytest.skip("nvidia-cuda-nvrtc is not installed; pip install openmm[cuda13]")
    return ctypes.CDLL(str(next(f.locate() for f in files if f.name.startswith("libnvrtc.so"))))


def compile_kernels(source: str) -> str:
    """Compile CUDA source and return the PTX; an error holds the compiler's messages."""
    nvrtc = library()
    program = ctypes.c_void_p()
    assert (
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), None, 0, None, None) == 0
    )
    options = [
        b"--use_fast_math",
        b"-arch=compute_75",
        DEPRECATED_DOUBLE4,
    ]
    failed = nvrtc.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )

    def result(what: str) -> str:
        size = ctypes.c_size_t()
        assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        text = ctypes.create_string_buffer(size.value)
        assert getattr(nvrtc, f"nvrtcGet{what}")(program, text) == 0
        return text.value.decode()

    log = result("ProgramLog")
    assert not failed, log
    # A compiler before CUDA 13.1 has no option that makes errors of warnings.
    assert "warning" not in log, log
    ptx = result("PTX")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx


def types(precision: str) -> str:
    """The types of a Context's numbers."""
    real = "double" if precision == "double" else "float"
    mixed = "float" if precision == "single" else "double"
    return (
        f"typedef {real} real; typedef {real}4 real4;\n"
        f"typedef {mixed} mixed; typedef {mixed}4 mixed4;\n"
        + ("#define MIXED\n" if precision == "mixed" else "")
    )


@pytest.mark.parametrize("precision", ["single", "mixed", "double"])
def test_state_kernels_compile(precision: str) -> None:
    defines = "#define NUM_ATOMS 1000\n#define NUM_MODEL_ATOMS 22\n"
    ptx = compile_kernels(
        LANGUAGE + types(precision) + defines + (KERNELS / "timewarpState.cc").read_text()
    )
    kernels = [
        "gatherPositions",
        "savePositions",
        "restorePositions",
        "comparePositions",
        "applyProposal",
    ]
    for kernel in [*kernels, "setVelocities"]:
        assert f".entry {kernel}(" in ptx


@pytest.mark.parametrize(
    ("precision", "model_real"),
    list(itertools.product(["single", "mixed", "double"], ["float", "double"])),
)
def test_model_kernels_compile(precision: str, model_real: str) -> None:
    defines = f"#define MODEL_REAL {model_real}\n#define FIRST_NORMAL_BLOCK 1\n"
    ptx = compile_kernels(
        LANGUAGE + types(precision) + defines + (KERNELS / "timewarpModel.cc").read_text()
    )
    for kernel in ["drawNormals", "writeState", "takeProposals"]:
        assert f".entry {kernel}(" in ptx


def test_errors_are_seen() -> None:
    with pytest.raises(AssertionError, match="undefined"):
        compile_kernels(LANGUAGE + "KERNEL void broken() { unknown(); }")
