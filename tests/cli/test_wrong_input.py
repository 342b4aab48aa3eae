"""Whatever is wrong with the input is one clear line, an exit code, and nothing left behind."""

import os
import resource
import shutil
import socket
import subprocess
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from secure_pfnas.config import settings_from
from secure_pfnas.errors import ExitCode
from secure_pfnas.runtime.enrolment import enrol
from secure_pfnas.runtime.pki import CertificateAuthority


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "new"


@pytest.fixture
def saved(tmp_path, arrays):
    """Save arrays, some of them replaced, and return the path."""

    def saving(**replaced):
        path = tmp_path / "mine.npz"
        np.savez(path, **(arrays | replaced))
        return path

    return saving


@pytest.fixture
def certs(tmp_path):
    return tmp_path / "certs"


def issue(folder, *, years_ago=0):
    settings = settings_from({"federation": {"clients": 7, "cohort": 7}})
    then = datetime.now(UTC) - timedelta(days=365 * years_ago)
    if years_ago:
        CertificateAuthority.create(folder, federation="fed", now=then, lifetime_days=100)
    return enrol(settings, folder, now=then)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("[federation\n", "not valid TOML"),
        ("[federation]\nround = 3\n", "federation.round: unknown key"),
        ("[fedration]\nrounds = 3\n", "fedration: unknown key"),
        ("[federation]\nrounds = 0\n", "federation.rounds"),
        ("[federation]\nrounds = 'many'\n", "federation.rounds"),
        ("[secagg]\nminimum_contributors = 2\n", "minimum_contributors"),
        ("[privacy]\nreward_epsilon = nan\n", "privacy.reward_epsilon"),
    ],
)
def test_a_wrong_configuration(call, tmp_path, out, text, words):
    path = tmp_path / "fed.toml"
    if text is not None:
        path.write_text(text)
    said = call("run", path, "--sim", "--out", out)
    assert said.code == ExitCode.CONFIG
    assert words in said.complaint[0]
    assert str(path) in said.complaint[0]
    assert not out.parent.exists()


def test_a_wrong_override(call, out):
    said = call("run", "--sim", "--set", "rounds=3", "--out", out)
    assert said.code == ExitCode.CONFIG
    assert "section.key=value" in said.complaint[0]
    assert not out.parent.exists()


def test_a_missing_data_file(call, tmp_path, out):
    for words in (["demo", "--data"], ["run", "--sim", "--set"]):
        name = f"{'data.source=' if words[0] == 'run' else ''}{tmp_path / 'none.npz'}"
        said = call(*words, name, "--out", out)
        assert said.code == ExitCode.DATA
        assert "no such file" in said.complaint[0]
    assert not out.parent.exists()


def wrong_arrays(case, arrays):
    x, y = arrays["x_train"], arrays["y_train"]
    as_floats = x.astype(np.float32) / 255
    as_floats[3, 2, 1] = np.nan
    return {
        "not images": {"x_train": np.zeros((len(y), 5), np.float32)},
        "texts": {"x_train": np.array(["cat"] * len(y))},
        "a label gap": {"y_train": y * 2},
        "a negative label": {"y_train": y - 1},
        "NaN": {"x_train": as_floats},
        "fewer labels than images": {"y_train": y[:-1]},
    }[case]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("not images", "not images"),
        ("texts", "expected numbers"),
        ("a label gap", "no example of class 1"),
        ("a negative label", "expected 0"),
        ("NaN", "NaN"),
        ("fewer labels than images", "labels"),
    ],
)
def test_data_that_cannot_be_used(call, saved, arrays, out, small, case, words):
    path = saved(**wrong_arrays(case, arrays))
    said = call("demo", "--data", path, "--out", out)
    assert said.code == ExitCode.DATA
    assert words in said.complaint[0]
    assert str(path) in said.complaint[0]
    said = call("run", "--sim", *small, "--set", f"data.source={path}", "--out", out)
    assert said.code == ExitCode.DATA
    assert not out.parent.exists()


