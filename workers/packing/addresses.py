"""Numbers at addresses, for compiled code: what lets one call walk packs that lie in different places."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def number_at(_context: Any, _address: Any) -> Any:
    """The float64 at an address."""

    def load(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.DoubleType().as_pointer()))

    return types.float64(types.int64), load


@intrinsic
def word_at(_context: Any, _address: Any) -> Any:
    """The int64 at an address."""

    def load(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()))

    return types.int64(types.int64), load


@intrinsic
def byte_at(_context: Any, _address: Any) -> Any:
    """The byte at an address, as an int64."""

    def load(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = builder.load(builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return builder.zext(byte, ir.IntType(64))

    return types.int64(types.int64), load


@intrinsic
def put_at(_context: Any, _address: Any, _value: Any) -> Any:
    """Store a float64 at an address."""

    def store(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.DoubleType().as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.float64), store


@intrinsic
def bits_of(_context: Any, _number: Any) -> Any:
    """The bits of a float64, as a uint64."""

    def cast(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(types.float64), cast


@intrinsic
def fetch_ahead(_context: Any, _address: Any) -> Any:
    """Ask for the cache line at an address; one that is not mapped does no harm."""

    def ask(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        line = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [line.type], kind)
        builder.call(function, [line, number(0), number(3), number(1)])  # for reading, into all caches, data
        return context.get_dummy_value()

    return types.void(types.int64), ask
