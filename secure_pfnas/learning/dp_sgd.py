"""DP-SGD: sums of clipped gradients, with noise and batches from a secret stream.

Rules of this file:
    * Every trained parameter is inside: one joint clip over all of them, noise on each.
    * Noise and Poisson batches come from a ``RandomBytes``; torch's own generator, a seed of which
      undoes the guarantee, is never asked.
    * The number of steps, the sampling rate and the divisor are public and fixed beforehand. An
      empty batch is a step like any other: noise is added and the step counts.
    * Normalisation across a batch mixes examples, which has no per-example gradient: refused.

Reference:
    Abadi et al., Deep Learning with Differential Privacy (2016), algorithm 1.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from secure_pfnas.learning.clipped_sums import ClippedSums
from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.privacy.mechanisms.gaussian import gaussian_noise, poisson_batch
from secure_pfnas.wire.randomness import RandomBytes


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
        ValueError: The module normalises over batches, or has a frozen parameter or one that
            cannot be clipped.
    """
    if any(isinstance(layer, _BatchNorm) for layer in module.modules()):
        raise ValueError("batch normalisation has no per-sample gradient: DP-SGD refuses it")
    clipped_sums = ClippedSums(module, settings.clip_norm)
    module.train()
    images = torch.tensor(x)
    if images.ndim == 4:  # the order in which convolutions' patches are cheapest to lay out
        images = images.to(memory_format=torch.channels_last)
    labels = torch.tensor(y)
    for _ in range(settings.steps):
        batch = torch.from_numpy(poisson_batch(len(y), settings.sample_rate, random))
        sums = clipped_sums(images[batch], labels[batch])
        for parameter, noised in zip(
            clipped_sums.parameters, _noised(sums, settings, random), strict=True
        ):
            parameter.grad = noised
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _noised(sums: list[Tensor], settings: DPSettings, random: RandomBytes) -> list[Tensor]:
    """Add N(0, (σ·clip)²) to every coordinate, then divide by the expected, public batch size.

    The results are in plain memory order, which fused optimisers take for granted.
    """
    sigma = settings.noise_multiplier * settings.clip_norm
    sizes = [total.numel() for total in sums]
    noise = torch.from_numpy(gaussian_noise(sum(sizes), sigma, random))
    parts = cast("tuple[Tensor, ...]", noise.split(sizes))
    for total, part in zip(sums, parts, strict=True):
        part.view(total.shape).add_(total)
    noise /= settings.sample_rate * settings.nominal_size
    return [part.view(s.shape) for part, s in zip(parts, sums, strict=True)]
