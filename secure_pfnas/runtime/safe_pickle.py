"""Reading the one shape of pickle that CIFAR comes in, without unpickling.

Rules of this file:
    * Opcodes are walked, never executed: no object of a name in the file is ever imported, looked
      up or called. What is built is plain: dicts, lists, tuples, texts, numbers, and inert notes
      of "an array" or "its type".
    * Four names may occur, those that numpy arrays are written with; any other ends the reading.
    * An array is made from its own bytes only, unsigned and of the size those bytes have.

Reference:
    The opcodes are those of Python's ``pickletools``, protocols 0 to 4.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

_MOST_OPCODES = 2_000_000


class RefusedPickleError(ValueError):
    """The bytes hold something else than dicts, lists and byte arrays."""


class _Name(Enum):
    RECONSTRUCT = "_reconstruct"
    ARRAY = "ndarray"
    KIND = "dtype"
    ENCODE = "encode"


_NAMES: Final[Mapping[tuple[str, str], _Name]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy", "ndarray"): _Name.ARRAY,
    ("numpy", "dtype"): _Name.KIND,
    ("_codecs", "encode"): _Name.ENCODE,
}


@dataclass(slots=True, eq=False)
class _Note:
    """An array, or an array's type, as far as it has been described."""

    name: _Name
    arguments: tuple[object, ...]
    state: object = None


class _Mark:
    """The opcode that collections are counted from."""


@dataclass(slots=True)
class _Reader:
    stack: list[object] = field(default_factory=list[object])
    memo: dict[int, object] = field(default_factory=dict[int, object])

    def since_mark(self) -> list[object]:
        """Pop what was pushed since the newest mark, and the mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[place], _Mark):
                items = self.stack[place + 1 :]
                del self.stack[place:]
                return items
        raise RefusedPickleError("a mark is missing")

    def top_list(self) -> list[object]:
        """Return the list on top of the stack."""
        value = self.stack[-1]
        if type(value) is not list:
            raise RefusedPickleError(f"adds to a {type(value).__name__}")
        return cast("list[object]", value)

    def top_dict(self) -> dict[object, object]:
        """Return the dict on top of the stack."""
        value = self.stack[-1]
        if type(value) is not dict:
            raise RefusedPickleError(f"sets items of a {type(value).__name__}")
        return cast("dict[object, object]", value)

    def name(self, module: object, name: object) -> None:
        """Push a note of one of the four names."""
        known = _NAMES.get((str(module), str(name)))
        if known is None:
            raise RefusedPickleError(f"names {module}.{name}".replace("\n", " ")[:80])
        self.stack.append(known)

    def reduce(self) -> None:
        """Note what would have been called."""
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise RefusedPickleError("calls something that is no array")
        given = cast("tuple[object, ...]", arguments)
        if called is _Name.ENCODE:
            # Bytes in protocol 2: a text of code points below 256. Copied only if it is used.
            if (
                len(given) != 2
                or given[1] not in ("latin1", "latin-1")
                or type(given[0]) is not str
            ):
                raise RefusedPickleError("encodes something else than bytes")
            self.stack.append(given[0])
        elif called is _Name.ARRAY:
            raise RefusedPickleError("calls numpy.ndarray")
        else:
            self.stack.append(_Note(called, given))

    def build(self) -> None:
        """Complete a note."""
        state, note = self.stack.pop(), self.stack[-1]
        if not isinstance(note, _Note) or note.state is not None:
            raise RefusedPickleError("sets the state of something that is no array")
        note.state = state


def read_pickle(data: bytes) -> object:
    """Return the plain value of a pickle of dicts, lists, texts, numbers and byte arrays.

    Raises:
        RefusedPickleError: It holds or does anything else, or is damaged.
    """
    reader = _Reader()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name == "STOP":
                (value,) = reader.stack
                return value
            if count >= _MOST_OPCODES:
                raise RefusedPickleError("has too many parts")
            _step(reader, opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RefusedPickleError):
            raise
        raise RefusedPickleError(f"is damaged ({error})") from error
    raise RefusedPickleError("has no end")


def bytes_array(value: object) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes that a note describes.

    Raises:
        RefusedPickleError: The note is of something else, or disagrees with its bytes.
    """
    if not isinstance(value, _Note) or value.name is not _Name.RECONSTRUCT:
        raise RefusedPickleError("has no array where one was expected")
    state = value.state
    if not isinstance(state, tuple) or len(cast("tuple[object, ...]", state)) != 5:
        raise RefusedPickleError("describes an array incompletely")
    _, shape, kind, fortran, data = cast("tuple[object, ...]", state)
    if not isinstance(kind, _Note) or kind.arguments[:1] not in (("u1",), ("|u1",)):
        raise RefusedPickleError("holds an array of something else than bytes")
    raw = data.encode("latin-1") if isinstance(data, str) else data
    sides = cast("tuple[object, ...]", shape) if isinstance(shape, tuple) else ()
    if not isinstance(raw, bytes) or not all(type(side) is int and side >= 0 for side in sides):
        raise RefusedPickleError("describes an array wrongly")
    sizes = cast("tuple[int, ...]", sides)
    if int(np.prod(sizes, dtype=object)) != len(raw):
        raise RefusedPickleError(f"has {len(raw)} bytes for an array of shape {sizes}")
    return np.frombuffer(raw, np.uint8).reshape(sizes, order="F" if fortran else "C")


