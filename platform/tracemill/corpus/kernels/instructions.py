"""Machine instructions for kernels: unaligned loads, 64 bytes at once as a mask, counts of bits.

Addresses are raw numbers: whoever calls answers for the bytes there.
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]

BLOCK = 64

_BYTE, _HALF, _WORD = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(_BYTE, BLOCK)


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


def _each(value: int) -> ir.Constant:
    return ir.Constant(_BYTES, [value] * BLOCK)


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _within(builder: Any, text: Any, first: int, count: int) -> Any:
    return builder.icmp_unsigned("<", builder.sub(text, _each(first)), _each(count))


@instruction("uint64", "uint64")
def load8(builder: Any, address: Any) -> Any:
    return builder.zext(builder.load(_at(builder, address, _BYTE), align=1), _WORD)


@instruction("uint32", "uint64")
def load32(builder: Any, address: Any) -> Any:
    return builder.load(_at(builder, address, _HALF), align=4)


@instruction("uint64", "uint64")
def load64(builder: Any, address: Any) -> Any:
    return builder.load(_at(builder, address, _WORD), align=1)


@instruction("void", "uint64", "uint64")
def store8(builder: Any, address: Any, byte: Any) -> None:
    builder.store(builder.trunc(byte, _BYTE), _at(builder, address, _BYTE), align=1)


@instruction("void", "uint64", "uint64")
def store64(builder: Any, address: Any, eight: Any) -> None:
    builder.store(eight, _at(builder, address, _WORD), align=1)


@instruction("uint64", "uint64", "uint64")
def block(builder: Any, source: Any, target: Any) -> Any:
    """Copy 64 bytes in lower case (ASCII); a bit for each that is no white space, first lowest."""
    text = builder.load(_at(builder, source, _BYTES), align=1)
    shift = builder.select(_within(builder, text, 65, 26), _each(32), _each(0))
    builder.store(builder.add(text, shift), _at(builder, target, _BYTES), align=1)
    blank = builder.icmp_unsigned("==", text, _each(32))
    for first, count in ((9, 5), (28, 4)):  # tab to return; the four separators
        blank = builder.or_(blank, _within(builder, text, first, count))
    return builder.bitcast(builder.not_(blank), _WORD)


@instruction("uint64", "uint64")
def foreign(builder: Any, source: Any) -> Any:
    """A bit for each of 64 bytes that is not ASCII."""
    text = builder.load(_at(builder, source, _BYTES), align=1)
    return builder.bitcast(builder.icmp_signed("<", text, _each(0)), _WORD)


@instruction("int64", "uint64")
def lowest(builder: Any, bits: Any) -> Any:
    """The index of the lowest bit that is set; 64 if none is."""
    return builder.cttz(bits, ir.Constant(ir.IntType(1), 0))


@instruction("int64", "uint64")
def ones(builder: Any, bits: Any) -> Any:
    """How many bits are set."""
    return builder.ctpop(bits)
