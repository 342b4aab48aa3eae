"""The sum of a batch's clipped gradients, from one backward pass.

Rules of this file:
    * One joint clip over all parameters: a factor min(1, clip / (norm + 10⁻⁶)) an example, as in
      Opacus. The sum moves by at most the clip when an example comes or goes.
    * The backward pass computes no parameter's gradient; each layer's is made from what went in
      and the gradient of what came out, once an example's norm is known.
    * An example whose gradient is not finite counts as zero: it must not decide whether a whole
      update can be sent.
    * A parameter that took no part, that two layers share or that no known layer holds is refused:
      nothing is trained outside the clip.

Reference:
    Abadi et al., Deep Learning with Differential Privacy (2016), algorithm 1, without its noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secure_pfnas.learning.example_gradients import LayerShare, share

_TINY = 1e-6
_AT_ONCE = 128  # examples: bounds memory, never the result's meaning


def clipped_sums(module: nn.Module, x: Tensor, y: Tensor, clip: float) -> list[Tensor]:
    """Return Σ over examples of their clipped cross-entropy gradients.

    Args:
        module: Maps (n, …) to logits, each example by itself; every parameter is trained.
        x: Examples, (n, …); n may be 0.
        y: Labels, int64, (n,).
        clip: Bound on one example's joint gradient norm, > 0.

    Returns:
        One tensor a parameter, in the order and of the shape of ``module.parameters()``.

    Raises:
        ValueError: A parameter is outside what can be clipped.
    """
    check(module)
    total = [torch.zeros_like(parameter) for parameter in module.parameters()]
    for start in range(0, len(y), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        for sums, more in zip(total, _sums(module, x[part], y[part], clip), strict=True):
            sums += more
    return total


def check(module: nn.Module) -> None:
    """Refuse a module with a parameter of two layers.

    Raises:
        ValueError: There is one.
    """
    held = Counter(p for layer in module.modules() for p in layer.parameters(recurse=False))
    if any(count > 1 for count in held.values()):
        raise ValueError("two layers share a parameter: DP-SGD refuses it")


def _sums(module: nn.Module, x: Tensor, y: Tensor, clip: float) -> list[Tensor]:
    shares = _shares(module, x, y)
    with torch.no_grad():
        norms = torch.stack([share.squares for share in shares]).sum(0).sqrt()
        finite = torch.isfinite(norms)
        if not finite.all():
            rest = x[finite], y[finite]
            zeros = [torch.zeros_like(parameter) for parameter in module.parameters()]
            return _sums(module, *rest, clip) if len(rest[1]) else zeros
        factors = (clip / (norms + _TINY)).clamp(max=1.0)
        sums = {p: total for one in shares for p, total in one.weighted(factors).items()}
    return [sums[parameter] for parameter in module.parameters()]


def _shares(module: nn.Module, x: Tensor, y: Tensor) -> list[LayerShare]:
    """Go forward and backward once; return every layer's part of the gradients."""
    layers = [layer for layer in module.modules() if list(layer.parameters(recurse=False))]
    tape = _Tape(len(y))
    parameters = list(module.parameters())
    with tape.on(layers):
        try:
            for parameter in parameters:
                parameter.requires_grad_(requires_grad=False)
            F.cross_entropy(module(x), y, reduction="sum").backward()
        finally:
            for parameter in parameters:
                parameter.requires_grad_(requires_grad=True)
    with torch.no_grad():
        return [share(layer, *tape.uses(layer)) for layer in layers]


class _Tape:
    """What went into each layer, and the gradient of what came out, use by use."""

    def __init__(self, examples: int) -> None:
        self._examples = examples
        self._inputs: dict[nn.Module, list[Tensor]] = {}
        self._backprops: dict[tuple[nn.Module, int], Tensor] = {}

    @contextmanager
    def on(self, layers: list[nn.Module]) -> Generator[None]:
        """Record, within the context."""
        handles: list[RemovableHandle] = []
        try:
            handles += [layer.register_forward_hook(self._note) for layer in layers]
            yield
        finally:
            for handle in handles:
                handle.remove()

    def uses(self, layer: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """Return a layer's inputs and the gradients of its outputs.

        Raises:
            ValueError: The layer took no part, or not in the loss.
        """
        inputs = self._inputs.get(layer, [])
        backprops = [self._backprops.get((layer, use)) for use in range(len(inputs))]
        reached = [gradient for gradient in backprops if gradient is not None]
        if not inputs or len(reached) != len(inputs):
            raise ValueError(f"a {type(layer).__name__} took no part: DP-SGD covers every parameter")
        return inputs, reached

    def _note(self, layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        if len(given) != 1 or len(given[0]) != self._examples or len(out) != self._examples:
            raise ValueError(f"a {type(layer).__name__} does not take examples one by one")
        uses = self._inputs.setdefault(layer, [])
        if not out.requires_grad:
            out.requires_grad_()  # the first layer's: nothing before it has a gradient
        out.register_hook(partial(self._backprops.__setitem__, (layer, len(uses))))
        uses.append(given[0].detach())
