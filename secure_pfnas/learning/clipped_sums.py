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

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secure_pfnas.learning.layer_share import LayerShare, share
from secure_pfnas.learning.scratch import Scratch

_TINY = 1e-6
_AT_ONCE = 128  # examples: bounds memory, never the result's meaning


class ClippedSums:
    """Makes sums of clipped cross-entropy gradients of one module.

    Args:
        module: Maps (n, …) to logits, each example by itself; every parameter is trained.
        clip: Bound on one example's joint gradient norm, > 0.

    Raises:
        ValueError: A parameter is not trained, or is two layers'.
    """

    def __init__(self, module: nn.Module, clip: float) -> None:
        self._module, self._clip, self._scratch = module, clip, Scratch()
        own = [(layer, list(layer.parameters(recurse=False))) for layer in module.modules()]
        self._layers = [layer for layer, held in own if held]
        self.parameters = [parameter for _, held in own for parameter in held]
        if not all(parameter.requires_grad for parameter in self.parameters):
            raise ValueError("DP-SGD covers every parameter; one of them is not trained")
        if len(set(self.parameters)) < len(self.parameters):
            raise ValueError("two layers share a parameter: DP-SGD refuses it")

    def __call__(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Return Σ over examples of their clipped gradients, in the order of ``parameters``.

        Args:
            x: Examples, (n, …); n may be 0.
            y: Labels, int64, (n,).

        Raises:
            ValueError: A parameter is outside what can be clipped.
        """
        if not len(y):
            return [torch.zeros_like(parameter) for parameter in self.parameters]
        total = self._sums(x[:_AT_ONCE], y[:_AT_ONCE])
        if len(y) > _AT_ONCE:
            rest = self(x[_AT_ONCE:], y[_AT_ONCE:])
            total = [sums + more for sums, more in zip(total, rest, strict=True)]
        return total

    def _sums(self, x: Tensor, y: Tensor) -> list[Tensor]:
        shares = self._shares(x, y)
        norms = torch.stack([share.squares for share in shares]).sum(0).sqrt()
        finite = torch.isfinite(norms)
        if not finite.all():
            return self(x[finite], y[finite])
        factors = (self._clip / (norms + _TINY)).clamp(max=1.0)
        with torch.no_grad():
            sums = {p: total for one in shares for p, total in one.weighted(factors).items()}
        return [sums[parameter] for parameter in self.parameters]

    def _shares(self, x: Tensor, y: Tensor) -> list[LayerShare]:
        """Go forward and backward once; return every layer's part of the gradients."""
        tape = _Tape(len(y))
        with tape.on(self._layers), self._no_parameter_gradients():
            F.cross_entropy(self._module(x), y, reduction="sum").backward()
        with torch.no_grad():
            return [share(layer, *tape.uses(layer), self._scratch) for layer in self._layers]

    @contextmanager
    def _no_parameter_gradients(self) -> Generator[None]:
        try:
            for parameter in self.parameters:
                parameter.requires_grad = False
            yield
        finally:
            for parameter in self.parameters:
                parameter.requires_grad = True


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
            raise ValueError(f"a {type(layer).__name__} took no part: DP-SGD covers everything")
        return inputs, reached

    def _note(self, layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        if len(given) != 1 or len(given[0]) != self._examples or len(out) != self._examples:
            raise ValueError(f"a {type(layer).__name__} does not take examples one by one")
        uses = self._inputs.setdefault(layer, [])
        if not out.requires_grad:
            out.requires_grad_()  # the first layer's: nothing before it has a gradient
        out.register_hook(partial(self._backprops.__setitem__, (layer, len(uses))))
        uses.append(given[0].detach())
