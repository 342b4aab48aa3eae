"""Every count that left a device carries the noise that was promised."""

from __future__ import annotations

from collections.abc import Mapping

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.journal import Journal
from secure_pfnas.audit.statistics import FALSE_ALARM, chi_square_tail

NAME = "reward_noised"
CLAIM = "released counts differ from the true ones by noise of the promised size"
NEEDED = 12


def check(
    journal: Journal,
    truths: Mapping[tuple[str, int], int],
    sigma: float,
    false_alarm: float = FALSE_ALARM,
) -> Finding:
    """Compare releases with the true counts, which only the devices' owners know.

    Σ(z/σ)² over n releases is χ² with n degrees of freedom, nearly: the discrete Gaussian is no
    heavier than the continuous one, and for σ ≥ 1 hardly lighter.

    Args:
        journal: With the bodies that the server could read.
        truths: (device, round) → true count.
        sigma: The promised noise, in counts.
        false_alarm: Probability that honest releases fail.
    """
    noises = [
        release.value - truths[key]
        for release in journal.releases()
        if (key := (release.device, release.round)) in truths
    ]
    if len(noises) < NEEDED:
        return unseen(NAME, CLAIM, f"{len(noises)} releases with a known truth, {NEEDED} needed")
    statistic = sum(noise * noise for noise in noises) / sigma**2
    exact = sum(noise == 0 for noise in noises)
    faults: list[str] = []
    if chi_square_tail(statistic, len(noises)) < false_alarm:
        size = "too little" if statistic < len(noises) else "too much"
        faults.append(
            f"{len(noises)} releases carry {size} noise: {statistic / len(noises):.3g} of the "
            f"promised variance; {exact} are the exact count"
        )
    seen = (
        f"{len(noises)} releases, {statistic / len(noises):.3g} of the promised variance "
        f"(σ = {sigma:.4g}); false alarms ≤ {false_alarm:g}"
    )
    return judged(NAME, CLAIM, faults, seen)
