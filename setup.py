"""
What setup.cfg cannot say: the compiled parts of C{dst.native}.

They are optional.  Where there is no compiler, or no header files of Python, the same work is done in Python.
"""

from glob import glob
from pathlib import Path

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            f"dst.native.{Path(path).stem}",
            [path],
            depends=sorted(glob("dst/native/*.h")),
            optional=True,
            extra_compile_args=["-O2", "-std=c11"],
        )
        for path in sorted(glob("dst/native/*.c"))
    ]
)
