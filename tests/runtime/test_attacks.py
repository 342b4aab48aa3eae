"""Attacks on the code that clients run: an honest build passes, and a tenth of its noise fails."""

import re
from fractions import Fraction

import pytest

from secure_pfnas.audit.findings import Verdict
from secure_pfnas.errors import ExitCode
from secure_pfnas.learning import dp_sgd
from secure_pfnas.privacy.mechanisms import discrete_gaussian, distributed_gaussian
from secure_pfnas.roles import release
from secure_pfnas.runtime import attacks
from secure_pfnas.wire.randomness import SeededStream


def verdicts(name):
    return {one.check: one.verdict for one in attacks.attack(name, SeededStream(1, name))}


def cosine(name):
    found = attacks.attack("inversion", SeededStream(1, "inversion"))
    (evidence,) = next(one.evidence for one in found if one.check == f"inversion of a {name}")
    return float(evidence.split()[1].rstrip(","))


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_an_honest_build_withstands(name):
    assert set(verdicts(name).values()) == {Verdict.PASS}


def test_oracle_19_a_tenth_of_dp_sgds_noise_is_flagged(monkeypatch):
    real = dp_sgd.gaussian_noise
    monkeypatch.setattr(dp_sgd, "gaussian_noise", lambda n, sigma, r: real(n, sigma / 10, r))
    assert verdicts("canaries") == {"one_run": Verdict.FAIL, "membership": Verdict.FAIL}


def test_images_are_in_updates_and_sums_but_not_behind_masks_or_noise():
    assert cosine("raw update") >= 0.9
    assert cosine("slot sum") >= 0.9  # masks alone do not stop it: the sum is what it is
    assert cosine("masked update") <= 0.15
    assert cosine("slot sum with noise") <= 0.2


def test_a_tenth_of_the_weights_noise_is_flagged(monkeypatch):
    real = distributed_gaussian.sample_vector
    monkeypatch.setattr(distributed_gaussian, "sample_vector", lambda v, n, r: real(v / 100, n, r))
    found = verdicts("inversion")
    assert found.pop("inversion of a slot sum with noise") is Verdict.FAIL
    assert set(found.values()) == {Verdict.PASS}


def test_an_upload_without_its_mask_is_flagged(monkeypatch):
    monkeypatch.setattr(attacks, "add_masks", lambda *_: None)
    assert verdicts("inversion")["inversion of a masked update"] is Verdict.FAIL


def test_a_tenth_of_the_rewards_noise_is_flagged(monkeypatch):
    real = discrete_gaussian.sample
    monkeypatch.setattr(
        discrete_gaussian, "sample", lambda variance, r: real(Fraction(variance) / 100, r)
    )
    assert set(verdicts("rewards").values()) == {Verdict.FAIL}


def test_noise_drawn_anew_for_every_retry_is_averaged_away(monkeypatch):
    monkeypatch.setattr(
        attacks,
        "release_reward",
        lambda terms, ledger, number, count, random: (
            ledger,
            None,
            terms.plan.reward.mechanism.release(count, random),
        ),
    )
    assert verdicts("rewards")["reward by averaging retries"] is Verdict.FAIL
    assert release.release_reward is not attacks.release_reward


def test_oracle_18_raw_sums_give_every_count_away(monkeypatch):
    monkeypatch.setattr(discrete_gaussian, "sample", lambda variance, random: 0)
    found = attacks.attack("rewards", SeededStream(1, "raw"))
    assert {one.verdict for one in found} == {Verdict.FAIL}
    solved = next(one for one in found if "solving" in one.check)
    assert "error 0.00 counts" in solved.evidence[0]


def test_the_verb_names_its_attacks_and_says_what_was_found(capsys):
    from secure_pfnas.cli.main import main  # noqa: PLC0415

    assert main(["audit", "attack", "rewards"]) == ExitCode.OK
    assert re.search(r"^pass +reward by averaging retries", capsys.readouterr().out)
    assert main(["audit", "attack", "guessing"]) == ExitCode.USAGE
    assert "canaries, inversion, rewards, all" in capsys.readouterr().err
