"""The settings at the door: what comes in whole, and what is refused in one line."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from secure_pfnas.config import Settings, load_settings, settings_from
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.secagg.parameters import committee_size, threshold

IMAGES = {"channels": 1, "height": 8, "width": 8, "classes": 10}


def refused(*overrides: str, path=None) -> str:
    with pytest.raises(UserError) as error:
        load_settings(path, overrides)
    assert error.value.code is ExitCode.CONFIG
    assert error.value.todo
    assert "\n" not in error.value.what
    return error.value.what


def test_defaults_are_safe_and_complete():
    settings = load_settings()
    assert settings.non_private == ()
    assert Settings() == settings


def test_what_is_written_is_read_back():
    settings = load_settings(None, ["federation.rounds=12", "privacy.dp_sgd=true"])
    again = settings_from(tomllib.loads(settings.to_toml()))
    assert again == settings
    assert again.digest == settings.digest


def test_the_digest_tells_settings_apart():
    digests = {load_settings(None, [f"federation.seed={seed}"]).digest for seed in range(3)}
    assert len(digests) == 3


def test_a_file_and_then_what_the_command_line_says(tmp_path):
    path = tmp_path / "fed.toml"
    path.write_text("[federation]\nrounds = 3\nseed = 9\n")
    settings = load_settings(path, ["federation.rounds=4", "data.source=digits"])
    assert settings.federation.rounds == 4
    assert settings.federation.seed == 9
    assert settings.data.source == "digits"


def test_values_are_toml_or_else_plain_text():
    settings = load_settings(None, ['data.source="digits"', "federation.name = other"])
    assert (settings.data.source, settings.federation.name) == ("digits", "other")


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        load_settings().federation.rounds = 3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("federation.round=3", "federation.round: unknown key"),
        ("elections.rounds=3", "elections: unknown key"),
        ("federation.rounds=0", "federation.rounds: Input should be greater than or equal to 1"),
        ("federation.rounds=many", "found 'many'"),
        ("federation.rounds=1.5", "federation.rounds"),
        ("federation.name=Über", "federation.name"),
        ("secagg.bits=21", "secagg.bits"),
        ("privacy.reward_epsilon=inf", "privacy.reward_epsilon"),
        ("privacy.reward_epsilon=nan", "privacy.reward_epsilon"),
        ("deadlines.enrol_s=inf", "deadlines.enrol_s"),
        ("agent.learning_rate=0.5", "agent.learning_rate"),
        ("federation.cohort=65", "federation.cohort"),
        ("secagg.update_clip=0", "secagg.update_clip"),
        ("federation.cohort=21", "more than federation.clients = 20"),
        ("secagg.minimum_contributors=4", "must be at least 5"),
        ("secagg.minimum_survivors=21", "secagg needs at least 21"),
        ("devices.micro.share=1.5", "devices.micro.share"),
        ("deadlines.report_s=120", "reports would come after deadlines.training_s = 120"),
        ("devices.mainframe.share=0.5", "devices.mainframe: unknown key"),
        ("rounds=3", "expected section.key=value"),
        ("federation.rounds", "expected section.key=value"),
        ("a.b.c.d=3", "expected section.key=value"),
        ("a..b=3", "expected section.key=value"),
        ("=3", "expected section.key=value"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(override, said):
    assert said in refused(override)


def test_a_table_within_a_section_can_be_overridden():
    settings = load_settings(None, ["devices.micro.share=0.5", "devices.micro.max_macs=7"])
    assert (settings.devices.micro.share, settings.devices.micro.max_macs) == (0.5, 7)
    assert settings.devices.edge.share == 0


def test_shares_of_more_than_everybody_are_refused():
    with pytest.raises(UserError, match=r"devices: the shares sum to 1\.2, expected at most 1"):
        load_settings(None, ["devices.micro.share=0.6", "devices.edge.share=0.6"])


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refused(path=tmp_path / "none.toml")


@pytest.mark.parametrize("data", [b"[federation", b"federation = 3 = 4"])
def test_a_file_that_is_no_toml_is_named(tmp_path, data):
    path = tmp_path / "fed.toml"
    path.write_bytes(data)
    assert "not valid TOML" in refused(path=path)


@pytest.mark.parametrize("data", [b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, data):
    path = tmp_path / "fed.toml"
    path.write_bytes(data)
    assert "cannot be read" in refused(path=path)
    assert "cannot be read" in refused(path=tmp_path)


def test_a_section_that_is_no_table_is_named(tmp_path):
    path = tmp_path / "fed.toml"
    path.write_text("federation = 3\n")
    assert "is not a table" in refused("federation.rounds=3", path=path)
    assert "federation" in refused(path=path)


def test_settings_from_tables_are_refused_alike():
    with pytest.raises(UserError, match=r"settings: federation\.rounds"):
        settings_from({"federation": {"rounds": -1}})


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("privacy.reward_noise=false", "reward noise is off"),
        ("secagg.masking=false", "masking is off"),
        ("privacy.seeded_noise=true", "noise and keys are seeded"),
    ],
)
def test_every_removed_protection_is_said(override, reason):
    assert load_settings(None, [override]).non_private == (reason,)


TABLES = st.fixed_dictionaries(
    {
        "federation": st.fixed_dictionaries(
            {
                "clients": st.integers(32, 10_000),
                "cohort": st.integers(2, 256),
                "rounds": st.sampled_from((1, 8, 100_000)),
            }
        ),
        "agent": st.fixed_dictionaries(
            {
                "kind": st.sampled_from(("reinforce", "critic")),
                "faithful": st.booleans(),
                "learning_rate": st.floats(1e-9, 0.1),
                "floor": st.floats(0, 1, exclude_max=True),
                "baseline_decay": st.floats(0, 1, exclude_max=True),
            }
        ),
        "training": st.fixed_dictionaries(
            {
                "strategy": st.sampled_from(("perfedrlnas", "fedavg", "no-such-strategy")),
                "learning_rate": st.floats(1e-6, 1e3),
                "momentum": st.floats(0, 1, exclude_max=True),
                "weight_decay": st.floats(0, 1e3),
            }
        ),
        "privacy": st.fixed_dictionaries(
            {
                "reward_noise": st.booleans(),
                "reward_epsilon": st.floats(0.01, 1000),
                "delta": st.sampled_from((0.0, 1e-12, 1e-5, 0.09)),
            }
        ),
        "secagg": st.fixed_dictionaries(
            {
                "collusion": st.integers(0, 30),
                "minimum_contributors": st.integers(2, 1000),
                "minimum_survivors": st.integers(2, 4096),
                "dropout_margin": st.integers(0, 100),
                "update_clip": st.floats(1e-7, 1e4),
                "bits": st.sampled_from((16, 20, 24)),
            }
        ),
        "space": st.just(IMAGES),
    }
)


@hypothesis_settings(max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True)
@given(TABLES)
def test_settings_that_are_accepted_can_be_worked_out_or_are_refused_in_one_line(tables):
    """No range of the settings lets a value through that a room below stumbles over."""
    try:
        federation = Federation.of(settings_from(tables))
    except UserError:
        return
    assert federation.quantizer.step > 0
    assert federation.policy.minimum_contributors >= federation.policy.collusion + 2
    everybody = committee_size(federation.settings.federation.cohort)
    assert threshold(everybody, federation.policy.collusion) <= everybody
    assert len(federation.agents().policy("anybody")) == len(federation.space.decisions)


def test_a_cohort_whose_sums_could_wrap_is_refused_before_anything_starts():
    wide = ["federation.clients=1000", "federation.cohort=1000"]
    assert load_settings(None, wide).federation.cohort == 1000
    with pytest.raises(UserError, match="at most 256"):
        load_settings(None, [*wide, "secagg.bits=24"])
    with pytest.raises(UserError, match=r"federation\.cohort"):
        load_settings(None, ["federation.clients=2000", "federation.cohort=1001"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("agent.kind=fixed", "there is no choice to keep on a device"),
        ("agent.faithful=true", "the mean of all devices' best rewards"),
        ("training.strategy=fedavg", "there is nothing for a device to choose"),
        ("agent.placement=phone", "agent.placement"),
    ],
)
def test_who_chooses_for_themselves_must_have_a_choice(override, said):
    with pytest.raises(UserError) as caught:
        load_settings(None, ["agent.placement=client", override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_that_reports_no_reward_needs_no_noise_on_it():
    assert load_settings(None, ["privacy.reward_noise=false"]).non_private
    own = ["agent.placement=client", "privacy.reward_noise=false"]
    assert load_settings(None, own).non_private == ()
