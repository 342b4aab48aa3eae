"""FedTP: personal attention, written by a hypernetwork on the server. NON-PRIVATE.

Rules of this file:
    * The hypernetwork learns from each device's own update of its attention, which no sum of
      slots holds: FedTP runs unmasked, in a comparison's simulation and nowhere else.
    * Everything else is averaged as under FedAvg.
    * Before the first step every device's attention is the federation's initial one.

Reference:
    Li et al., FedTP: Federated Learning by Transformer Personalization (IEEE TNNLS 2023); the
    update through the hypernetwork is that of Shamsian et al., pFedHN (ICML 2021), eq. 4. Of our
    own: features of a fixed norm, and an output layer that starts at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.strategies.fixed import Fixed

Vector = NDArray[np.float32]
PROJECTIONS = ("query", "key", "value")
EMBEDDING, FEATURES = 16, 16
OUTPUT_RATE, TRUNK_RATE = 1.0, 0.01


@dataclass(frozen=True)
class FedTP(Fixed):
    """The attention's projections are each device's own.

    Raises:
        UserError: CONFIG, for a space without attention.
    """

    name: ClassVar[str] = "fedtp"

    def __post_init__(self) -> None:
        """Check that there is attention."""
        if not self.personal:
            raise UserError(
                f"training.strategy: fedtp writes attention, {self.space.name} has none",
                todo="choose a space with attention, such as compact_vit",
                code=ExitCode.CONFIG,
            )

    @property
    def personal(self) -> frozenset[str]:
        """The projections to queries, keys and values."""
        return frozenset(
            name for name in self.space.tensors if name.split(".")[-2:-1][0] in PROJECTIONS
        )


class HyperNetwork(nn.Module):
    """Writes every device's personal values from an embedding of it.

    Args:
        names: The devices.
        start: What it writes for everybody at first, (personal size,) float32.
        generator: Of embeddings and trunk.
    """

    def __init__(self, names: tuple[str, ...], start: Vector, generator: torch.Generator) -> None:
        super().__init__()
        self._rows = {name: row for row, name in enumerate(names)}
        draw = torch.randn(len(names), EMBEDDING, generator=generator)
        trunk = torch.randn(FEATURES, EMBEDDING, generator=generator) / EMBEDDING**0.5
        self.embedding, self.trunk = nn.Parameter(draw), nn.Parameter(trunk)
        self.base = nn.Parameter(torch.tensor(start))
        self.output = nn.Parameter(torch.zeros(len(start), FEATURES))
        groups = [
            {"params": [self.base, self.output], "lr": OUTPUT_RATE},
            {"params": [self.embedding, self.trunk], "lr": TRUNK_RATE},
        ]
        self._optimizer = torch.optim.SGD(groups)

    def forward(self, name: str) -> Tensor:
        """Return a device's values, (personal size,)."""
        hidden = torch.tanh(self.trunk @ self.embedding[self._rows[name]])
        return self.base + self.output @ F.layer_norm(hidden, (FEATURES,))

    def write(self, name: str) -> Vector:
        """Return a device's values, a copy."""
        with torch.no_grad():
            return self(name).numpy().copy()

    def learn(self, updates: Mapping[str, Vector]) -> None:
        """Step towards the mean of what the devices made of their values.

        Args:
            updates: New less old values, by name.
        """
        self._optimizer.zero_grad(set_to_none=True)
        for name in sorted(updates):
            pull = torch.from_numpy(-updates[name] / np.float32(len(updates)))
            self(name).backward(pull)
        self._optimizer.step()
