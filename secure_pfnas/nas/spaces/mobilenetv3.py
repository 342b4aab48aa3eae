"""MobileNetV3 as PerFedRLNAS searches it: 23 decisions, 8,957,952 architectures.

Rules of this file:
    * The table is the paper's. Group normalisation stands where it has batch normalisation.

Reference: Yao & Li, PerFedRLNAS (AAAI 2024); Howard et al., Searching for MobileNetV3 (ICCV 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn import functional as F

from secure_pfnas.nas.mbconv import Activation
from secure_pfnas.nas.mobile import MobileSpace, Stage, table
from secure_pfnas.nas.space import Decision

STAGES = (
    Stage("mb1", (16, 24), (1, 2), (3, 5), (1,), stride=2, squeeze=True),
    Stage("mb2", (24, 40), (1, 2), (3, 5), (3, 4, 5), stride=2, squeeze=False),
    Stage("mb3", (40, 80), (2, 3, 4), (3, 5), (3, 4, 5), stride=2, squeeze=True),
    Stage("mb4", (48, 112), (2, 3, 4), (3, 5), (3, 4, 5), stride=1, squeeze=True),
    Stage("mb5", (96, 160), (2, 3, 4), (3, 5), (3, 4, 5), stride=2, squeeze=True),
)


@dataclass(frozen=True)
class MobileNetV3(MobileSpace):
    """The paper's convolutional space, for 1- or 3-channel images of 16×16 to 224×224."""

    name: ClassVar[str] = "mobilenetv3"
    sides: ClassVar[tuple[int, int]] = (16, 224)
    stages: ClassVar[tuple[Stage, ...]] = STAGES
    activation: ClassVar[Activation] = F.hardswish
    decisions: ClassVar[tuple[Decision, ...]] = table((224,), (16,), STAGES, (1280,))
