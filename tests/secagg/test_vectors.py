"""The committed vectors are what this code computes, byte for byte, and what it refuses."""

from __future__ import annotations

import json

import pytest

from secure_pfnas.errors import DropReason, Rejected
from tests.vectors.secagg.make import HERE, OPERATIONS, bad, files

BAD = sorted(path.name for path in HERE.glob("*_bad_*.json"))


def test_the_committed_vectors_are_these_and_no_others():
    """After a change on purpose: python -m tests.vectors.secagg, and read the difference."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("*.json")}
    computed = files()
    assert committed.keys() == computed.keys()
    assert [name for name in computed if computed[name] != committed[name]] == []


def test_there_are_bad_vectors_for_every_step():
    assert len(BAD) >= 20
    assert {name.partition("_bad_")[0] for name in BAD} == {
        "roster",
        "upload",
        "commit",
        "signature",
        "reveal_request",
        "reveal",
    }
    assert {f"{name}.json" for name in bad()} == set(BAD)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_vector_is_refused_by_the_operation_it_names(name: str):
    vector = json.loads((HERE / name).read_text(encoding="utf-8"))
    with pytest.raises(Rejected) as caught:
        OPERATIONS[vector["operation"]](vector["peer"], bytes.fromhex(vector["message"]))
    assert caught.value.reason is DropReason(vector["refused"])
