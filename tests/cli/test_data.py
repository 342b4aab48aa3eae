"""Looking at data before a run: what it is, who would hold what, and a picture of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from secure_pfnas.errors import ExitCode


@pytest.fixture
def folder(tmp_path, arrays):
    """The same images as PNGs, a folder a class."""
    for name in ("train", "test"):
        for number, (image, label) in enumerate(
            zip(arrays[f"x_{name}"][:60], arrays[f"y_{name}"][:60], strict=True)
        ):
            place = tmp_path / "gallery" / name / f"side-{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:03d}.png")
    return tmp_path / "gallery"


def test_an_import_says_what_it_found_and_writes_what_can_be_inspected(call, tmp_path, folder):
    out = tmp_path / "mine.npz"
    said = call("data", "import", folder, "--out", out)
    assert said.code == 0
    assert "found: folder of images, tested on test/" in said.out
    assert "60 training and 60 test images of 1×8×8, 2 classes" in said.out
    told = json.loads(call("data", "inspect", out, "--json").out)
    assert (told["train"], told["test"], told["groups"]) == ([30, 30], [30, 30], None)
    assert told["digest"][:12] in said.out
    again = call("data", "import", folder, "--out", out)
    assert again.code == ExitCode.STORAGE
    assert "is there already" in again.complaint[0]


def test_an_import_of_nothing_known_leaves_nothing_behind(call, tmp_path):
    said = call("data", "import", tmp_path, "--out", tmp_path / "out" / "mine.npz")
    assert said.code == ExitCode.DATA
    assert "holds no data of a known kind" in said.complaint[0]
    assert not (tmp_path / "out").exists()


def test_inspecting_a_configuration_shows_every_device(call, tmp_path, small):
    path = tmp_path / "fed.toml"
    path.write_text(call("config", *small, "--set", "devices.micro.share=0.4").out)
    said = call("data", "inspect", path)
    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines() if line.startswith("dev-")]
    assert [line[0] for line in lines] == [f"dev-00{i}" for i in range(7)]
    assert [line[1] for line in lines].count("micro") == 3
    told = json.loads(call("data", "inspect", path, "--json").out)
    assert sum(device["train"] for device in told["devices"]) == 7 * 24
    assert all(sum(device["histogram"]) == 24 + 20 for device in told["devices"])
    assert f"smallest: {told['smallest']['name']} with 24" in said.out
    assert told["partition_digest"][:12] in said.out


def test_the_digests_shown_are_those_of_the_run(call, tmp_path, small):
    path = tmp_path / "fed.toml"
    path.write_text(call("config", *small, "--set", "federation.rounds=1").out)
    told = json.loads(call("data", "inspect", path, "--json").out)
    ran = json.loads(call("run", path, "--sim", "--out", tmp_path / "run", "--json").out)
    assert ran["dataset"] == {
        "name": told["name"],
        "digest": told["digest"],
        "partition": told["partition_digest"],
    }


def test_the_picture_has_a_row_a_device_with_its_own_examples_and_classes(call, tmp_path, small):
    picture = tmp_path / "sheets" / "data.png"
    path = tmp_path / "fed.toml"
    path.write_text(call("config", *small).out)
    said = call("data", "inspect", path, "--picture", picture)
    assert f"picture: {picture}, 7 rows" in said.out
    with Image.open(picture) as image:
        sheet = np.asarray(image)
    assert sheet.shape == (24 + 7 * 39 + 30, 220 + 10 * 39 + 260 + 6, 3)
    for row in range(7):
        band = sheet[24 + row * 39 : 24 + row * 39 + 36]
        tile, bar = band[:, 220:256], band[10:20, 620:860]
        assert tile.std() > 20, "an example is drawn"
        assert len(np.unique(bar.reshape(-1, 3), axis=0)) == 2, "two classes are drawn"


def test_the_picture_of_a_file_has_a_row_a_class(call, tmp_path, data):
    said = call("data", "inspect", data, "--picture", tmp_path / "data.png", "--json")
    told = json.loads(said.out)
    assert told["picture_rows"] == 2
    assert (tmp_path / "data.png").read_bytes().startswith(b"\x89PNG")


def test_shift_is_drawn_as_devices_see_it(call, tmp_path, small):
    sheets = []
    for shift in ("none", "blur"):
        path = tmp_path / f"{shift}.png"
        words = [*small, "--set", f"data.shift={shift}", "--set", "data.shift_most=3"]
        config = tmp_path / "fed.toml"
        config.write_text(call("config", *words).out)
        call("data", "inspect", config, "--picture", path)
        with Image.open(path) as image:
            sheets.append(np.asarray(image)[24:, 220:600].astype(float))
    plain, soft = (np.abs(np.diff(sheet, axis=1)).mean() for sheet in sheets)
    assert soft < 0.8 * plain


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("nowhere.npz", ExitCode.DATA, "no such file"),
        ("nowhere.toml", ExitCode.CONFIG, "no such file"),
        ("mnist", ExitCode.DATA, "no such file"),
    ],
)
def test_what_cannot_be_inspected_is_one_line(call, what, code, words):
    said = call("data", "inspect", what)
    assert said.code == code
    assert words in said.complaint[0]


def test_a_picture_that_cannot_be_written_is_one_line(call, tmp_path, data):
    (tmp_path / "file").write_text("")
    said = call("data", "inspect", data, "--picture", tmp_path / "file" / "data.png")
    assert said.code == ExitCode.STORAGE
