from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime import array_files, datasets
from secure_pfnas.runtime.datasets import load

needs_fashion = pytest.mark.skipif(
    not datasets.FASHION_MNIST.exists(), reason="the Debian package dataset-fashion-mnist"
)


@pytest.fixture
def good():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (40, 12, 10, 3), dtype=np.uint8),
        "y_train": np.arange(40, dtype=np.int64) % 4,
        "x_test": rng.integers(0, 256, (12, 12, 10, 3), dtype=np.uint8),
        "y_test": np.arange(12, dtype=np.int64) % 4,
    }


@pytest.fixture
def saved(tmp_path, good):
    """Save the good arrays, some replaced (or, given None, left out)."""

    def save(**changes):
        arrays = {k: v for k, v in (good | changes).items() if v is not None}
        np.savez_compressed(tmp_path / "mine.npz", **arrays)
        return str(tmp_path / "mine.npz")

    return save


def refused(source, words):
    with pytest.raises(UserError, match=words) as caught:
        load(source)
    assert caught.value.code is ExitCode.DATA
    assert "\n" not in caught.value.what
    assert caught.value.todo
    return caught.value.what


def test_digits_are_real_standardised_and_split():
    digits = load("digits")
    assert (digits.name, digits.classes, digits.input_shape) == ("digits", 10, (1, 8, 8))
    assert len(digits.y_train) + len(digits.y_test) == 1797
    assert digits.x_train.dtype == np.float32
    assert digits.x_train.flags.c_contiguous
    assert abs(digits.x_train.mean()) < 0.05
    assert abs(digits.x_train.std() - 1) < 0.05
    assert set(digits.y_test) == set(range(10))


def test_a_data_set_is_read_only_and_has_a_stable_digest():
    one, other = load("digits"), load("digits")
    assert one.digest == other.digest
    assert len(bytes.fromhex(one.digest)) == 32
    with pytest.raises(ValueError, match="read-only"):
        one.x_train[0] = 0


@needs_fashion
def test_fashion_mnist_is_the_whole_set_and_its_small_version_its_means():
    full, small = load("fashion-mnist"), load("fashion-mnist-14")
    assert full.x_train.shape == (60_000, 1, 28, 28)
    assert small.x_train.shape == (60_000, 1, 14, 14)
    assert np.bincount(small.y_test).tolist() == [1000] * 10
    assert full.digest != small.digest
    pixels = full.x_test[:50, 0] * 0.3530 + 0.2860
    means = pixels.reshape(50, 14, 2, 14, 2).mean(axis=(2, 4))
    assert np.allclose(small.x_test[:50, 0] * 0.3300 + 0.2860, means, rtol=0, atol=0.51 / 255)
    for images in (full, small):
        assert abs(images.x_train.mean()) < 0.01
        assert abs(images.x_train.std() - 1) < 0.01


def test_auto_is_digits_where_fashion_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path)
    assert load("auto").name == "digits"
    assert "dataset-fashion-mnist" in _todo("fashion-mnist")


def _todo(source):
    with pytest.raises(UserError) as caught:
        load(source)
    return caught.value.todo


@needs_fashion
def test_auto_is_small_fashion_where_it_is_installed():
    assert load("auto").name == "fashion-mnist-14"


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip at all",
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 60_000, 28, 28) + bytes(99), mtime=0),
        gzip.compress(
            b"\0\0\x0d\x03" + struct.pack(">III", 60_000, 28, 28) + bytes(47_040_000), mtime=0
        ),
        gzip.compress(bytes(60_000_000), mtime=0),
        gzip.compress(bytes(1000), mtime=0)[:-5],
    ],
    ids=["not gzip", "short", "floats", "too long", "torn"],
)
def test_a_damaged_idx_file_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    refused("fashion-mnist", "train-images-idx3-ubyte.gz: (unreadable|not an IDX)")


def test_an_npz_of_ones_own_is_loaded(saved, good):
    data = load(saved())
    assert (data.name, data.classes, data.input_shape) == ("mine.npz", 4, (3, 12, 10))
    expected = (good["x_train"][5, 2, 3, 1] / 255 - 0.5) / 0.25
    assert data.x_train[5, 1, 2, 3] == pytest.approx(expected, abs=1e-6)
    assert data.y_train.dtype == np.int64


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((40, 9, 9), (1, 9, 9)), ((40, 1, 9, 8), (1, 9, 8)), ((40, 9, 8, 1), (1, 9, 8))],
)
def test_the_usual_layouts_of_images_are_understood(saved, shape, expected):
    x_train = np.zeros(shape, dtype=np.float32)
    data = load(saved(x_train=x_train, x_test=x_train[:12]))
    assert data.input_shape == expected


def test_floats_between_zero_and_one_read_like_bytes(saved, good):
    floats = {k: (good[k] / 255).astype(np.float64) for k in ("x_train", "x_test")}
    assert np.allclose(load(saved(**floats)).x_train, load(saved()).x_train, atol=1e-5)


def test_column_major_arrays_are_read_right(saved, good):
    plain = load(saved())
    assert np.array_equal(
        load(saved(x_train=np.asfortranarray(good["x_train"]))).x_train, plain.x_train
    )


