"""``plan``: what a run will spend, open, send and need, before it is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from secure_pfnas.cli.options import AsJson, OptionalConfig, Overrides
from secure_pfnas.cli.output import answer
from secure_pfnas.config import Settings, load_settings
from secure_pfnas.errors import ExitCode
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.forecast.outlook import Outlook
from secure_pfnas.runtime.forecast.report import forecast
from secure_pfnas.runtime.terms import prepared

app = typer.Typer(add_completion=False)
STAGES = {
    "start": "from the start on: rewards differ by cost and chance alone",
    "settled": "apart: every device favours an architecture of its own",
    "public": "what the server draws in public, for all rounds; devices choose in private",
}


@app.command(epilog="Example: secure-pfnas plan fed.toml --dropout 0.1")
def plan(
    path: OptionalConfig = None,
    *,
    overrides: Overrides = None,
    dropout: Annotated[
        float,
        typer.Option(
            "--dropout", min=0.0, max=1.0, help="Chance that a device leaves a round unanswered."
        ),
    ] = 0.0,
    as_json: AsJson = False,
) -> int:
    """Foresee budget, opened slots, bytes, time and memory; nothing is run or spent."""
    outlook = Outlook.of(Federation.of(_known(load_settings(path, overrides or ()))), dropout)
    data = forecast(outlook)
    answer(data, lambda console: _show(console, data), as_json=as_json)
    return ExitCode.OK if data["verdict"] == "ready" else ExitCode.CONFIG


def _known(settings: Settings) -> Settings:
    """Look at the data only where the settings leave the shape of an example open."""
    space = settings.space
    if all((space.channels, space.height, space.width, space.classes)):
        return settings
    return prepared(settings)[0]


def _show(console: Console, data: Mapping[str, Any]) -> None:
    if data["non_private"]:
        console.print(Text(f"NON-PRIVATE: {'; '.join(data['non_private'])}", "bold red"))
    for name, text in _rows(data):
        console.print(Text.assemble((f"{name:<15}", "dim"), text))
    for stage, foreseen in data["stages"].items():
        console.print(_rounds(stage, foreseen))
        console.print(_devices(foreseen))
    for finding in data["findings"]:
        kind = ("refused", "bold red") if finding["refused"] else ("warning", "yellow")
        console.print(Text.assemble(kind, f": {finding['what']}\n  next: {finding['todo']}"))
    verdict = "ready to run" if data["verdict"] == "ready" else "would be refused"
    console.print(Text(verdict, "bold"))


def _rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    cohort, privacy, space = data["cohort"], data["privacy"], data["space"]
    asked = sorted(one["rounds"] for one in privacy["clients"].values())
    signal = privacy["reward_signal"]
    placement = data["placement"]
    alone = placement["placement"] == "client"
    told = "no noise" if signal is None else f"n0·μ = {signal:g}; from 200 on rewards lead well"
    told = "no reward leaves a device" if alone else told
    rounds = (
        f"{cohort['rounds']} of {cohort['members']} members, {cohort['need']} to a slot; "
        f"a device of {cohort['clients']} is asked {_range(asked)} times"
    )
    searched = (
        f"{space['name']}: {space['architectures']:.4g} architectures, "
        f"{space['shared_slots']} shared slots, {space['shared_weights']:,} shared weights"
    )
    return [
        *([("placement", _alone(placement))] if "trainings" in placement else []),
        ("rounds", rounds),
        ("space", searched),
        ("validation ε", f"{_epsilon(privacy['reward_epsilon'])} a device at most; {told}"),
        ("training ε", f"{_epsilon(privacy['train_epsilon'])}; δ = {privacy['delta']:.3g}"),
        (
            "dropouts",
            f"{cohort['dropout']:.0%}; {cohort['abort_probability']:.1%} of rounds abort",
        ),
    ]


def _alone(placement: Mapping[str, Any]) -> str:
    down, up = placement["device_bytes_down"], placement["device_bytes_up"]
    return (
        f"client: {_size(down)} down and {_size(up)} up a device and round, against "
        f"{_size(placement['as_server_bytes_down'])} and {_size(placement['as_server_bytes_up'])} "
        f"if the server chose; {placement['trainings']} trainings a round instead of 1"
    )


def _rounds(stage: str, foreseen: Mapping[str, Any]) -> Table:
    table = _table(
        ("round", "asked", "wanted", "opened", "used", "stay open", "moved", "TV ≤"),
        ("up", "down"),
    )
    up, down = _size(foreseen["bytes_up"]), _size(foreseen["bytes_down"])
    table.title = f"{STAGES[stage]}; {up} up, {down} down in all rounds"
    for one in foreseen["rounds"]:
        table.add_row(
            *(str(one[key]) for key in ("round", "members", "wanted", "wanted_open", "open")),
            f"{one['open_after_drops']:.1f}",
            str(one["moved"]),
            f"{one['policy_distance']:.2f}",
            _size(one["bytes_up"]),
            _size(one["bytes_down"]),
        )
    return table


def _devices(foreseen: Mapping[str, Any]) -> Table:
    table = _table(("class", "devices", "seconds", "at most", "memory", "at most"), ("up", "down"))
    for one in foreseen["devices"]:
        table.add_row(
            str(one["device_class"]),
            str(one["devices"]),
            f"{one['seconds']:.3g}",
            f"{one['most_seconds']:.3g}",
            _size(one["memory_bytes"]),
            _size(one["most_memory_bytes"]),
            _size(foreseen["device_bytes_up"]),
            _size(foreseen["device_bytes_down"]),
        )
    return table


def _table(*headers: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold")
    for name in (name for group in headers for name in group):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _range(values: list[int]) -> str:
    low, high = values[0], values[-1]
    return str(low) if low == high else f"{low} to {high}"


def _epsilon(value: float | None) -> str:
    return "∞" if value is None else f"{value:.4g}"


def _size(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
