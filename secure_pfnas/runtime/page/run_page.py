"""A run's page: what was learnt, by whom, with which architectures, at what cost.

Rules of this file:
    * Everything is read from the run's folder. What lies in devices' own folders is shown where
      those are below the run's, which is so in a simulation, and is said to be missing elsewhere.
    * Reward noise is set against the truth in a simulation only, and stamped so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes

from secure_pfnas.config import Settings, load_settings
from secure_pfnas.nas.space import SearchSpace
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.observe import RunSeen
from secure_pfnas.runtime.page.budget import budget_figure, reward_figure
from secure_pfnas.runtime.page.draw import Line, bars, grid, lines, ranges
from secure_pfnas.runtime.page.parts import Figure, Page, Section
from secure_pfnas.runtime.page.settings_table import settings_tables
from secure_pfnas.runtime.page.texts import amount, percent, size

T = TypeVar("T")
_MOST_NAMED = 40  # devices with a line of their own


def run_page(folder: Path, summary: Mapping[str, Any]) -> Page:
    """Return the page of a run.

    Args:
        folder: The run's.
        summary: As ``summary.summarise``.
    """
    settings = load_settings(folder / "config.toml")
    seen = observe.run(folder)
    devices = observe.device_folders(folder)
    space = _space(settings)
    privacy = [budget_figure(devices, settings), reward_figure(folder, devices, settings, summary)]
    return Page(
        kind="run",
        title=f"{settings.federation.name}: {settings.training.strategy} on "
        f"{(summary['dataset'] or {}).get('name', settings.data.source)}",
        verdict=_verdict(summary),
        good=summary["outcome"] == "COMPLETE",
        stamps=summary["non_private"],
        facts=_facts(summary),
        sections=(
            Section("Accuracy", _accuracy_words(devices), _accuracy(devices)),
            Section("Architectures", _MAP, _architectures(seen, space)),
            Section("Privacy", figures=[one for one in privacy if one]),
            Section("Slots, bytes and time", figures=_costs(folder, seen, summary)),
            Section("Configuration", tables=settings_tables(settings, summary)),
        ),
    )


_MAP = (
    "An architecture is one option for each decision; options are numbered from 0, as a rule from "
    "small to large."
)


def _space(settings: Settings) -> SearchSpace:
    shape = (settings.space.channels, settings.space.height, settings.space.width)
    return make_space(settings.space.name, shape, settings.space.classes)


def _verdict(summary: Mapping[str, Any]) -> str:
    reason = f" ({summary['reason']})" if summary["reason"] else ""
    return (
        f"{summary['outcome']}{reason}: {summary['rounds_complete']} of {summary['rounds']} rounds "
        f"complete, {summary['clients']} devices"
    )


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    accuracy, privacy, transport = summary["accuracy"], summary["privacy"], summary["transport"]
    facts: list[tuple[str, str]] = []
    if accuracy["last"] is not None:
        change = f"{percent(accuracy['first'])} → {percent(accuracy['last'])}"
        facts.append(("accuracy", f"{change}, {accuracy['what']}"))
    if summary["dataset"]:
        data = summary["dataset"]
        facts.append(("data", f"{data['name']}, sha256 {data['digest'][:16]}…"))
    facts += [
        ("validation ε", privacy["reward_text"]),
        ("training ε", privacy["train_text"]),
        ("masks", f"{summary['aggregation']['scheme']}; {privacy['against']}"),
        ("traffic", f"{size(transport['bytes_up'])} up, {size(transport['bytes_down'])} down"),
        ("settings", f"sha256 {summary['config_digest'][:16]}…"),
    ]
    if privacy["delta"] is not None:
        facts.insert(-3, ("δ", amount(privacy["delta"])))
    return facts


def _accuracy_words(devices: Sequence[Path]) -> str:
    if not devices:
        return "Accuracies stay in the devices' own folders, which are not below this run's."
    return "Test accuracy of each device's own model, from the devices' own folders."


def _accuracy(devices: Sequence[Path]) -> list[Figure]:
    by_device = {device.name: observe.accuracy([device]) for device in devices}
    by_device = {name: rounds for name, rounds in by_device.items() if rounds}
    return [_by_round(by_device), _by_client(by_device)] if by_device else []


def _by_round(by_device: Mapping[str, Mapping[int, float]]) -> Figure:
    numbers = sorted({number for rounds in by_device.values() for number in rounds})
    values = {n: [one[n] for one in by_device.values() if n in one] for n in numbers}
    rows = [
        (n, float(np.mean(v)), *(float(np.quantile(v, q)) for q in (0.1, 0.9)), len(v))
        for n, v in values.items()
    ]

    def draw(axes: Axes) -> None:
        low, high = [100 * row[2] for row in rows], [100 * row[3] for row in rows]
        axes.fill_between(numbers, low, high, color="#b9cde6", linewidth=0)
        mean = Line("mean", numbers, [100 * row[1] for row in rows])
        lines(axes, [mean], "round", "test accuracy, %")

    return Figure(
        name="accuracy-by-round",
        title="Accuracy by round",
        caption="Mean over the devices that trained in the round; the band holds the middle 80 %.",
        alt=f"Mean accuracy goes from {percent(rows[0][1])} to {percent(rows[-1][1])}.",
        heads=("round", "mean", "quantile_10", "quantile_90", "devices"),
        rows=rows,
        draw=draw,
    )


def _by_client(by_device: Mapping[str, Mapping[int, float]]) -> Figure:
    ends = {name: (one[min(one)], one[max(one)]) for name, one in by_device.items()}
    ordered = sorted(ends.items(), key=lambda item: (-item[1][1], item[0]))
    shown = ordered if len(ordered) <= _MOST_NAMED else _spread_out(ordered)
    rows = [(name, first, last) for name, (first, last) in ordered]

    def draw(axes: Axes) -> None:
        marks = [(100 * first, 100 * last, 0.0) for _, (first, last) in shown]
        ranges(axes, [name for name, _ in shown], marks, "test accuracy, %")
        axes.tick_params(axis="y", labelsize=7.5)

    some = "" if shown == ordered else f" {len(shown)} of {len(ordered)} devices, evenly spread."
    best, worst = ordered[0], ordered[-1]
    return Figure(
        name="accuracy-by-client",
        title="Accuracy by client",
        caption=f"○ in a device's first round, ● in its last.{some}",
        alt=f"From {percent(worst[1][1])} on {worst[0]} to {percent(best[1][1])} on {best[0]}.",
        heads=("device", "first", "last"),
        rows=rows,
        draw=draw,
        height=0.8 + 0.17 * len(shown),
    )


def _spread_out(ordered: Sequence[tuple[str, T]]) -> list[tuple[str, T]]:
    places = np.linspace(0, len(ordered) - 1, _MOST_NAMED).round().astype(int)
    return [ordered[place] for place in places]


def _architectures(seen: RunSeen, space: SearchSpace) -> list[Figure]:
    rounds = [one for one in seen.ended if one.members]
    if not rounds:
        return []
    return [_who_got_what(rounds[-1].number, rounds[-1].members, space), _moves(seen, space)]


def _who_got_what(number: int, members: Mapping[str, list[int]], space: SearchSpace) -> Figure:
    names = [decision.name for decision in space.decisions]
    ordered = sorted(members.items(), key=lambda item: (item[1], item[0]))
    shown = ordered if len(ordered) <= _MOST_NAMED else _spread_out(ordered)
    kinds = len({tuple(choices) for choices in members.values()})

    def draw(axes: Axes) -> None:
        devices = [name for name, _ in shown]
        grid(axes, devices, names, [choices for _, choices in shown], "decision")

    return Figure(
        name="architecture-map",
        title=f"Who got which choice in round {number}",
        caption="A row a device, a column a decision; the number is the option, darker is higher.",
        alt=f"{len(members)} devices ran {kinds} different architectures in round {number}.",
        heads=("device", *names),
        rows=[(name, *choices) for name, choices in ordered],
        draw=draw,
        height=1.3 + 0.19 * len(shown),
    )


def _moves(seen: RunSeen, space: SearchSpace) -> Figure:
    """Return how policies moved, as far as draws show it: each option's share, by round."""
    rounds = [one for one in seen.ended if one.members]
    rows: list[tuple[int, str, int, float]] = []
    leaders: dict[str, list[float]] = {}
    for one in rounds:
        for index, decision in enumerate(space.decisions):
            counts = Counter(choices[index] for choices in one.members.values())
            total = sum(counts.values())
            for option in range(len(decision.options)):
                share = counts[option] / total
                rows += [(one.number, decision.name, option, share)]
            leaders.setdefault(decision.name, []).append(max(counts.values()) / total)
    numbers = [one.number for one in rounds]
    agreed = np.mean(list(leaders.values()), axis=0)
    least = min(leaders, key=lambda name: leaders[name][-1])

    def draw(axes: Axes) -> None:
        for shares in leaders.values():
            axes.plot(numbers, [100 * share for share in shares], color="#b9cde6", linewidth=1)
        all_of_them = Line("all decisions", numbers, (100 * agreed).tolist())
        fewest = Line(least, numbers, [100 * share for share in leaders[least]])
        lines(axes, [all_of_them, fewest], "round", "devices with the commonest option, %")

    return Figure(
        name="policy-moves",
        title="How policies moved",
        caption="For each decision, the share of devices that ran its commonest option; bold: the "
        "mean, and the decision that devices agree on least at the end. The CSV has every option.",
        alt=f"Agreement goes from {percent(agreed[0])} to {percent(agreed[-1])} on average.",
        heads=("round", "decision", "option", "share"),
        rows=rows,
        draw=draw,
    )


