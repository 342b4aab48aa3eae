"""The scheme with one shared key is refused unless its trust is spelled out."""

from __future__ import annotations

import sys

import pytest

from secure_pfnas.config import load_settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.parties import device_life
from secure_pfnas.secagg.parameters import Scheme
from tests.secagg.fleet import Register, signer
from tests.simulation.village import DeviceShelf

SHAPE = ["space.channels=1", "space.height=14", "space.width=14", "space.classes=10"]


def test_a_shared_key_is_refused_without_trust_and_the_line_says_what_it_protects_against():
    with pytest.raises(UserError) as told:
        load_settings(None, ["secagg.scheme=ckks"])
    assert told.value.code is ExitCode.CONFIG
    assert "protects against the server and the broker, not against the devices" in told.value.what
    assert "any one of them together with the server reads every update" in told.value.what
    assert 'trust = "silo"' in told.value.what


SILO = ["secagg.scheme=ckks", "secagg.trust=silo"]


def test_with_trust_the_settings_stand_and_a_device_pins_the_scheme():
    terms = Federation.of(load_settings(None, [*SILO, *SHAPE]))
    assert terms.policy.scheme is Scheme.CKKS
    assert not terms.settings.non_private


def test_a_space_whose_ciphertexts_no_message_holds_is_refused_before_a_run():
    large = ["space.name=mobilenetv3", "space.channels=3", "space.height=32", "space.width=32"]
    with pytest.raises(UserError, match=r"encrypted sums of mobilenetv3 take \d+ MiB") as told:
        Federation.of(load_settings(None, [*SILO, *large, "space.classes=10"]))
    assert told.value.code is ExitCode.CONFIG


def test_more_keys_than_a_message_holds_are_refused_before_a_run():
    many = ["federation.clients=1000", "federation.cohort=1000", "data.train_per_client=40"]
    with pytest.raises(UserError, match="sealed keys of at most") as told:
        Federation.of(load_settings(None, [*SILO, *SHAPE, *many]))
    assert told.value.code is ExitCode.CONFIG


def test_a_device_without_the_library_is_told_before_a_round(monkeypatch):
    terms = Federation.of(load_settings(None, [*SILO, *SHAPE]))
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(UserError, match="needs TenSEAL; it is not installed") as told:
        device_life(terms, signer("dev-000"), Register(), DeviceShelf())
    assert told.value.code is ExitCode.CONFIG
    assert "pip install tenseal" in told.value.todo


def test_trust_alone_changes_nothing():
    settings = load_settings(None, ["secagg.trust=silo", *SHAPE])
    assert Federation.of(settings).policy == Federation.of(load_settings(None, SHAPE)).policy


def test_a_shared_key_and_no_masks_at_all_contradict_each_other():
    with pytest.raises(UserError, match="choose one"):
        load_settings(None, ["secagg.scheme=ckks", "secagg.trust=silo", "secagg.masking=false"])
