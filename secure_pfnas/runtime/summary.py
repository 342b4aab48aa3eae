"""What a run came to, from its folder alone.

Rules of this file:
    * Every figure is read from records; nothing is measured here.
    * Accuracies come from the devices' own folders where they lie below the run's, and are
      ``null`` where they do not: they never travel.
    * An infinite ε is ``null`` with words beside it. A run without a protection says NON-PRIVATE.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from secure_pfnas.config import Settings, load_settings
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.deployed import admitted, deployed
from secure_pfnas.runtime.files import write_atomically
from secure_pfnas.runtime.observe import CoverageSeen, RunSeen
from secure_pfnas.runtime.terms import DataFacts


@dataclass(frozen=True, slots=True)
class Transport:
    """How messages travelled; ``broker`` is ``None`` in a simulation."""

    broker: str | None
    tls: str | None = None
    mutual: bool = False


SIMULATED = Transport(None)


def over(broker: str) -> Transport:
    """Return the transport of a deployment: TLS 1.3, certificates on both sides, always."""
    return Transport(broker, "1.3", mutual=True)


def summarise(
    folder: Path,
    *,
    dataset: DataFacts | None,
    transport: Transport,
    wall_s: float,
    holds_ca: bool = True,
) -> dict[str, object]:
    """Return a run's summary: plain values only, ready for JSON.

    Args:
        folder: The run's.
        dataset: What the devices trained on, where the caller knows it.
        transport: How messages travelled.
        wall_s: How long the caller's run took, in seconds.
        holds_ca: Whether who runs the server could also enrol devices.
    """
    settings = load_settings(folder / "config.toml")
    seen = observe.run(folder)
    devices = observe.device_folders(folder)
    traffic = observe.traffic(folder)
    covered = observe.coverage(folder)
    rounds = settings.federation.rounds
    return {
        "outcome": _outcome(seen, rounds),
        "reason": seen.ended[-1].reason if seen.ended else "",
        "non_private": list(settings.non_private),
        "rounds": rounds,
        "rounds_complete": sum(one.outcome == "COMPLETE" for one in seen.ended),
        "clients": settings.federation.clients,
        "dataset": asdict(dataset) if dataset else None,
        "config_digest": settings.digest,
        "transport": {
            "broker": transport.broker,
            "tls": transport.tls,
            "mutual": transport.mutual,
            "bytes_up": traffic.get("up", (0, 0))[1],
            "bytes_down": traffic.get("down", (0, 0))[1],
            "messages": sum(count for count, _ in traffic.values()),
        },
        "aggregation": _aggregation(settings, seen, covered),
        "coverage": _coverage(seen, covered),
        "privacy": _privacy(settings, devices, holds_ca=holds_ca),
        "accuracy": _accuracy(devices),
        "architectures": seen.ended[-1].members if seen.ended else {},
        "deployed": deployed(folder, settings, seen),
        "admitted": admitted(seen, devices),
        "wall_s": round(wall_s, 3),
        "phase_s": seen.phase_seconds(),
        "run_dir": str(folder),
    }


def write(folder: Path, summary: Mapping[str, object]) -> Path:
    """Keep a summary in its run's folder."""
    path = folder / "summary.json"
    write_atomically(path, (json.dumps(summary, indent=2) + "\n").encode())
    return path


def _outcome(seen: RunSeen, rounds: int) -> str:
    finished = bool(seen.ended) and seen.ended[-1].number >= rounds
    return "COMPLETE" if finished and seen.ended[-1].outcome == "COMPLETE" else "ABORT"


def _aggregation(
    settings: Settings, seen: RunSeen, covered: Mapping[int, CoverageSeen]
) -> dict[str, object]:
    used = {slot for one in seen.ended for slot in (*one.opened, *one.closed)}
    per_round = [
        {
            "round": one.number,
            "outcome": one.outcome,
            "reason": one.reason,
            "members": len(one.members),
            "survivors": len(one.survivors),
            "opened": len(one.opened),
            "closed": len(one.closed),
            **_covered(covered.get(one.number)),
        }
        for one in seen.ended
    ]
    return {
        "scheme": _scheme(settings),
        "protects_against": _protects_against(settings),
        "minimum_contributors": settings.secagg.minimum_contributors,
        "slots": len(used),
        "opened": sum(len(one.opened) for one in seen.ended),
        "closed": sum(len(one.closed) for one in seen.ended),
        "dropped": len(seen.dropped),
        "rounds": per_round,
    }


def _scheme(settings: Settings) -> str:
    if settings.secagg.scheme == "ckks":
        return "encrypted per slot (ckks)"
    return "masked per slot" if settings.secagg.masking else "NON-PRIVATE: plain sums, no masks"