def _costs(folder: Path, seen: RunSeen, summary: Mapping[str, Any]) -> list[Figure]:
    return [
        *([_slots(summary)] if summary["aggregation"]["rounds"] else []),
        *([_bytes(folder)] if seen.ended else []),
        *([_time(summary)] if summary["phase_s"] else []),
    ]


def _slots(summary: Mapping[str, Any]) -> Figure:
    rounds: list[Mapping[str, Any]] = summary["aggregation"]["rounds"]
    rows = [
        (one["round"], one.get("wanted", ""), one["opened"], one["closed"], one["survivors"])
        for one in rounds
    ]

    def draw(axes: Axes) -> None:
        numbers = [one["round"] for one in rounds]
        kinds = ("opened", "kept closed", "wanted")
        wanted = [one.get("wanted", one["opened"]) for one in rounds]
        values = ([one["opened"] for one in rounds], [one["closed"] for one in rounds], wanted)
        drawn = [Line(name, numbers, ys) for name, ys in zip(kinds, values, strict=True)]
        lines(axes, drawn, "round", "slots")
        axes.set_ylim(bottom=0)

    opened, closed = (sum(one[key] for one in rounds) for key in ("opened", "closed"))
    return Figure(
        name="slot-coverage",
        title="Slot coverage",
        caption="Slots that somebody's policy wanted, sums that were opened, and sums kept closed "
        f"for fewer than {summary['aggregation']['minimum_contributors']} contributors.",
        alt=f"{opened} sums were opened and {closed} kept closed over all rounds.",
        heads=("round", "wanted", "opened", "closed", "survivors"),
        rows=rows,
        draw=draw,
    )