def test_the_digest_tells_one_changed_pixel(saved, good):
    before = load(saved()).digest
    good["x_train"][0, 0, 0, 0] ^= 1
    assert load(saved()).digest != before


def test_a_missing_file_names_what_there_is(tmp_path):
    refused(str(tmp_path / "nowhere.npz"), "nowhere.npz: no such file")
    assert "fashion-mnist-14" in _todo("fahsion")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None}, "has no y_test .found: x_train, y_train, x_test"),
        ({"x_train": np.zeros((40, 100), np.uint8)}, "is not images"),
        ({"x_train": np.zeros((40, 12, 10, 2), np.uint8)}, "is not images"),
        ({"x_train": np.zeros((40, 4, 4), np.uint8)}, "is not images"),
        ({"x_train": np.zeros((40, 200, 200), np.uint8)}, "is not images"),
        ({"x_train": np.zeros((40, 9, 9), np.uint8)}, "x_test"),
        ({"x_train": np.zeros((39, 12, 10, 3), np.uint8)}, "39 images for 40 labels"),
        ({"x_train": np.full((40, 12, 10, 3), np.nan)}, "NaN"),
        ({"x_test": np.full((12, 12, 10, 3), np.inf, np.float32)}, "NaN or infinity"),
        ({"x_train": np.full((40, 12, 10, 3), 1.5)}, "ranges over"),
        ({"x_train": np.full((40, 12, 10, 3), -0.5)}, "ranges over"),
        ({"x_train": np.zeros((40, 12, 10, 3), np.int32)}, "expected uint8 or floats"),
        ({"x_train": np.zeros((40, 12, 10, 3), np.complex64)}, "expected numbers"),
        ({"x_train": np.full((40, 12, 10, 3), "a")}, "expected numbers"),
        ({"y_train": np.zeros(40)}, "expected a list of integers"),
        ({"y_train": np.zeros((40, 1), int)}, "expected a list of integers"),
        ({"y_train": np.arange(40) % 4 - 1}, "ranges over -1"),
        ({"y_train": np.full(40, 10**6)}, "ranges over"),
        ({"y_train": np.array([0, 1, 3, 3] * 10)}, "no example of class 2"),
        ({"y_test": np.full(12, 4)}, "class 4, which y_train lacks"),
        ({"y_train": np.zeros(40, int)}, "too few"),
        ({"y_train": np.array([0] * 20 + [1] * 19 + [2])}, "class 2 has one training example"),
        (
            {"x_test": np.zeros((0, 12, 10, 3), np.uint8), "y_test": np.zeros(0, int)},
            "too few",
        ),
    ],
)
def test_wrong_arrays_are_one_clear_line(saved, changes, words):
    if "y_train" in changes and "y_test" not in changes and changes["y_train"] is not None:
        changes = {"y_test": np.zeros(12, int)} | changes
    what = refused(saved(**changes), words)
    assert what.startswith("/")


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_object_arrays_are_never_unpickled(saved, tmp_path):
    objects = np.empty(40, dtype=object)
    objects[:] = Boom()
    path = tmp_path / "evil.npz"
    with zipfile.ZipFile(path, "w") as archive:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": "|O", "fortran_order": False, "shape": (40,)}
        )
        archive.writestr("x_train.npy", buffer.getvalue() + pickle.dumps(objects))
    refused(str(path), "expected numbers")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Boom()))
    refused(str(tmp_path / "pickle.npz"), "not a readable .npz")


def member(shape, descr="|u1", body=b""):
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + body


def test_a_later_version_of_the_format_is_read(saved, good, tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, good["x_train"], version=(2, 0))
    path = tmp_path / "two.npz"
    with zipfile.ZipFile(saved(x_train=None)) as old, zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", buffer.getvalue())
        for name in old.namelist():
            archive.writestr(name, old.read(name))
    assert load(str(path)).digest == load(saved()).digest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (member((1 << 20, 1 << 20)), "claims"),
        (member((1 << 62, 1 << 62)), "claims"),
        (member((3 << 30,), body=bytes(64)), "claims"),
        (member((40, 12, 10, 3), body=bytes(100)), "claims"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b" " * 60_000, "readable"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "readable"),
        (b"", "readable"),
        (b"hello", "readable"),
    ],
    ids=["terabytes", "overflow", "3 GiB", "short", "header", "version", "empty", "text"],
)
def test_a_bomb_or_a_lie_is_refused_before_memory_is_taken(tmp_path, content, words):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", content)
    refused(str(path), words)


def test_an_array_above_the_bound_is_refused_unread(saved, monkeypatch):
    monkeypatch.setattr(array_files, "_MAX_BYTES", 1000)
    refused(saved(), "x_train claims 14400 bytes")


def test_a_member_whose_bytes_are_damaged_is_refused(saved):
    path = saved()
    with open(path, "r+b") as file:  # noqa: PTH123 - a few bytes in place
        file.seek(200)
        file.write(b"\0" * 32)
    refused(path, "not a readable .npz")
