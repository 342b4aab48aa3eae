"""``audit``: record what passes, verify what was written down, attack what is released."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from secure_pfnas.audit.checks.catalogue import IDS
from secure_pfnas.audit.findings import Finding, Verdict, unseen
from secure_pfnas.cli.options import DEFAULT_CERTS, AsJson, BrokerUrl, Certs, parse_broker
from secure_pfnas.cli.output import answer, errors
from secure_pfnas.errors import ExitCode, UserError

app = typer.Typer(add_completion=False, no_args_is_help=True)

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Run or device folders, journals, captures, ledgers."),
]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", metavar="FILE", help="The CA you believe; else ca.pem beside the files."),
]


@app.callback()
def _audit() -> None:
    """Believe nothing: record, verify and attack."""


@app.command(
    epilog="Example: secure-pfnas audit record --broker mqtts://10.0.0.2:8883 --certs certs "
    "--out capture"
)
def record(
    *,
    broker: BrokerUrl,
    certs: Certs = DEFAULT_CERTS,
    name: Annotated[str, typer.Option("--name", help="The observer's certificate.")] = "observer",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where capture.log is made.")],
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="How long; until Ctrl-C by default.")
    ] = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Write down every message that passes a broker, as an observer that may only read."""
    from secure_pfnas.runtime.broker.embedded import told_to_leave  # noqa: PLC0415 -- amqtt
    from secure_pfnas.runtime.enrolment import credentials_in  # noqa: PLC0415 -- torch
    from secure_pfnas.runtime.observer import Observer  # noqa: PLC0415 -- torch

    observer = Observer(credentials_in(certs)(name), parse_broker(broker), out)
    with observer, told_to_leave(lambda: None) as leave:
        errors().print("recording …", markup=False)
        end_s = None if seconds is None else time.monotonic() + seconds
        observer.record(lambda: leave.is_set() or (end_s is not None and time.monotonic() >= end_s))
    seen = observer.recorder
    data = {
        "file": str(seen.log.path),
        "messages": seen.messages,
        "bytes": seen.bytes,
        "interruptions": observer.interruptions,
    }
    line = f"{seen.log.path}: {seen.messages} messages, {seen.bytes} bytes, signed"
    answer(data, lambda console: console.print(line, markup=False), as_json=as_json)
    return ExitCode.OK


@app.command(epilog="Example: secure-pfnas audit verify runs/first capture --ca certs/ca.pem")
def verify(paths: Paths, *, ca: Ca = None, as_json: AsJson = False) -> ExitCode:
    """Judge journals, captures and ledgers offline: intact, and complete; 9 where one is not."""
    from secure_pfnas.runtime.evidence import gather  # noqa: PLC0415 -- torch

    evidence = gather(paths, ca)
    return _verdicts(evidence.findings(), as_json=as_json)


@app.command(epilog="Example: secure-pfnas audit check capture runs/first --ca certs/ca.pem")
def check(paths: Paths, *, ca: Ca = None, as_json: AsJson = False) -> ExitCode:
    """Put every claim to the test that files allow; NOT OBSERVED says what the others need."""
    from secure_pfnas.runtime.checking import check as checked  # noqa: PLC0415 -- torch
    from secure_pfnas.runtime.evidence import gather  # noqa: PLC0415 -- torch

    return _verdicts(checked(gather(paths, ca)), as_json=as_json)


@app.command(
    epilog="Example: secure-pfnas audit probe --broker mqtts://10.0.0.2:8883 --certs certs "
    "--devices dev-000,dev-001"
)
def probe(
    *,
    broker: BrokerUrl,
    certs: Certs = DEFAULT_CERTS,
    name: Annotated[str, typer.Option("--name", help="The observer's certificate.")] = "observer",
    devices: Annotated[
        str,
        typer.Option(
            "--devices", metavar="A,B", help="Papers of two devices that are not running."
        ),
    ] = "",
    as_json: AsJson = False,
) -> ExitCode:
    """Knock at a broker with papers that should not open it, and try what is not allowed."""
    from secure_pfnas.runtime import probes  # noqa: PLC0415 -- torch
    from secure_pfnas.runtime.enrolment import credentials_in, federation_of  # noqa: PLC0415

    address, papers = parse_broker(broker), credentials_in(certs)
    federation, pair = federation_of(papers(name)), [one for one in devices.split(",") if one]
    with tempfile.TemporaryDirectory(prefix="secure-pfnas-") as folder:
        found = [probes.probe_tls(address, papers(name), federation, Path(folder) / "foreign")]
    if len(pair) == 2:
        both = papers(pair[0]), papers(pair[1])
        found.append(probes.probe_rights(address, *both, papers(name), federation))
    else:
        why = "needs the papers of two devices: --devices A,B"
        found.append(unseen(probes.RIGHTS_NAME, probes.RIGHTS_CLAIM, why))
    return _verdicts(found, as_json=as_json)


@app.command("attack", epilog="Example: secure-pfnas audit attack all")
def attack_(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="canaries, inversion, rewards or all.")
    ],
    *,
    as_json: AsJson = False,
) -> ExitCode:
    """Play an attack and hold what it proves against what is claimed; 9 where it is refuted."""
    from secure_pfnas.runtime.attacks import ATTACKS, attack  # noqa: PLC0415 -- torch

    if name not in (*ATTACKS, "all"):
        raise UserError(
            f"{name}: no such attack; there are: {', '.join(ATTACKS)}, all",
            todo="write for example: secure-pfnas audit attack all",
            code=ExitCode.USAGE,
        )
    return _verdicts(attack(name), as_json=as_json)


def _verdicts(findings: list[Finding], *, as_json: bool) -> ExitCode:
    """Print verdicts with their evidence, and say by the exit code whether one is FAIL."""
    lines: list[str] = []
    for one in findings:
        first, *more = one.evidence or ("",)
        mark = f"{one.verdict.value:<13}{IDS.get(one.check, ''):<4}"
        lines += [f"{mark}{one.check}: {first}", *(f"{'':<17}{line}" for line in more)]
    answer(
        {"findings": [{"id": IDS.get(one.check), **one.to_json()} for one in findings]},
        lambda console: console.print("\n".join(lines), markup=False, soft_wrap=True),
        as_json=as_json,
    )
    failed = any(one.verdict is Verdict.FAIL for one in findings)
    return ExitCode.FINDING if failed else ExitCode.OK
