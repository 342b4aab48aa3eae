"""Numbers in words, the same on every page."""

from __future__ import annotations


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def epsilon(value: float | None) -> str:
    """Return an ε; ``None`` is infinite."""
    return "∞" if value is None else amount(value)


def amount(value: float) -> str:
    """Return a number with three digits that say something."""
    return f"{value:.3g}"


def size(count: float) -> str:
    """Return a number of bytes."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def setting(value: object) -> str:
    """Return a setting's value as its file has it, near enough to read."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
