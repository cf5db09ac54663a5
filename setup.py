"""Builds the kernels (src/ddarts/kernels). All else is in pyproject.toml.

They need a C compiler that knows GCC's vectors: gcc or clang. Where there is none the package is installed without them
and computes with PyTorch's operations.
"""

import platform

from setuptools import Extension, setup

FOLDER = "src/ddarts/kernels"
NAMES = ("forward", "backward", "sums", "pointwise", "nodes", "norms", "pools", "winograd")
NARROW = ("forward", "backward")
X86 = {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]}
BUILDS = X86 if platform.machine().lower() in ("x86_64", "amd64") else {"any": []}

setup(
    ext_modules=[
        Extension(
            f"ddarts.kernels._{build}",
            [
                *(f"{FOLDER}/{name}{precision}.c" for name in NAMES for precision in ("", "_bf16")),
                *(f"{FOLDER}/{name}_narrow.c" for name in NARROW),
            ],
            depends=[f"{FOLDER}/lanes.h", *(f"{FOLDER}/{name}.c" for name in NAMES)],
            extra_compile_args=["-O3", "-ffp-contract=fast", *flags],
            optional=True,
        )
        for build, flags in BUILDS.items()
    ]
)
