"""Exact discrete Gaussians per CPU second, at the scale of noise on weights; *peer* is OpenDP."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from fractions import Fraction
from statistics import median

import opendp.prelude as dp

from secure_pfnas.privacy.mechanisms.vector_sampler import sample_vector

TURNS = 5
SIGMA = 370_000
OURS, THEIRS = 1_000_000, 2_000


def rows() -> list[dict[str, object]]:
    """Measure and return the benchmark's one row."""
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
    gaussian = dp.m.make_gaussian(*space, float(SIGMA))
    zeros = [0] * THEIRS
    ours, peer = [], []
    for _ in range(TURNS + 1):
        ours.append(OURS / seconds(lambda: sample_vector(Fraction(SIGMA**2), OURS, os.urandom)))
        peer.append(THEIRS / seconds(lambda: gaussian(zeros)))
    return [
        {
            "name": "noise_sampler_vs_opendp",
            "ratio": median(a / b for a, b in zip(ours[1:], peer[1:], strict=True)),
            "goal": 100.0,
            "better": "higher",
            "ours": median(ours[1:]),
            "peer": median(peer[1:]),
            "unit": "draws a CPU s; promised: 5e6",
        }
    ]


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
