"""What a run left its devices with: the architecture each deploys, and who came later.

Rules of this file:
    * Read from the run's folder alone: the newest checkpoint's agents say what a device deploys or,
      where devices choose for themselves, their own folders, where those lie below the run's.
    * A device that was not there from the start is admitted like any other, with an agent that
      starts from what the others found; its accuracy before and after is its own folder's.
"""

from __future__ import annotations

from pathlib import Path

from secure_pfnas.config import Settings
from secure_pfnas.roles.cohort import need
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.checkpoints import Checkpoints
from secure_pfnas.runtime.device_store import read_deployed
from secure_pfnas.runtime.observe import RunSeen


def deployed(folder: Path, settings: Settings, seen: RunSeen) -> dict[str, list[int]]:
    """Return the architecture each device deploys, by name; empty before the first checkpoint."""
    names = sorted({name for one in seen.ended for name in one.members})
    if not names or not (folder / "checkpoints").is_dir():
        return {}
    if not settings.rewards_leave:
        homes = {path.name: path for path in observe.device_folders(folder)}
        own = {name: read_deployed(homes[name]) for name in names if name in homes}
        return {name: list(choice) for name, choice in own.items() if choice is not None}
    federation = Federation.of(settings)
    layout = federation.layout
    kept = Checkpoints(folder / "checkpoints", layout.digest, layout.length)
    newest = kept.latest(seen.ended[-1].number)
    if newest is None:
        return {}
    agents = federation.agents()
    agents.restore(newest.agents)
    chosen = federation.strategy.deploy(
        names,
        agents,
        lambda name, one: federation.limits.allowed(one, federation.device_class(name)),
        need=need(federation),
    )
    return {name: list(architecture) for name, architecture in sorted(chosen.items())}


def admitted(seen: RunSeen, devices: list[Path]) -> dict[str, dict[str, float]]:
    """Return the devices that came after the first round.

    Returns:
        By name the ``round`` of its first training, and its test accuracy then, ``before``, and in
        its last one, ``after``.
    """
    if not seen.ended:
        return {}
    first = seen.ended[0]
    late: dict[str, dict[str, float]] = {}
    for folder in devices:
        by_round = observe.accuracy([folder])
        if by_round and min(by_round) > first.number and folder.name not in first.members:
            began, ended = min(by_round), max(by_round)
            before, after = round(by_round[began], 4), round(by_round[ended], 4)
            late[folder.name] = {"round": began, "before": before, "after": after}
    return late