def _bytes(folder: Path) -> Figure:
    by_round = observe.traffic_by_round(folder)
    rows = [(number, ways["up"], ways["down"]) for number, ways in by_round.items()]

    def draw(axes: Axes) -> None:
        numbers = list(by_round)
        for_all = [[ways[way] / 1e6 for ways in by_round.values()] for way in ("up", "down")]
        drawn = [Line(n, numbers, ys) for n, ys in zip(("up", "down"), for_all, strict=True)]
        lines(axes, drawn, "round", "MB, all devices")
        axes.set_ylim(bottom=0)

    up, down = sum(row[1] for row in rows), sum(row[2] for row in rows)
    return Figure(
        name="bytes",
        title="Bytes by round",
        caption="Messages of all devices at the server, encoded and sealed.",
        alt=f"{size(up)} went up and {size(down)} down.",
        heads=("round", "bytes_up", "bytes_down"),
        rows=rows,
        draw=draw,
    )


def _time(summary: Mapping[str, Any]) -> Figure:
    phases: Mapping[str, float] = summary["phase_s"]
    simulated = summary["transport"]["broker"] is None

    def draw(axes: Axes) -> None:
        bars(axes, list(phases), list(phases.values()), [f"{s:.1f} s" for s in phases.values()])

    longest = max(phases, key=lambda name: phases[name])
    clock = "in simulated time" if simulated else "by the server's clock"
    return Figure(
        name="time-by-phase",
        title="Time by phase",
        caption=f"All rounds, {clock}; the process itself took {summary['wall_s']:.0f} s.",
        alt=f"{longest} takes longest, {phases[longest]:.1f} s.",
        heads=("phase", "seconds"),
        rows=list(phases.items()),
        draw=draw,
        height=0.6 + 0.32 * len(phases),
    )