def _step(reader: _Reader, name: str, argument: object) -> None:
    if name in _VALUES:
        reader.stack.append(argument)
    elif name in _ACTIONS:
        _ACTIONS[name](reader)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        reader.memo[cast("int", argument)] = reader.stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        reader.stack.append(reader.memo[cast("int", argument)])
    elif name == "GLOBAL":
        reader.name(*str(argument).split(" ", 1))
    elif name not in ("PROTO", "FRAME"):
        raise RefusedPickleError(f"uses {name}")


def _memoise(reader: _Reader) -> None:
    reader.memo[len(reader.memo)] = reader.stack[-1]


def _stack_global(reader: _Reader) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.name(module, name)


def _append(reader: _Reader) -> None:
    value = reader.stack.pop()
    reader.top_list().append(value)


def _appends(reader: _Reader) -> None:
    values = reader.since_mark()
    reader.top_list().extend(values)


def _set_item(reader: _Reader) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.top_dict()[key] = value


def _set_items(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.top_dict().update(zip(items[::2], items[1::2], strict=True))


def _tuple_of(count: int) -> Callable[[_Reader], None]:
    def action(reader: _Reader) -> None:
        items = reader.stack[-count:]
        if len(items) < count:
            raise RefusedPickleError("a tuple is short")
        reader.stack[-count:] = [tuple(items)]

    return action


def _dict(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.stack.append(dict(zip(items[::2], items[1::2], strict=True)))


_VALUES: Final = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    }
)
_ACTIONS: Final[Mapping[str, Callable[[_Reader], None]]] = {
    "NONE": lambda reader: reader.stack.append(None),
    "NEWTRUE": lambda reader: reader.stack.append(True),
    "NEWFALSE": lambda reader: reader.stack.append(False),
    "MARK": lambda reader: reader.stack.append(_Mark()),
    "EMPTY_DICT": lambda reader: reader.stack.append(dict[object, object]()),
    "EMPTY_LIST": lambda reader: reader.stack.append(list[object]()),
    "EMPTY_TUPLE": lambda reader: reader.stack.append(()),
    "DICT": _dict,
    "LIST": lambda reader: reader.stack.append(reader.since_mark()),
    "TUPLE": lambda reader: reader.stack.append(tuple(reader.since_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "MEMOIZE": _memoise,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _Reader.reduce,
    "BUILD": _Reader.build,
}
