"""DP-SGD: Opacus' per-sample gradients, with noise and batches from a secret stream.

Rules of this file:
    * Every trained parameter is inside: one joint clip over all of them, noise on each.
    * Noise and Poisson batches come from a ``RandomBytes``; Opacus' own generator, a seed of which
      undoes the guarantee, is never asked.
    * The number of steps, the sampling rate and the divisor are public and fixed beforehand. An
      empty batch is a step like any other: noise is added and the step counts.
    * Normalisation across a batch mixes examples, which has no per-sample gradient: refused.
    * A convolution's activations are brought into plain memory order first: Opacus 1.6 computes
      wrong gradients, without a word, from activations in channels-last order.

Reference:
    Abadi et al., Deep Learning with Differential Privacy (2016), algorithm 1.
"""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule, register_grad_sampler
from opacus.grad_sample.conv import compute_conv_grad_sample
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.privacy.mechanisms.gaussian import gaussian_noise, poisson_batch
from secure_pfnas.wire.randomness import RandomBytes


@register_grad_sampler(nn.Conv2d)
def convolution_gradients(
    layer: nn.Conv2d, activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[nn.Parameter, torch.Tensor]:
    """Return a convolution's per-sample gradients, whatever its activations' memory order."""
    # Not ``contiguous()``: that returns n×c×1×1 as it is, with the strides of channels-last.
    plain = [x.clone(memory_format=torch.contiguous_format) for x in activations]
    return compute_conv_grad_sample(layer, plain, backprops)


class SecretNoiseOptimizer(DPOptimizer):
    """Opacus' optimiser with its noise drawn from a given stream.

    Args:
        optimizer: What steps on the noised gradient.
        settings: Noise, clip and divisor.
        random: Bytes for the noise.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: DPSettings, random: RandomBytes
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.clip_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._divisor = settings.sample_rate * settings.nominal_size
        self._sigma = settings.noise_multiplier * settings.clip_norm
        self._random = random

    def add_noise(self) -> None:
        """Add N(0, (σ·clip)²) to every coordinate of the summed, clipped gradients."""
        for parameter in self.params:
            summed = cast("torch.Tensor", getattr(parameter, "summed_grad"))  # noqa: B009
            noise = gaussian_noise(summed.numel(), self._sigma, self._random)
            parameter.grad = (summed + torch.from_numpy(noise).view_as(summed)).view_as(parameter)

    def scale_grad(self) -> None:
        """Divide by the expected, public batch size."""
        for parameter in self.params:
            assert parameter.grad is not None
            parameter.grad /= self._divisor


def train_privately(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    settings: DPSettings,
    random: RandomBytes,
) -> None:
    """Run ``settings.steps`` DP-SGD steps on ``module``, in place.

    Formal guarantee: with Gaussian noise, each step is a Poisson-subsampled Gaussian mechanism of
    noise multiplier σ and rate q under add/remove of one example, on all parameters jointly. The
    noise is in floating point, whose low bits the guarantee does not cover.

    Raises:
        ValueError: The module normalises over batches, or has a frozen parameter.
    """
    if any(isinstance(layer, _BatchNorm) for layer in module.modules()):
        raise ValueError("batch normalisation has no per-sample gradient: DP-SGD refuses it")
    if not all(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError("DP-SGD covers every parameter; one of them is not trained")
    module.train()
    hooked = GradSampleModule(module, loss_reduction="sum")
    private = SecretNoiseOptimizer(optimizer, settings, random)
    try:
        for _ in range(settings.steps):
            batch = poisson_batch(len(y), settings.sample_rate, random)
            private.zero_grad(set_to_none=True)
            _per_sample_gradients(hooked, x[batch], y[batch])
            private.step()
    finally:
        _detach(hooked)


def _per_sample_gradients(
    hooked: GradSampleModule, x: NDArray[np.float32], y: NDArray[np.int64]
) -> None:
    if not len(y):
        for parameter in hooked.parameters():
            setattr(parameter, "grad_sample", parameter.new_zeros((0, *parameter.shape)))  # noqa: B010
        return
    # Opacus' backward hooks of the first layer want an input that has a gradient.
    images = torch.tensor(x, requires_grad=True)
    with warnings.catch_warnings():
        # An embedding's input is an index, which never has one; its gradients are exact all the
        # same, as the spaces' conformance suite shows.
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        F.cross_entropy(hooked(images), torch.tensor(y), reduction="sum").backward()


def _detach(hooked: GradSampleModule) -> None:
    """Give the plain module back as it was: no hooks, no per-sample gradients."""
    hooked.remove_hooks()
    hooked.del_grad_sample()
    for parameter in hooked.parameters():
        for name in ("summed_grad", "_forward_counter"):
            if hasattr(parameter, name):
                delattr(parameter, name)
