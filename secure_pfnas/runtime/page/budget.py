"""A run's privacy in pictures: how the budget burnt down, and what noise did to rewards.

Rules of this file:
    * ε is the device's that spent most, by its own ledger.
    * The truth about a reward is the owner's: it is shown where all devices are simulated, here,
      by accuracy on test examples, which nothing releases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from secure_pfnas.config import Settings
from secure_pfnas.learning.devices import nominal_sizes
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.page.draw import Line, lines
from secure_pfnas.runtime.page.parts import Figure
from secure_pfnas.runtime.page.style import ALARM, COLOURS, MUTED
from secure_pfnas.runtime.page.texts import amount


def budget_figure(devices: Sequence[Path], settings: Settings) -> Figure | None:
    """Return the ε spent by round; ``None`` where no ledger is here, or nothing is bounded."""
    ledgers = [observe.burnt(device) for device in devices]
    numbers = sorted({number for ledger in ledgers for number in ledger})
    limits = {
        "training": settings.privacy.train_epsilon if settings.privacy.dp_sgd else None,
        "validation": settings.privacy.reward_epsilon if settings.privacy.reward_noise else None,
    }
    spent = {
        kind: [_most(ledgers, number, index) for number in numbers]
        for index, kind in enumerate(limits)
    }
    bounded = {
        kind: [value for value in values if value is not None]
        for kind, values in spent.items()
        if limits[kind] is not None and None not in values
    }
    if not numbers or not bounded:
        return None

    def draw(axes: Axes) -> None:
        drawn = [Line(kind, numbers, values) for kind, values in bounded.items()]
        lines(axes, drawn, "round", "ε spent")
        for limit in sorted({limits[kind] or 0.0 for kind in bounded}):
            axes.axhline(limit, color=ALARM, linestyle="--", linewidth=1)
            axes.annotate(
                f"limit {limit:g}", (numbers[0], limit), xytext=(0, 3),
                textcoords="offset points", color=ALARM,
            )  # fmt: skip
        axes.set_ylim(bottom=0, top=1.12 * max(limits[kind] or 0.0 for kind in bounded))

    unbounded = [kind for kind in limits if kind not in bounded]
    rest = f" The ε of {unbounded[0]} records is infinite and not drawn." if unbounded else ""
    return Figure(
        name="budget",
        title="Budget burn-down",
        caption=f"ε of one record of the device that spent most, reserved before release.{rest}",
        alt="; ".join(f"{kind} ε ends at {amount(values[-1])}" for kind, values in bounded.items()),
        heads=("round", *(f"{kind}_epsilon" for kind in spent)),
        rows=[
            (number, *("inf" if v is None else v for v in values))
            for number, *values in zip(numbers, *spent.values(), strict=True)
        ],
        draw=draw,
    )


def _most(
    ledgers: Sequence[Mapping[int, tuple[float | None, float | None]]], number: int, index: int
) -> float | None:
    """Return the largest ε after a round; ``None``, which is infinite, beats every number."""
    values: list[float] = []
    for ledger in ledgers:
        known = [one for one in ledger if one <= number]
        if known:
            value = ledger[max(known)][index]
            if value is None:
                return None
            values.append(value)
    return max(values, default=0.0)


def reward_figure(
    folder: Path, devices: Sequence[Path], settings: Settings, summary: Mapping[str, Any]
) -> Figure | None:
    """Return released rewards against what is true of the same models; simulations only."""
    if summary["transport"]["broker"] is not None:
        return None
    sizes = nominal_sizes(settings)
    truth = {
        (number, device.name): accuracy
        for device in devices
        for number, accuracy in observe.accuracy([device]).items()
    }
    rows = [
        (number, name, truth[number, name], count / sizes[name].validation)
        for number, name, count in observe.rewards(folder)
        if (number, name) in truth
    ]
    if not rows:
        return None
    true, told = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    gap = float(np.sqrt(np.mean((told - true) ** 2)))

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8)
        axes.plot(100 * true, 100 * told, "o", color=COLOURS[0], markersize=3, alpha=0.5)
        axes.set_xlabel("true accuracy, test examples, %")
        axes.set_title("released reward, validation examples, %", loc="left", fontsize=9.5,
                       color=MUTED)  # fmt: skip
        low = 100 * float(min(true.min(), told.min()))
        axes.set_xlim(100 * float(true.min()) - 2, 100 * float(true.max()) + 2)
        axes.set_ylim(min(low, 0.0) - 3, max(103.0, 100 * float(told.max()) + 3))

    kind = "with noise" if settings.privacy.reward_noise else "NON-PRIVATE, without noise"
    return Figure(
        name="reward-noise",
        title="Reward noise against the truth (simulation only)",
        caption="A point a report: the share of right answers that was released, before public "
        "costs, against the same model's accuracy on the device's test examples. Known only where "
        "all devices are simulated; on the line nothing would be lost to noise or to sampling.",
        alt=f"{len(rows)} reports {kind}; they are {gap:.3f} off the truth (root mean square).",
        heads=("round", "device", "true_test_accuracy", "released_accuracy"),
        rows=rows,
        draw=draw,
    )
