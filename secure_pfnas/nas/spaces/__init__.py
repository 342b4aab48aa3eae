"""The search spaces, one family a file."""

from __future__ import annotations

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.space import SearchSpace
from secure_pfnas.nas.spaces.compact_cnn import CompactCNN
from secure_pfnas.nas.spaces.compact_vit import CompactViT

SPACES: dict[str, type[SearchSpace]] = {space.name: space for space in (CompactCNN, CompactViT)}
"""Spaces by name; a space from outside the package is registered by adding it here."""


def make_space(name: str, input_shape: tuple[int, int, int], classes: int) -> SearchSpace:
    """Return the space called ``name`` for these images and classes.

    Raises:
        UserError: No such space, or one that cannot read these images.
    """
    if name not in SPACES:
        raise UserError(
            f"search space {name!r} is unknown",
            todo=f"Choose one of: {', '.join(sorted(SPACES))}.",
            code=ExitCode.CONFIG,
        )
    return SPACES[name](input_shape, classes)
