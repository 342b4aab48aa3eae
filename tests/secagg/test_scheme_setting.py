"""The scheme with one shared key is refused unless its trust is spelled out."""

from __future__ import annotations

import pytest

from secure_pfnas.config import load_settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.roles.federation import Federation

SHAPE = ["space.channels=1", "space.height=14", "space.width=14", "space.classes=10"]


def test_a_shared_key_is_refused_without_trust_and_the_line_says_what_it_protects_against():
    with pytest.raises(UserError) as told:
        load_settings(None, ["secagg.scheme=ckks"])
    assert told.value.code is ExitCode.CONFIG
    assert "protects against the server and the broker, not against the devices" in told.value.what
    assert "any one of them together with the server reads every update" in told.value.what
    assert 'trust = "silo"' in told.value.what


def test_with_trust_the_settings_stand_and_a_run_says_that_it_cannot_drive_them_yet():
    settings = load_settings(None, ["secagg.scheme=ckks", "secagg.trust=silo", *SHAPE])
    with pytest.raises(UserError) as told:
        Federation.of(settings)
    assert told.value.code is ExitCode.CONFIG
    assert "docs/backends.md" in told.value.todo


def test_trust_alone_changes_nothing():
    settings = load_settings(None, ["secagg.trust=silo", *SHAPE])
    assert Federation.of(settings).policy == Federation.of(load_settings(None, SHAPE)).policy


def test_a_shared_key_and_no_masks_at_all_contradict_each_other():
    with pytest.raises(UserError, match="choose one"):
        load_settings(None, ["secagg.scheme=ckks", "secagg.trust=silo", "secagg.masking=false"])
