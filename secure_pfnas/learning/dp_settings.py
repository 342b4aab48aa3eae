"""DP-SGD's public parameters.

Rules of this file:
    * Apart from the training itself, so that who only plans it need not import Opacus.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DPSettings:
    """The public, frozen parameters of a client's DP-SGD.

    Args:
        noise_multiplier: σ: the noise's standard deviation in units of ``clip_norm``, > 0.
        clip_norm: Bound on one example's joint gradient norm, > 0.
        sample_rate: q: each example is in a batch with this probability, in (0, 1].
        steps: Steps a round, ≥ 1.
        nominal_size: Public nominal number of training examples. Gradients are divided by
            q·nominal_size, because the true number is private.
    """

    noise_multiplier: float
    clip_norm: float
    sample_rate: float
    steps: int
    nominal_size: int

    def __post_init__(self) -> None:
        if self.noise_multiplier <= 0 or self.clip_norm <= 0 or not 0 < self.sample_rate <= 1:
            raise ValueError("DP-SGD needs a positive σ and clip, and q in (0, 1]")
        if self.steps < 1 or self.nominal_size < 1:
            raise ValueError("DP-SGD takes at least one step on at least one nominal example")
