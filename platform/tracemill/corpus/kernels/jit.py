"""How kernels are compiled: without Python's lock, kept on disk for the next process."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

Bits: TypeAlias = Any
"""In a kernel, an unsigned number: an address, a hash, a mask."""
Number: TypeAlias = Any
"""In a kernel, a signed number: a position, a size, a code point."""
Values: TypeAlias = Any
"""In a kernel, an array."""


def kernel(function: F) -> F:
    """numba's `njit`, cached beside the file, else in the user's cache folder, else not at all.

    The cache forgets a kernel when a file beside it or here changes: numba alone looks at no file
    but the kernel's own, and would go on with old copies of what it calls.
    """
    from numba import njit

    compiler = cast(Any, njit)
    name = function.__qualname__
    function.__qualname__ = f"{name}-{_stamp(Path(function.__code__.co_filename).parent)}"
    try:
        return compiler(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder that can be written to: compiled anew in each process
        return compiler(nogil=True)(function)
    finally:
        function.__qualname__ = name


def part(function: F) -> F:
    """A function that only kernels call: compiled into them, and cached with them."""
    from numba import njit

    compiler = cast(Any, njit)
    return compiler(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


@cache
def _stamp(folder: Path) -> str:
    """Digest of the sources in a folder and in this one; numba refuses where there are none."""
    files = sorted({*folder.glob("*.py"), *Path(__file__).parent.glob("*.py")})
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
