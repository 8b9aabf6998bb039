"""The build of the scanner in C. Where no compiler builds it, it is left out: then the scanner in Python does its work.

Everything else about the project is in ``pyproject.toml``. What is built once runs on every CPython from 3.11 on (abi3).
"""

import tempfile

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError


def extension() -> Extension:
    """The scanner, without debug information: that names the folder of the build, and two builds are to be the same."""
    return Extension(
        "penstock.core.body._native",
        sources=["src/penstock/core/body/_native.c"],
        extra_compile_args=["-std=c11", "-O2", "-g0", "-Wall", "-Wextra"],
        py_limited_api=True,
    )


def builds() -> bool:
    """Whether it can be built here, found out by building it apart."""
    with tempfile.TemporaryDirectory() as place:
        probe = build_ext(Distribution({"name": "probe", "ext_modules": [extension()]}))
        probe.build_lib = probe.build_temp = place
        probe.ensure_finalized()
        try:
            probe.run()
        except (BaseError, CCompilerError, OSError) as error:
            print(f"The scanner in C is left out: {error}")
            return False
    return True


if builds():
    setup(ext_modules=[extension()], options={"bdist_wheel": {"py_limited_api": "cp311"}})
else:
    setup()
