"""A measured table decides the reward's latency and, where asked, who can keep the deadline."""

from __future__ import annotations

import pytest

from secure_pfnas.config import load_latency, load_settings
from secure_pfnas.errors import ExitCode, UserError
from tests.roles.hall import hall
from tests.simulation.village import federation

FACTS = {
    "space": "hamlet",
    "channels": 1,
    "height": 4,
    "width": 4,
    "classes": 3,
    "batch_size": 32,
    "dp_sgd": False,
}
EDGE = {"mac_s": 0.01}  # hamlet's architectures have 4, 16 or 36 multiply-accumulates
STEPS = 26  # two epochs of 400 examples in batches of 32


def test_the_reward_goes_by_the_table():
    weights = {"reward": {"latency": 0.5, "memory": 0.0}}
    terms = federation(latency=FACTS | {"edge": EDGE, "micro": {"mac_s": 0.1}}, **weights)
    paid = {
        name: 1 - terms.reward("dev-000", 150, (2, 2), name)
        for name in ("edge", "micro", "gateway")
    }
    assert paid == pytest.approx({"edge": 0.05, "micro": 0.5, "gateway": 0.5})
    assert terms.reward("dev-000", 150, (0, 0), "edge") == pytest.approx(1 - 0.5 * 4 / 360)


def test_a_deadline_masks_what_a_class_cannot_train_in_time():
    table = FACTS | {"edge": EDGE}
    late = {"mask": True, "training_s": STEPS * 0.01 * 16}
    terms = federation(latency=table, deadlines=late)
    assert terms.limits.training_s((1, 0), "edge") == pytest.approx(STEPS * 0.16)
    assert terms.limits.allowed((1, 2), "edge")
    assert not terms.limits.allowed((2, 0), "edge")
    assert [stands.tolist() for stands in terms.limits.options["edge"]] == [
        [True, True, False],
        [True, True, True],
    ]
    unmasked = federation(latency=table, deadlines=late | {"mask": False})
    assert unmasked.limits.allowed((2, 0), "edge")


def test_devices_are_asked_only_for_what_they_can_train_in_time():
    widths = set()
    for seed in range(4):
        house = hall(
            latency=FACTS | {"edge": EDGE},
            deadlines={"mask": True, "training_s": STEPS * 0.01 * 16},
            federation={"seed": seed, "clients": 16, "cohort": 16},
        )
        house.gather()
        widths |= {architecture[0] for architecture in house.cohort.architectures.values()}
    assert widths == {0, 1}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"latency": FACTS | {"edge": EDGE, "height": 8}},
            r"latency: measured for hamlet on 1×8×4 .* the federation has hamlet on 1×4×4",
        ),
        (
            {"latency": FACTS | {"edge": EDGE, "batch_size": 16}},
            "batches of 16; the federation has .* batches of 32",
        ),
        (
            {"latency": FACTS | {"edge": EDGE}, "devices": {"micro": {"share": 0.5}}},
            r"latency\.micro: not measured, but the federation has micro devices",
        ),
        (
            {"latency": FACTS | {"edge": EDGE}, "deadlines": {"mask": True, "training_s": 1.0}},
            r"deadlines\.training_s: 1, but the smallest .* trains 1\.04 s on edge devices",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_one_clear_line(sections, words):
    with pytest.raises(UserError, match=words) as caught:
        federation(**sections)
    assert caught.value.code is ExitCode.CONFIG


def test_the_settings_take_the_named_table_in(tmp_path):
    (tmp_path / "latency.toml").write_text(
        "[latency]\nspace = 'hamlet'\n[latency.edge]\nmac_s = 1e-9\n"
    )
    (tmp_path / "fed.toml").write_text("[reward]\nlatency_table = 'latency.toml'\n")
    settings = load_settings(tmp_path / "fed.toml")
    assert settings.latency.edge.mac_s == 1e-9
    assert settings.reward.latency_table == ""
    (tmp_path / "run.toml").write_text(settings.to_toml())
    (tmp_path / "latency.toml").unlink()
    assert load_settings(tmp_path / "run.toml").digest == settings.digest
    assert settings.digest != load_settings().digest


@pytest.mark.parametrize(
    "text", ["", "latency = 3", "[latency]\nspeed = 3\n", "[latency]\nspace = 3"]
)
def test_a_file_that_is_no_table_is_one_clear_line(tmp_path, text):
    (tmp_path / "latency.toml").write_text(text)
    with pytest.raises(UserError, match=r"latency\.toml: is no latency table"):
        load_latency(tmp_path / "latency.toml")
    (tmp_path / "fed.toml").write_text("[reward]\nlatency_table = 'nowhere.toml'\n")
    with pytest.raises(UserError, match=r"nowhere\.toml: no such file"):
        load_settings(tmp_path / "fed.toml")
    with pytest.raises(UserError, match=r"reward\.latency_table"):
        load_settings(None, ["reward.latency_table=3"])
