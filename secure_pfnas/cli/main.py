"""Finding the verb, and turning whatever goes wrong into one line and an exit code.

Rules of this file:
    * A verb is a line of ``VERBS`` and a module of its name with a typer ``app``; a module is
      imported only when its verb is asked for, so that a broker never waits for torch.
    * A user's mistake is two lines on stderr (``error:``, ``next:``) and its number; a bug of ours
      is one line and 1. A traceback is shown under ``--debug`` and nowhere else.
    * With ``--json`` standard output carries exactly one JSON object, on failure too.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import FrameType, MappingProxyType
from typing import cast

import typer

from secure_pfnas.cli.output import errors, results
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.children import obey_leash

PROGRAM = "secure-pfnas"

VERBS = MappingProxyType(
    {
        "demo": "run a private federation on this machine, start to end",
        "plan": "foresee what a run will spend, open and send",
        "run": "run a federation: simulated, or over a broker",
        "compare": "compare methods on the same data, budget and seeds",
        "sweep": "run settings × seeds from one file, resumable",
        "report": "make a page of a run, a sweep or a comparison",
        "server": "run the aggregator of a deployed federation",
        "client": "run devices of a deployed federation",
        "broker": "start a broker",
        "certs": "make a private CA, issue and list certificates",
        "data": "import data, and look at what each device would hold",
        "costs": "measure how long architectures train on this machine",
        "budget": "show, verify and export what a device has spent",
        "audit": "record what passes, verify journals, attack what is released",
        "scenario": "play a story with a claim, and judge what is found",
        "config": "print every setting with its default and range",
        "doctor": "check this machine",
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code; raises nothing."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if arguments is None:
        obey_leash()
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, _interrupted)
    try:
        return _dispatch(words)
    except UserError as error:
        return _failed(words, error.what, error.todo, error.code)
    except typer.TyperException as error:
        todo = f"see {PROGRAM} {words[0]} --help"
        return _failed(words, _message(error), todo, ExitCode.USAGE)
    except BrokenPipeError:
        # Whoever read the output has left; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except (KeyboardInterrupt, typer.Abort):
        return _failed(words, "interrupted", "run it again", ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 -- the last door: nobody gets to see a traceback
        if debug:
            traceback.print_exc()
        what = f"internal error: {type(error).__name__}: {error}"
        return _failed(words, what, "run it again with --debug for details", ExitCode.INTERNAL)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        _help()
        return ExitCode.OK if words else ExitCode.USAGE
    if words[0] in ("--version", "version"):
        results().print(f"{PROGRAM} {_version()}")
        return ExitCode.OK
    verb, *rest = words
    if verb not in VERBS:
        raise UserError(
            f"{verb}: no such verb; there are: {', '.join(VERBS)}",
            todo=f"see {PROGRAM} --help",
            code=ExitCode.USAGE,
        )
    app = cast("typer.Typer", importlib.import_module(f"secure_pfnas.cli.{verb}").app)
    code = app(args=rest, prog_name=f"{PROGRAM} {verb}", standalone_mode=False)
    if code == ExitCode.INTERRUPTED:  # typer has caught it
        raise KeyboardInterrupt
    return int(code or 0)


def _help() -> None:
    console = results()
    console.print(f"Usage: {PROGRAM} VERB [OPTIONS]\n", markup=False)
    console.print("Private, personalised federated architecture search.\n")
    for verb, line in VERBS.items():
        console.print(f"  {verb:<10}{line}", highlight=False)
    console.print(
        f"\nEvery verb: --help with an example, --json, --debug.\nStart with: {PROGRAM} demo"
    )


def _version() -> str:
    try:
        return version("secure-pfnas")
    except PackageNotFoundError:
        return "(not installed)"


def _message(error: Exception) -> str:
    text = getattr(error, "format_message", error.__str__)()
    return " ".join(str(text).split())


def _failed(words: list[str], what: str, todo: str, code: ExitCode) -> int:
    console = errors()
    console.print(f"error: {what}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"next: {todo}", markup=False, highlight=False, soft_wrap=True)
    if "--json" in words:
        answer = {"outcome": "ERROR", "error": what, "next": todo, "exit_code": int(code)}
        sys.stdout.write(json.dumps(answer) + "\n")
    return int(code)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
