"""How kernels are compiled: without Python's lock, kept on disk for the next process."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """numba's `njit`, cached beside the file, else in the user's cache folder, else not at all."""
    from numba import njit

    compiler = cast(Any, njit)
    try:
        return compiler(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder that can be written to: compiled anew in each process
        return compiler(nogil=True)(function)


def part(function: F) -> F:
    """A function that only kernels call: compiled into them, and stored with them."""
    from numba import njit

    compiler = cast(Any, njit)
    return compiler(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
