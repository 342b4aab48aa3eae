"""``secure-pfnas scenario`` speaks in exit codes and in JSON."""

from __future__ import annotations

import json

import pytest

from secure_pfnas.cli.main import main
from secure_pfnas.errors import ExitCode

STORY = """
from secure_pfnas.audit.findings import held

NAME = {name!r}
CLAIM = "it holds"
FAILS_WITHOUT = {{"masking": {{"it"}}}}


def run(stage):
    return [held("it", CLAIM, holds=stage.without != "masking" and {holds}, seen="looked")]
"""


@pytest.fixture
def scripts(tmp_path):
    (tmp_path / "good.py").write_text(STORY.format(name="good", holds=True))
    (tmp_path / "sad.py").write_text(STORY.format(name="sad", holds=False))
    return str(tmp_path)


def test_the_list_names_every_claim(scripts, capsys):
    assert main(["scenario", "list", "--dir", scripts]) == ExitCode.OK
    assert capsys.readouterr().out == "good  it holds\nsad   it holds\n"
    assert main(["scenario", "list", "--dir", scripts, "--json"]) == ExitCode.OK
    listed = json.loads(capsys.readouterr().out)["scenarios"]
    assert [(one["name"], one["defences"]) for one in listed] == [
        ("good", ["masking"]),
        ("sad", ["masking"]),
    ]


def test_an_expected_finding_is_success_and_another_is_nine(scripts, capsys):
    assert main(["scenario", "run", "good", "--dir", scripts]) == ExitCode.OK
    assert "as expected" in capsys.readouterr().out
    assert main(["scenario", "run", "sad", "--dir", scripts]) == ExitCode.FINDING
    assert "NOT AS EXPECTED" in capsys.readouterr().out


def test_json_is_one_object_and_says_non_private(scripts, capsys):
    arguments = ["scenario", "run", "all", "--dir", scripts, "--without", "masking", "--json"]
    assert main(arguments) == ExitCode.OK
    data = json.loads(capsys.readouterr().out)
    assert data["as_expected"]
    assert {report["non_private"] for report in data["reports"]} == {"NON-PRIVATE: masking is off"}


def test_both_stages_give_two_reports(scripts, capsys):
    assert main(["scenario", "run", "good", "--on", "both", "--dir", scripts, "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)["reports"]
    assert [report["on"] for report in reports] == ["simulator", "broker"]


def test_defence_off_plays_every_run_that_a_story_foretells(scripts, capsys):
    arguments = ["scenario", "run", "all", "--dir", scripts, "--defence", "off", "--json"]
    assert main(arguments) == ExitCode.OK
    reports = json.loads(capsys.readouterr().out)["reports"]
    assert [report["without"] for report in reports] == ["masking", "masking"]


@pytest.mark.parametrize(
    ("option", "value"), [("--on", "mars"), ("--without", "luck"), ("--defence", "maybe")]
)
def test_an_unknown_stage_or_defence_is_a_usage_error(scripts, capsys, option, value):
    code = main(["scenario", "run", "good", "--dir", scripts, option, value])
    assert code == ExitCode.USAGE
    assert f"error: {option} {value}: expected" in capsys.readouterr().err
