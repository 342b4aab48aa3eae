"""The search spaces, one family a file.

Rules of this file:
    * A name means one class, here and in every process that trains. Worker processes are given
      the classes registered from outside the package, so each must be importable there.
    * An installed package offers its spaces as entry points in the group ``secure_pfnas.spaces``;
      one is loaded when its name is first asked for, on devices as well.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points
from typing import TypeVar, cast

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.space import SearchSpace
from secure_pfnas.nas.spaces.compact_cnn import CompactCNN
from secure_pfnas.nas.spaces.compact_vit import CompactViT
from secure_pfnas.nas.spaces.mobilenetv3 import MobileNetV3
from secure_pfnas.nas.spaces.nasvit import NASViT

BUILT_IN: tuple[type[SearchSpace], ...] = (CompactCNN, CompactViT, MobileNetV3, NASViT)
SPACES: dict[str, type[SearchSpace]] = {space.name: space for space in BUILT_IN}
"""Spaces by name; ``register_space`` adds to it."""
ENTRY_POINTS = "secure_pfnas.spaces"
_NAME = re.compile(r"[a-z0-9_]{1,40}")
S = TypeVar("S", bound=SearchSpace)


def register_space(space: type[S]) -> type[S]:
    """Make a space from outside the package known by its name; a class decorator.

    Registering a class again changes nothing.

    Raises:
        UserError: CONFIG: the name is malformed or another's, or the class is one that a worker
            process could not import.
    """
    if not _NAME.fullmatch(space.name):
        raise _refused(f"{space.name!r} is no name", "Use up to 40 of a-z, 0-9 and _.")
    if SPACES.get(space.name, space) is not space:
        raise _refused(f"{space.name!r} is another space already", "Choose another name.")
    main = space.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
    if "<locals>" in space.__qualname__ or main:
        raise _refused(
            f"{space.name!r}: worker processes cannot import {space.__qualname__}",
            "Define the class at the top level of a module of its own.",
        )
    SPACES[space.name] = space
    return space


def registered_spaces() -> tuple[type[SearchSpace], ...]:
    """Return the spaces that were registered from outside the package."""
    return tuple(space for space in SPACES.values() if space not in BUILT_IN)


def make_space(name: str, input_shape: tuple[int, int, int], classes: int) -> SearchSpace:
    """Return the space called ``name`` for these images and classes.

    Raises:
        UserError: No such space, or one that cannot read these images.
    """
    if name not in SPACES:
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            register_space(cast("type[SearchSpace]", entry.load()))
    if name not in SPACES:
        raise UserError(
            f"search space {name!r} is unknown",
            todo=f"Choose one of: {', '.join(sorted(SPACES))}.",
            code=ExitCode.CONFIG,
        )
    return SPACES[name](input_shape, classes)


def _refused(what: str, todo: str) -> UserError:
    return UserError(f"search space {what}", todo=todo, code=ExitCode.CONFIG)
