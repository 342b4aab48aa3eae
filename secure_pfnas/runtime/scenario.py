"""Scenario scripts: finding them, playing them, and judging what they found.

Rules of this file:
    * A script is one story: ``NAME``, ``CLAIM``, ``run(stage) -> list[Finding]``, and
      ``FAILS_WITHOUT``, which says of each defence which checks must fail where it is off.
    * A finding is as expected if it is a PASS, or a FAIL that the script foretold. NOT OBSERVED
      is never expected: a story in which nothing was seen has shown nothing.
    * A performance with a defence off is stamped NON-PRIVATE.
    * Scripts are the user's own code and run with the user's rights.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import cast

from secure_pfnas.audit.findings import Finding, Verdict
from secure_pfnas.config import load_settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.files import storage_faults, write_atomically
from secure_pfnas.runtime.stage import BROKER, DEFENCES, SIMULATOR, Stage

FOLDER = Path(__file__).resolve().parents[2] / "scenarios"
"""Where a checkout of the source keeps its scripts."""

STAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {SIMULATOR: (SIMULATOR,), BROKER: (BROKER,), "both": (SIMULATOR, BROKER)}
)


@dataclass(frozen=True, slots=True)
class Script:
    """A scenario.

    Args:
        name: What it is run by.
        claim: What it puts to the test, one sentence.
        path: Its file.
        run: Plays it.
        fails_without: Defence → the checks that must fail where it is off.
    """

    name: str
    claim: str
    path: Path
    run: Callable[[Stage], list[Finding]]
    fails_without: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Report:
    """What one performance found.

    Args:
        script: Which scenario.
        where: On which stage.
        without: Which defence was off; empty for none.
        findings: In the script's order.
    """

    script: Script
    where: str
    without: str
    findings: tuple[Finding, ...]

    def expects(self, finding: Finding) -> Verdict:
        """Return the verdict that the script foretells for a check."""
        foretold = self.script.fails_without.get(self.without, frozenset[str]())
        return Verdict.FAIL if finding.check in foretold else Verdict.PASS

    @property
    def as_expected(self) -> bool:
        """Whether every check found what was foretold, and none that was foretold is missing."""
        foretold = self.script.fails_without.get(self.without, frozenset[str]())
        checked = {finding.check for finding in self.findings}
        met = all(finding.verdict is self.expects(finding) for finding in self.findings)
        return bool(self.findings) and met and foretold <= checked

    @property
    def stamp(self) -> str:
        """``NON-PRIVATE`` and why, or nothing."""
        if not self.without:
            return ""
        setting = DEFENCES[self.without]
        if not setting:
            return f"NON-PRIVATE: {self.without} off"
        reasons = load_settings(None, [setting]).non_private
        return f"NON-PRIVATE: {', '.join(reasons)}"

    def to_json(self) -> dict[str, object]:
        """Return plain values, ready for JSON."""
        return {
            "scenario": self.script.name,
            "claim": self.script.claim,
            "on": self.where,
            "without": self.without or None,
            "non_private": self.stamp or None,
            "as_expected": self.as_expected,
            "findings": [
                {**finding.to_json(), "expected": self.expects(finding).value}
                for finding in self.findings
            ],
        }


def discover(folder: Path = FOLDER) -> dict[str, Script]:
    """Load every script of a folder, by name.

    Raises:
        UserError: USAGE, for a folder without scripts or a file that is none.
    """
    paths = sorted(folder.glob("[a-z]*.py")) if folder.is_dir() else []
    if not paths:
        raise UserError(
            f"{folder}: holds no scenario scripts",
            todo="name the folder of the scripts with --dir; a source checkout has scenarios/",
            code=ExitCode.USAGE,
        )
    scripts = [_load(path) for path in paths]
    return {script.name: script for script in scripts}


def find(name: str, folder: Path = FOLDER) -> Script:
    """Load one script.

    Raises:
        UserError: USAGE, where there is none of that name.
    """
    scripts = discover(folder)
    if name not in scripts:
        raise UserError(
            f"{name}: no such scenario; there are: {', '.join(scripts)}",
            todo="see secure-pfnas scenario list",
            code=ExitCode.USAGE,
        )
    return scripts[name]


def perform(
    script: Script, *, where: str = SIMULATOR, without: str = "", out: Path | None = None
) -> Report:
    """Play a script once and judge it.

    Args:
        script: The scenario.
        where: ``simulator`` or ``broker``.
        without: A defence to switch off, or empty.
        out: Where evidence is kept; a temporary folder that is removed, by default.

    Raises:
        UserError: For what the script's settings ask in vain, and for a folder that is in use.
    """
    name = "-".join(part for part in (script.name, where, without and f"no-{without}") if part)
    with _folder(out, name) as folder:
        findings = script.run(Stage(folder, where, without))
        report = Report(script, where, without, tuple(findings))
        text = json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n"
        write_atomically(folder / "report.json", text.encode())
    return report


@contextmanager
def _folder(out: Path | None, name: str) -> Generator[Path]:
    if out is None:
        with tempfile.TemporaryDirectory(prefix="secure-pfnas-") as temporary:
            yield Path(temporary)
        return
    folder = out / name
    if folder.exists():
        raise UserError(
            f"{folder}: holds an earlier performance",
            todo="choose another folder with --out",
            code=ExitCode.STORAGE,
        )
    with storage_faults(folder):
        folder.mkdir(parents=True)
    yield folder


def _load(path: Path) -> Script:
    spec = importlib.util.spec_from_file_location(f"scenario_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return _script(module, path)
    except (SyntaxError, ImportError, AttributeError) as error:
        raise UserError(
            f"{path}: not a scenario: {error}",
            todo="give it NAME, CLAIM and run(stage), as the scripts in scenarios/ have",
            code=ExitCode.USAGE,
        ) from error


def _script(module: ModuleType, path: Path) -> Script:
    foretold = cast("Mapping[str, set[str]]", getattr(module, "FAILS_WITHOUT", {}))
    return Script(
        name=cast("str", module.NAME),
        claim=cast("str", module.CLAIM),
        path=path,
        run=cast("Callable[[Stage], list[Finding]]", module.run),
        fails_without={defence: frozenset(checks) for defence, checks in foretold.items()},
    )
