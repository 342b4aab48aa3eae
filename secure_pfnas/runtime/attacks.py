"""Attacking this installation's own mechanisms: the code that clients run, not a model of it.

Rules of this file:
    * What is attacked is imported from where a client imports it; a build whose noise is a tenth
      of what it claims fails here.
    * A finding names the bound beside the claim, so that a weak attack shows as one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from secure_pfnas.audit.attacks import inversion, membership, rewards
from secure_pfnas.audit.findings import Finding, held
from secure_pfnas.config import load_settings
from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.learning.dp_sgd import train_privately
from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.calibration import training_sigma
from secure_pfnas.privacy.clipping import clip
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.quantize import Quantizer
from secure_pfnas.privacy.weight_plan import WeightNoise, plan_weights
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.release import release_reward, reserve
from secure_pfnas.runtime.datasets import load
from secure_pfnas.secagg.masks import Stream, add_masks
from secure_pfnas.secagg.parameters import Suite
from secure_pfnas.wire.randomness import RandomBytes

DELTA = 1e-5
Attack = Callable[[RandomBytes], list[Finding]]

_CANARIES = 1000
_CLAIMED = 2.0
_RATE, _STEPS = 0.5, 4
_CLIP, _BITS, _CLIENTS, _COLLUSION = 5.0, 20, 16, 3
_HIDDEN, _ENLARGED = 32, 4
_ASKED, _SLOTS, _CHOICES = 100, 7, 4


def canaries(random: RandomBytes) -> list[Finding]:
    """Train a client's DP-SGD on a coin-flipped half of a thousand canaries; guess which."""
    there = np.unpackbits(np.frombuffer(random(_CANARIES // 8), np.uint8)).astype(np.bool_)
    sigma = training_sigma(_CLAIMED, DELTA, _RATE, _STEPS)
    settings = DPSettings(sigma, 1.0, _RATE, _STEPS, nominal_size=_CANARIES // 2)
    guesses = membership.guess(_scores(there, settings, random), there, DELTA)
    seen = f"{guesses.right} of {guesses.made} guesses about {guesses.canaries} canaries are right"
    bounds = {
        "one_run": guesses.one_run_epsilon,
        "membership": guesses.two_world_epsilon,
    }
    claim = "what an update says of who was trained on stays below the ε that is claimed"
    return [
        held(
            name,
            claim,
            holds=bound <= _CLAIMED,
            seen=f"{seen}: ε ≥ {bound:.2f}, claimed {_CLAIMED:g}",
        )
        for name, bound in bounds.items()
    ]


def _scores(
    there: NDArray[np.bool_], settings: DPSettings, random: RandomBytes
) -> NDArray[np.float64]:
    """Each canary lights one input of its own: its gradient is orthogonal to all others'."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(_CANARIES, 2))
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    x = np.float32(100.0) * np.eye(_CANARIES, dtype=np.float32)[there]
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    y = np.zeros(len(x), dtype=np.int64)
    train_privately(module, optimizer, x=x, y=y, settings=settings, random=random)
    moved = next(module.parameters()).detach().numpy().astype(np.float64)
    return moved[0] - moved[1]


def inversions(random: RandomBytes) -> list[Finding]:
    """Look for a client's image in its update, its upload, a sum, and a sum with noise."""
    images = _images()
    updates = [_update(image) for image in images]
    grid = Quantizer(_CLIP, _BITS, _CLIENTS, noise_margin=2**31 - 2**25)
    codes = [grid.encode(clip(update, _CLIP).vector, random) for update in updates]
    masked = codes[0].copy()
    add_masks(masked, [Stream(random(32), [(0, masked.size)])], Suite.AES_256_CTR)
    asked = WeightNoise(8.0, grid.offset, masked.size, _CLIENTS - _COLLUSION)
    noise = plan_weights(asked, DELTA, 1).mechanism
    total = _total(codes)
    noised = _total([noise.release(one, random) for one in codes])
    views: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], float | None]] = {
        "raw update": (updates[0].astype(np.float64), images[:1], None),
        "masked update": (grid.decode_sum(masked, 1), images[:1], 0.15),
        "slot sum": (grid.decode_sum(total, _CLIENTS), images, None),
        "slot sum with noise": (grid.decode_sum(noised, _CLIENTS), images, 0.2),
    }
    claim = "an image cannot be recovered from what leaves a device"
    findings: list[Finding] = []
    for name, (vector, sought, most) in views.items():
        found = inversion.best_cosine(inversion.invert(*_first_layer(vector)), sought)
        limit = "what it is without protection" if most is None else f"at most {most:g}"
        findings.append(
            held(
                f"inversion of a {name}",
                claim,
                holds=most is None or found <= most,
                seen=f"cosine {found:.2f}, {limit}",
            )
        )
    return findings


def _images() -> NDArray[np.float64]:
    """Sixteen digits, enlarged so that a cosine by chance is small."""
    x = load("digits").x_train[:_CLIENTS, 0].astype(np.float64)
    large = np.kron(x, np.ones((_ENLARGED, _ENLARGED)))
    return large.reshape(_CLIENTS, -1).astype(np.float64)


def _total(codes: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    return np.stack(codes).sum(axis=0, dtype=np.uint32)


def _update(image: NDArray[np.float64]) -> NDArray[np.float32]:
    """One plain step on one image."""
    generator = torch.Generator().manual_seed(1)
    module = nn.Sequential(nn.Linear(image.size, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 10))
    with torch.no_grad():
        for parameter in module.parameters():
            fan = parameter.shape[-1]
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
    x = torch.tensor(image[None], dtype=torch.float32)
    F.cross_entropy(module(x), torch.tensor([3])).backward()
    steps = [-0.1 * p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return torch.cat(steps).numpy()


def _first_layer(vector: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size = 64 * _ENLARGED**2
    split = _HIDDEN * size
    return vector[:split].reshape(_HIDDEN, size), vector[split : split + _HIDDEN]


def reward_reconstruction(random: RandomBytes) -> list[Finding]:
    """Ask for a reward again and again, and solve for it from sums over groups."""
    terms = Federation.of(
        load_settings(
            None,
            ["space.channels=1", "space.height=8", "space.width=8", "space.classes=10"],
        )
    )
    plan = terms.plan.reward
    assert plan is not None
    truth = np.frombuffer(random(_CLIENTS), np.uint8).astype(np.float64) % 100
    answers = np.array([_reports(terms, int(count), random) for count in truth], np.float64)
    groups = _groups(random)
    sigma, claimed = float(plan.sigma), epsilon([plan.event], terms.plan.delta)
    guesses = {
        "averaging retries": rewards.averaged(answers),
        "solving slot sums": rewards.solved(groups, groups @ answers[:, 0]),
    }
    claim = "a count stays hidden behind its noise, however often it is asked for"
    findings: list[Finding] = []
    for name, guessed in guesses.items():
        error = rewards.rms(guessed, truth)
        bound = rewards.refuted_epsilon(error, len(truth), terms.plan.delta)
        findings.append(
            held(
                f"reward by {name}",
                claim,
                holds=error >= 0.5 * sigma and bound <= claimed,
                seen=f"error {error:.2f} counts for σ = {sigma:.2f}: ε ≥ {bound:.2f} a report, "
                f"claimed {claimed:.2f}",
            )
        )
    return findings


def _reports(terms: Federation, count: int, random: RandomBytes) -> list[int]:
    """One device's answers when the same round is asked for a hundred times."""
    ledger, _ = reserve(terms, Ledger(), 1)
    answers: list[int] = []
    for _ in range(_ASKED):
        ledger, _, noised = release_reward(terms, ledger, 1, count, random)
        answers.append(noised)
    return answers


def _groups(random: RandomBytes) -> NDArray[np.float64]:
    """Who chose what: a row a slot and choice, a column a device; all devices but few groups."""
    draws = np.frombuffer(random(_SLOTS * _CLIENTS), np.uint8).reshape(_SLOTS, _CLIENTS) % _CHOICES
    return np.concatenate([draws == choice for choice in range(_CHOICES)]).astype(np.float64)


ATTACKS = MappingProxyType[str, Attack](
    {"canaries": canaries, "inversion": inversions, "rewards": reward_reconstruction}
)


def attack(name: str, random: RandomBytes = os.urandom) -> list[Finding]:
    """Play one attack, or ``all``; raises KeyError for no such one."""
    chosen = ATTACKS.values() if name == "all" else [ATTACKS[name]]
    return [finding for one in chosen for finding in one(random)]