def test_a_file_of_another_kind(call, tmp_path, out):
    path = tmp_path / "mine.npz"
    path.write_bytes(b"not a zip file")
    said = call("demo", "--data", path, "--out", out)
    assert said.code == ExitCode.DATA
    assert "not a readable .npz" in said.complaint[0]
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["data.partition=halves"], ExitCode.CONFIG, "data.partition"),
        (["data.partition=shards", "data.shards_per_client=3"], ExitCode.DATA,
         "400 training examples do not divide into 21 shards"),
        (["data.partition=groups"], ExitCode.CONFIG, "no arrays group_train and group_test"),
        (["data.partition=quantity", "data.smallest_client=5"], ExitCode.CONFIG,
         "data.smallest_client: 5 leaves 4 training examples, expected at least 8"),
        (["data.partition=quantity"], ExitCode.DATA, "dealt to 7 clients"),
        (["data.partition=device-class", "data.minimum_per_client=60",
          "data.train_per_client=90"], ExitCode.DATA, "dealt to 7 clients"),
        (["data.shift=fog"], ExitCode.CONFIG, "data.shift"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_dealt_that_way(call, out, small, words, code, complaint):
    sets = [word for text in words for word in ("--set", text)]
    said = call("run", "--sim", *small, *sets, "--out", out)
    assert said.code == code
    assert complaint in said.complaint[0]
    assert not out.parent.exists()


def test_groups_that_are_not_one_an_example(call, saved, arrays, out, small):
    for groups in ({"group_train": np.zeros(400, int)},
                   {"group_train": np.zeros(3, int), "group_test": np.zeros(80, int)}):  # fmt: skip
        path = saved(**groups)
        said = call("run", "--sim", *small, "--set", f"data.source={path}", "--out", out)
        assert said.code == ExitCode.DATA
        assert "group_t" in said.complaint[0]
    assert not out.parent.exists()


def test_caps_that_no_architecture_fits(call, out, small):
    said = call("run", "--sim", *small, "--set", "devices.micro.max_parameters=9", "--out", out)
    assert said.code == ExitCode.CONFIG
    assert "devices.micro.max_parameters: 9" in said.complaint[0]
    assert "no architecture fits" in said.complaint[0]
    assert not out.parent.exists()


def test_a_client_that_would_have_no_examples(call, out, small):
    said = call(
        "run", "--sim", *small, "--set", "federation.clients=60", "--set", "data.alpha=0.05",
        "--out", out,
    )  # fmt: skip
    assert said.code == ExitCode.DATA
    assert "60 clients" in said.complaint[0]
    assert not out.parent.exists()


def test_a_budget_that_leaves_only_noise(call, out, small):
    said = call("run", "--sim", *small, "--set", "privacy.reward_epsilon=0.1", "--out", out)
    assert said.code == ExitCode.BUDGET
    assert not out.parent.exists()


def test_neither_or_both_ways_to_run(call, out):
    for words in ([], ["--sim", "--broker", "embedded"]):
        said = call("run", *words, "--out", out)
        assert said.code == ExitCode.USAGE
        assert "--sim" in said.complaint[0]
    assert not out.parent.exists()


@pytest.mark.parametrize("url", ["mqtt://localhost:1883", "localhost", "mqtts://", "mqtts://a:b"])
def test_a_broker_that_is_no_mqtts_url(call, out, url):
    said = call("run", "--broker", url, "--out", out)
    assert said.code == ExitCode.USAGE
    assert "mqtts://HOST:PORT" in said.complaint[0]
    assert not out.parent.exists()


def test_resume_without_a_run(call, out, small):
    assert call("run", "--sim", "--resume").code == ExitCode.USAGE
    said = call("run", "--sim", *small, "--resume", "--out", out)
    assert said.code == ExitCode.STORAGE
    assert "no run to resume" in said.complaint[0]
    assert not out.exists()


def test_a_folder_that_is_a_file(call, tmp_path, small):
    path = tmp_path / "file"
    path.write_text("mine")
    said = call("run", "--sim", *small, "--out", path)
    assert said.code == ExitCode.STORAGE
    assert str(path) in said.complaint[0]
    assert path.read_text() == "mine"
    said = call("demo", "--out", path)
    assert said.code == ExitCode.STORAGE


def test_a_port_in_use(call, certs):
    issue(certs)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = call("broker", "start", "--certs", certs, "--port", port)
    assert said.code == ExitCode.BROKER
    assert str(port) in said.complaint[0]


@pytest.mark.parametrize("port", ["65536", "-1", "mqtt"])
def test_a_port_that_is_none(call, certs, port):
    said = call("broker", "start", "--certs", certs, "--port", port)
    assert said.code == ExitCode.USAGE
    assert "--port" in said.complaint[0]


def test_a_broker_that_is_not_there(call, certs, out, small):
    issue(certs)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"mqtts://127.0.0.1:{port}"
    said = call("run", *small, "--broker", url, "--certs", certs, "--out", out)
    assert said.code == ExitCode.BROKER
    assert str(port) in said.complaint[0]
    assert not out.exists()


def test_an_expired_ca(call, certs, out, small):
    issue(certs, years_ago=2)
    said = call("broker", "start", "--certs", certs, "--port", "0")
    assert said.code == ExitCode.IDENTITY
    assert "expired" in said.complaint[0]
    for broker in ("embedded", "mqtts://127.0.0.1:8883"):
        said = call("run", *small, "--broker", broker, "--certs", certs, "--out", out)
        assert said.code == ExitCode.IDENTITY
        assert "expired" in said.complaint[0]
    assert not out.exists()


@pytest.mark.parametrize("verb", ["server", "client"])
def test_a_party_without_a_certificate(call, tmp_path, certs, out, small, verb):
    path = tmp_path / "fed.toml"
    path.write_text(call("config", *small).out)
    words = ["--devices", "dev-000"] if verb == "client" else []
    said = call(
        verb, path, "--broker", "mqtts://127.0.0.1:8883", "--certs", certs, "--out", out, *words
    )
    assert said.code == ExitCode.IDENTITY
    assert "cert.pem" in said.complaint[0]
    assert not out.parent.exists()


@pytest.mark.parametrize("names", ["", "dev-000..", "dev-006..dev-000", "dev-900..dev-901", "a,a"])
def test_devices_that_are_none(call, tmp_path, certs, out, small, names):
    path = tmp_path / "fed.toml"
    path.write_text(call("config", *small).out)
    said = call(
        "client", path, "--broker", "mqtts://127.0.0.1:1", "--certs", certs, "--out", out,
        "--devices", names,
    )  # fmt: skip
    assert said.code == ExitCode.USAGE
    assert "dev-000..dev-006" in said.complaint[0]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--crash", "dev-000"], ExitCode.USAGE, "NAME@ROUND"),
        (["--device-class", "mainframe"], ExitCode.CONFIG, "reward.device_class"),
        (["--data", "DATA", "--devices", "dev-000,dev-001"], ExitCode.USAGE, "one device"),
        (["--data", "DATA"], ExitCode.CONFIG, "space: channels"),
        (["--data", "missing.npz", "SPACE"], ExitCode.DATA, "no such file"),
        (["--data", "DATA", "SPACE", "--set", "space.height=16"], ExitCode.DATA, "(1, 16, 8)"),
        (["--data", "GAPS", "SPACE"], ExitCode.DATA, "label 4, expected 0…1"),
        (["--data", "DATA", "SPACE", "--set", "data.validation_per_client=500"], ExitCode.DATA,
         "508"),
    ],
)  # fmt: skip
def test_a_client_with_wrong_options(
    call, tmp_path, certs, out, small, space, data, saved, arrays, words, code, complaint
):
    issue(certs)
    path = tmp_path / "fed.toml"
    path.write_text(call("config", *small).out)
    gaps = saved(y_train=arrays["y_train"] * 4)
    stands_for = {"DATA": [data], "GAPS": [gaps], "SPACE": space}
    words = [meant for word in words for meant in stands_for.get(word, [word])]
    said = call(
        "client", path, "--broker", "mqtts://127.0.0.1:1", "--certs", certs, "--out", out,
        "--devices", "dev-000", *words,
    )  # fmt: skip
    assert said.code == code
    assert complaint in said.complaint[0]
    assert not out.parent.exists()


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of 96 KiB, or, without the right to mount one, on one that acts so."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    mounted = (
        mount is not None
        and os.geteuid() == 0
        and subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    if mounted:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("way", [["--sim"], ["--broker", "embedded"]])
def test_a_full_disk(call, full_disk, small, way):
    said = call("run", *way, *small, "--out", full_disk / "run", "--workers", "1")
    assert said.code == ExitCode.STORAGE
    assert str(full_disk) in said.complaint[0]
    assert not (full_disk / "run").exists()
