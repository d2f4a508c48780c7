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
    """A function that only kernels of the same file call: compiled and stored with them."""
    from numba import njit

    compiler = cast(Any, njit)
    return compiler(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def instruction(result: str, *operands: str) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: what the function writes as LLVM code becomes a function for kernels.

    Args:
        result: numba's name of its type, such as `uint64`.
        operands: those of its one or two arguments; what is decorated takes the builder first.
    """
    from numba import types
    from numba.extending import intrinsic

    kinds = cast(Any, types)
    signature = getattr(kinds, result)(*(getattr(kinds, operand) for operand in operands))

    def decorate(write: Callable[..., Any]) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return write(builder, *values) or context.get_dummy_value()

        def one(typing: Any, first: Any) -> Any:
            return signature, code

        def two(typing: Any, first: Any, second: Any) -> Any:
            return signature, code

        return cast(Any, intrinsic)(one if len(operands) == 1 else two)

    return decorate
