"""The stories in ``scenarios/`` find what they foretell, on both stages."""

from __future__ import annotations

import json

import pytest

from secure_pfnas.audit.findings import Finding, Verdict
from secure_pfnas.errors import UserError
from secure_pfnas.runtime.scenario import Report, Script, discover, find, perform

ON_BOTH = ["simulator", pytest.param("broker", marks=pytest.mark.broker)]


def unexpected(report):
    return [
        finding for finding in report.findings if finding.verdict is not report.expects(finding)
    ]


@pytest.mark.parametrize("where", ON_BOTH)
@pytest.mark.parametrize("name", ["audit_communication", "iot_fleet", "privacy_budget"])
def test_a_scenario_finds_what_it_claims(name, where):
    report = perform(find(name), where=where)
    assert not unexpected(report)
    assert report.as_expected
    assert not report.stamp


@pytest.mark.parametrize("where", ON_BOTH)
@pytest.mark.parametrize(
    ("without", "failing"),
    [
        (
            "masking",
            {
                "masked_words_uniform",
                "masks_fresh",
                "single_client_sum",
                "no_plaintext_at_server",
            },
        ),
        ("noise", {"reward_noised"}),
    ],
)
def test_the_audit_finds_the_opposite_with_a_defence_off(where, without, failing):
    report = perform(find("audit_communication"), where=where, without=without)
    assert {f.check for f in report.findings if f.verdict is Verdict.FAIL} == failing
    assert report.as_expected
    assert report.stamp.startswith("NON-PRIVATE")


STORIES = {
    "eavesdropper": ("sealing", "no_plaintext_at_broker"),
    "log_tamper": ("signatures", "tampering_found"),
    "ledger_rollback": ("journals", "rollback_found"),
}


@pytest.mark.parametrize(
    "where", ["simulator", pytest.param("broker", marks=[pytest.mark.broker, pytest.mark.soak])]
)
@pytest.mark.parametrize("name", STORIES)
def test_an_attack_fails_against_its_defence_and_works_without(name, where):
    defence, check = STORIES[name]
    assert not unexpected(perform(find(name), where=where))
    report = perform(find(name), where=where, without=defence)
    assert {f.check for f in report.findings if f.verdict is Verdict.FAIL} == {check}
    assert report.as_expected
    assert report.stamp == f"NON-PRIVATE: {defence} off"


def test_without_noise_nothing_bounds_a_budget(tmp_path):
    report = perform(find("privacy_budget"), without="noise", out=tmp_path)
    assert report.as_expected
    kept = json.loads((tmp_path / "privacy_budget-simulator-no-noise" / "report.json").read_text())
    assert kept["non_private"] == "NON-PRIVATE: reward noise is off"
    assert kept["as_expected"]
    with pytest.raises(UserError, match="earlier performance"):
        perform(find("privacy_budget"), without="noise", out=tmp_path)


def story(tmp_path, verdict, foretold=()):
    finding = Finding("it", verdict, "it holds")
    fails = {"noise": frozenset(foretold)}
    return Script("story", "it holds", tmp_path, lambda stage: [finding], fails)


def test_nothing_observed_is_never_as_expected(tmp_path):
    assert perform(story(tmp_path, Verdict.PASS)).as_expected
    assert not perform(story(tmp_path, Verdict.NOT_OBSERVED)).as_expected
    assert not perform(story(tmp_path, Verdict.FAIL)).as_expected


def test_a_pass_where_a_failure_was_foretold_is_not_as_expected(tmp_path):
    assert not perform(story(tmp_path, Verdict.PASS, {"it"}), without="noise").as_expected
    assert perform(story(tmp_path, Verdict.FAIL, {"it"}), without="noise").as_expected


def test_a_foretold_check_that_is_missing_is_not_as_expected(tmp_path):
    script = story(tmp_path, Verdict.FAIL, {"it", "other"})
    assert not perform(script, without="noise").as_expected


def test_a_story_without_findings_has_shown_nothing(tmp_path):
    empty = Script("story", "it holds", tmp_path, lambda stage: [], {})
    assert not Report(empty, "simulator", "", ()).as_expected


def test_a_file_that_is_no_scenario_is_one_line(tmp_path):
    (tmp_path / "broken.py").write_text("NAME = 'broken'\n")
    with pytest.raises(UserError, match="not a scenario"):
        discover(tmp_path)
    with pytest.raises(UserError, match="holds no scenario"):
        discover(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no such scenario; there are: audit_communication"):
        find("nope")
