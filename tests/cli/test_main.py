import json

import pytest

from secure_pfnas.cli import main as cli
from secure_pfnas.config import Settings, load_settings
from secure_pfnas.errors import ExitCode, UserError


def test_help_names_every_verb(call):
    said = call("--help")
    assert said.code == 0
    assert all(f"  {verb} " in said.out for verb in cli.VERBS)


def test_no_verb_is_a_usage_error_that_shows_help(call):
    said = call()
    assert said.code == ExitCode.USAGE
    assert "Usage" in said.out


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help_with_an_example(call, verb):
    words = {
        "broker": ["start"],
        "certs": ["issue"],
        "data": ["inspect"],
        "costs": ["measure"],
        "budget": ["show"],
        "scenario": ["run"],
        "audit": ["attack"],
    }
    said = call(verb, *words.get(verb, []), "--help")
    assert said.code == 0
    assert f"Example: secure-pfnas {verb}" in " ".join(said.out.split())
    assert "--json" in said.out


def test_version(call):
    assert call("--version").out.startswith("secure-pfnas")


def test_an_unknown_verb_is_told_with_the_known_ones(call):
    said = call("dmeo")
    assert said.code == ExitCode.USAGE
    assert "demo" in said.complaint[0]


def test_an_unknown_option_is_two_lines(call):
    said = call("config", "--bogus")
    assert said.code == ExitCode.USAGE
    assert "--bogus" in said.complaint[0]


def test_an_error_under_json_is_one_object(call):
    said = call("config", "no-such-file.toml", "--json")
    answer = json.loads(said.out)
    assert said.code == answer["exit_code"] == ExitCode.CONFIG
    assert answer["outcome"] == "ERROR"
    assert "no-such-file.toml" in answer["error"]


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (ZeroDivisionError("by zero"), ExitCode.INTERNAL, "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted"),
        (UserError("a file", todo="mend it", code=ExitCode.DATA), ExitCode.DATA, "a file"),
    ],
)
def test_whatever_is_raised_becomes_two_lines(call, monkeypatch, raised, code, words):
    def fail(_words):
        raise raised

    monkeypatch.setattr(cli, "_dispatch", fail)
    said = call("config")
    assert said.code == code
    assert words in said.complaint[0]


def test_debug_shows_the_traceback(call, monkeypatch):
    def fail(_words):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert "Traceback" not in call("config").err
    assert "Traceback" in call("config", "--debug").err


def test_the_printed_settings_load_back_to_the_defaults(call, tmp_path):
    said = call("config")
    path = tmp_path / "fed.toml"
    path.write_text(said.out)
    assert load_settings(path) == Settings()
    assert "rounds = 8" in said.out
    assert "# ≥ 1, ≤ 100000" in said.out


def test_a_configuration_is_printed_with_its_overrides(call, tmp_path):
    path = tmp_path / "fed.toml"
    path.write_text("[federation]\nrounds = 3\n")
    said = call("config", path, "--set", "federation.seed=9", "--json")
    settings = json.loads(said.out)["settings"]
    assert settings["federation"]["rounds"] == 3
    assert settings["federation"]["seed"] == 9
    assert "rounds = 3" in call("config", path).out


def test_nothing_is_coloured_when_piped(call):
    assert "\x1b" not in call("doctor").out