def _protects_against(settings: Settings) -> str:
    """Say who does not learn an update that is in a sum, and who may."""
    if settings.secagg.scheme == "ckks":
        return (
            "the server and the broker, not the devices: all share each round's key, and any of "
            "them together with the server or the broker's traffic reads every update"
        )
    if not settings.secagg.masking:
        return "the broker only: NON-PRIVATE"
    return f"the server, the broker and up to {settings.secagg.collusion} devices that help them"


def _covered(planned: CoverageSeen | None) -> dict[str, object]:
    if planned is None:
        return {}
    return {
        "wanted": planned.wanted,
        "wanted_planned": planned.opened,
        "moved": len(planned.moved),
        "policy_distance": round(planned.policy_distance, 4),
    }


def _coverage(seen: RunSeen, covered: Mapping[int, CoverageSeen]) -> dict[str, object] | None:
    """Return what coverage did to the rounds that started, and to whom; ``None`` if unknown."""
    took_part = Counter(name for one in seen.rounds for name in one.members)
    planned = [covered[one.number] for one in seen.rounds if one.number in covered]
    if not planned or not took_part:
        return None
    turns = Counter(name for one in planned for name in one.moved)
    return {
        "wanted": sum(one.wanted for one in planned),
        "wanted_planned": sum(one.opened for one in planned),
        "policy_distance": round(sum(one.policy_distance for one in planned) / len(planned), 4),
        "moved": round(sum(turns.values()) / sum(took_part.values()), 4),
        "most_moved": round(max(turns[name] / count for name, count in took_part.items()), 4),
        "what": "policy_distance: bound on the total variation between policies and what was run; "
        "moved, most_moved: share of turns in which the devices, the most moved device, "
        "ran something else than they drew",
    }


def _privacy(settings: Settings, devices: list[Path], *, holds_ca: bool) -> dict[str, object]:
    spent = {folder.name: observe.spent(folder) for folder in devices}
    known = {name: seen for name, seen in spent.items() if seen is not None}
    rewards = [seen.reward_epsilon for seen in known.values()]
    trains = [seen.train_epsilon for seen in known.values()]
    noised = settings.privacy.reward_noise or not settings.rewards_leave
    reward = _largest(rewards) if noised else None
    because = "its reward is noised" if settings.rewards_leave else "no reward leaves its device"
    train = _largest(trains) if settings.privacy.dp_sgd else None
    return {
        "unit": "one record, add/remove",
        "against": _against(settings, holds_ca=holds_ca),
        "dp_sgd": settings.privacy.dp_sgd,
        "reward_epsilon": reward,
        "train_epsilon": train,
        "delta": max((seen.delta for seen in known.values()), default=None),
        "reward_text": _text(reward, because, "NON-PRIVATE: rewards carry no noise"),
        "train_text": _text(
            train, "DP-SGD", "infinite: no DP-SGD; updates are protected by the masks alone"
        ),
        "clients": {
            name: {"reward_epsilon": seen.reward_epsilon, "train_epsilon": seen.train_epsilon}
            for name, seen in known.items()
        },
    }


_SEMI_HONEST = "semi-honest only: who runs the server also holds the CA and could enrol devices"


def _against(settings: Settings, *, holds_ca: bool) -> str:
    if settings.secagg.scheme == "ckks":
        return f"{_SEMI_HONEST}; no device may help" if holds_ca else "a server no device helps"
    return (
        _SEMI_HONEST
        if holds_ca
        else (f"a server that up to {settings.secagg.collusion} devices help")
    )


def _largest(values: list[float | None]) -> float | None:
    """Return the largest ε; ``None``, which is infinite, beats every number."""
    numbers = [value for value in values if value is not None]
    return max(numbers) if numbers and len(numbers) == len(values) else None


def _text(epsilon: float | None, because: str, otherwise: str) -> str:
    return otherwise if epsilon is None else f"ε ≤ {epsilon:.3g}: {because}"


def _accuracy(devices: list[Path]) -> dict[str, object]:
    by_round = observe.accuracy(devices)
    rounds = sorted(by_round)
    return {
        "first": round(by_round[rounds[0]], 4) if rounds else None,
        "last": round(by_round[rounds[-1]], 4) if rounds else None,
        "by_round": {str(number): round(value, 4) for number, value in by_round.items()},
        "what": "mean personalised test accuracy over the devices, from their own folders",
    }


def architecture_counts(members: Mapping[str, list[int]]) -> list[tuple[str, int]]:
    """Return the architectures of a round as texts such as ``1-0-2``, most frequent first."""
    counts = Counter("-".join(map(str, choices)) for choices in members.values())
    return counts.most_common()
