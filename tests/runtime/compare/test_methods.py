from __future__ import annotations

import pytest

from secure_pfnas.config import load_settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.strategies import STRATEGIES, UNMASKED
from secure_pfnas.runtime.compare.methods import PRESETS, names, parse_methods, parse_seeds


def test_names_are_presets_and_strategies():
    assert set(names()) == set(PRESETS) | set(STRATEGIES) | set(UNMASKED)
    assert [method.label for method in parse_methods(",".join(names()))] == list(names())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_settings_that_exist(name):
    (method,) = parse_methods(name)
    settings = load_settings(None, method.overrides)
    assert settings.training.strategy == "perfedrlnas"


def test_faithful_is_what_its_authors_published():
    (method,) = parse_methods("faithful")
    settings = load_settings(None, method.overrides)
    assert settings.agent.faithful
    assert settings.training.normalise == "all"
    assert not settings.training.personal_head


def test_brackets_override_settings_of_one_method():
    plain, mine = parse_methods(
        'fedper, wide=fedper[training.architectures=["1-1","2-2"],training.epochs=3]'
    )
    assert (plain.label, mine.label) == ("fedper", "wide")
    settings = load_settings(None, mine.overrides)
    assert settings.training.strategy == "fedper"
    assert settings.training.architectures == ("1-1", "2-2")
    assert settings.training.epochs == 3


def test_what_a_method_says_itself_outranks_its_preset():
    (method,) = parse_methods("faithful[training.normalise=covered]")
    assert load_settings(None, method.overrides).training.normalise == "covered"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("magic", "found 'magic', expected one of ours, faithful"),
        ("", "names no method"),
        ("ours,ours", "two methods are called 'ours'"),
        ("fedper[training.epochs=2", "cannot read"),
        ("../up=fedper", "cannot read|found"),
        ("fedper[data.alpha=1]", "data.alpha is the same for every method"),
        ("fedper[federation.rounds=9]", "federation.rounds is the same"),
    ],
)
def test_a_wrong_method_is_one_clear_line(text, why):
    with pytest.raises(UserError, match=why) as refused:
        parse_methods(text)
    assert refused.value.code is ExitCode.USAGE
    assert "\n" not in refused.value.what


def test_one_compares_with_a_method_of_the_comparison():
    parse_methods("ours,fedper", against="fedper")
    with pytest.raises(UserError, match="found 'local', expected one of ours, fedper"):
        parse_methods("ours,fedper", against="local")


def test_seeds_are_different_numbers():
    assert parse_seeds("11, 12,13") == (11, 12, 13)
    for wrong in ("", "1,1", "one", "1,,2", "-1"):
        with pytest.raises(UserError, match="different whole numbers"):
            parse_seeds(wrong)
