import json

import pytest

from secure_pfnas.errors import ExitCode


def test_a_comparison_is_a_table_a_file_and_a_figure(call, tmp_path, small):
    out = tmp_path / "comparison"
    words = (
        "compare", "--methods", "mine=local", "--seeds", "3", *small, "--set",
        "federation.rounds=1", "--out", out, "--target", "0.01",
    )  # fmt: skip
    said = call(*words)
    assert said.code == 0, said.err
    assert "cell 1 of 1: mine, seed 3: accuracy" in said.err
    assert said.out.startswith("NON-PRIVATE: noise and keys are seeded")
    report = json.loads((out / "comparison.json").read_text())
    assert [row["method"] for row in report["methods"]] == ["mine"]
    assert report["failed"] == []
    assert "mine, trained locally, reached 0.01 after 1.0 rounds" in said.out
    assert b"NON-PRIVATE" in (out / "comparison.svg").read_bytes()
    again = call(*words, "--resume", "--json")
    assert json.loads(again.out) == report
    refused = call(*words)
    assert refused.code == ExitCode.STORAGE
    assert "holds results already" in refused.err


@pytest.mark.parametrize(
    ("methods", "seeds", "why"),
    [
        ("magic", "1", "found 'magic', expected one of ours, faithful, random"),
        ("ours", "1,1", "expected different whole numbers"),
        ("ours[agent.no_such=1]", "1", "agent.no_such: unknown key"),
        ('fedper[training.architectures=["9-9"]]', "1", "is none of compact_cnn's"),
    ],
)
def test_a_wrong_comparison_is_one_clear_line_and_leaves_nothing(
    call, tmp_path, small, methods, seeds, why
):
    out = tmp_path / "comparison"
    said = call("compare", "--methods", methods, "--seeds", seeds, *small, "--out", out)
    assert said.code in (ExitCode.USAGE, ExitCode.CONFIG)
    assert why in said.complaint[0]
    assert not out.exists()
