"""Anybody's data becomes one form, or one clear line; nothing in it is ever run or trusted."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import pickletools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime import image_folder, safe_pickle
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.importing import import_data
from secure_pfnas.runtime.safe_pickle import RefusedPickleError, bytes_array, read_pickle

RNG = np.random.default_rng(0)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def bring(tmp_path, source):
    """Import the source, and return what was said and what the file loads back to."""

    def bringing(path=source, **options):
        imported = import_data(path, tmp_path / "out" / "mine.npz", **options)
        loaded = load(str(imported.path))
        assert loaded.digest == imported.dataset.digest
        return imported.kind, loaded

    return bringing


def refused(tmp_path, path, words, code=ExitCode.DATA, **options):
    out = tmp_path / "out" / "mine.npz"
    with pytest.raises(UserError, match=words) as caught:
        import_data(path, out, **options)
    assert caught.value.code is code
    assert "\n" not in caught.value.what
    assert not out.exists()


# npz ------------------------------------------------------------------------------------------


def arrays(count=40, test=20, side=8):
    return {
        "x_train": RNG.integers(0, 256, (count, side, side), dtype=np.uint8),
        "y_train": np.arange(count, dtype=np.uint8) % 4,
        "x_test": RNG.integers(0, 256, (test, side, side), dtype=np.uint8),
        "y_test": np.arange(test) % 4,
    }


def test_an_npz_keeps_its_images_labels_and_groups(tmp_path, bring):
    given = arrays() | {"group_train": np.arange(40) // 4, "group_test": np.arange(20) // 2}
    np.savez(tmp_path / "theirs.npz", **given)
    kind, data = bring(tmp_path / "theirs.npz")
    assert (kind, data.input_shape, data.classes) == ("npz", (1, 8, 8), 4)
    assert [groups.tolist() for groups in data.groups] == [
        given["group_train"].tolist(),
        given["group_test"].tolist(),
    ]


def test_what_is_there_is_not_overwritten(tmp_path):
    np.savez(tmp_path / "theirs.npz", **arrays())
    (tmp_path / "mine.npz").write_text("precious")
    for name, words in (("mine.npz", "is there already"), ("mine.txt", "no name of an .npz")):
        with pytest.raises(UserError, match=words):
            import_data(tmp_path / "theirs.npz", tmp_path / name)
    assert (tmp_path / "mine.npz").read_text() == "precious"


def test_what_is_no_data_is_refused(tmp_path, source):
    refused(tmp_path, tmp_path / "nowhere", "no such file or folder")
    refused(tmp_path, source, "no data of a known kind")
    (source / "notes.txt").write_text("hello")
    refused(tmp_path, source, "no data of a known kind")
    refused(tmp_path, source / "notes.txt", "not a readable .npz")


# IDX ------------------------------------------------------------------------------------------


def idx(array, kind=8, sides=None):
    sides = array.shape if sides is None else sides
    return (
        bytes([0, 0, kind, len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + array.tobytes()
    )


def write_idx(folder, data, suffix="", packed=lambda b: b):
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for name, array in zip(names, data.values(), strict=True):
        (folder / f"{name}-ubyte{suffix}").write_bytes(packed(idx(array.astype(np.uint8))))


@pytest.mark.parametrize(("suffix", "packed"), [("", lambda b: b), (".gz", gzip.compress)])
def test_idx_files_gzipped_or_not(source, bring, suffix, packed):
    given = arrays()
    write_idx(source, given, suffix, packed)
    kind, data = bring()
    assert kind == "IDX"
    assert data.x_train[3, 0, 2, 1] == pytest.approx((given["x_train"][3, 2, 1] / 255 - 0.5) / 0.25)
    assert data.y_test.tolist() == given["y_test"].tolist()


LABELS = np.zeros(4, np.uint8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no IDX"),
        (b"hello, world", "no IDX"),
        (idx(LABELS, kind=13), "no IDX file of unsigned bytes"),
        (idx(LABELS, sides=(2**32 - 1,)), "claims 4294967295 bytes"),
        (idx(LABELS, sides=(2**31, 2**31, 2**31)), "claims"),
        (idx(LABELS)[:-1], "does not hold the 4 bytes"),
        (idx(LABELS) + b"x", "does not hold the 4 bytes"),
        (bytes([0, 0, 8, 3, 0, 0]), "claims"),
        (gzip.compress(idx(LABELS, sides=(2**30,)), mtime=0), "claims"),
        (gzip.compress(idx(LABELS), mtime=0)[:-9], "unreadable"),
        (b"\x1f\x8bnonsense", "unreadable"),
    ],
)
def test_an_idx_file_that_lies_is_refused_before_memory_is_taken(tmp_path, source, content, words):
    write_idx(source, arrays())
    (source / "train-images-idx3-ubyte").write_bytes(content)
    refused(tmp_path, source, words)


def test_an_idx_folder_without_its_labels_is_refused(tmp_path, source):
    write_idx(source, arrays())
    (source / "t10k-labels-idx1-ubyte").unlink()
    refused(tmp_path, source, "no t10k-labels file")


# Folders of images ----------------------------------------------------------------------------


def paint(path, side=12, colour=True, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (side, side, 3) if colour else (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def gallery(folder, per_class=10, suffix="png", **options):
    return {
        (name, i): paint(folder / name / f"{i:03d}.{suffix}", **options)
        for name in ("ant", "bee")
        for i in range(per_class)
    }


def test_a_folder_a_class_with_every_fifth_held_out(source, bring):
    painted = gallery(source)
    kind, data = bring()
    assert "every 5th held out" in kind
    assert (data.input_shape, len(data.y_train), len(data.y_test)) == ((3, 12, 12), 16, 4)
    expected = (painted["bee", 9] / 255 - 0.5) / 0.25
    assert data.x_test[3].transpose(1, 2, 0) == pytest.approx(expected, abs=1e-6)
    assert data.y_test.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_test_folder_is_used_where_there_is_one(source, bring, name):
    gallery(source / "train")
    gallery(source / name, per_class=3)
    kind, data = bring()
    assert f"tested on {name}/" in kind
    assert (len(data.y_train), len(data.y_test)) == (20, 6)


def test_grey_images_have_one_channel_and_jpegs_are_read(source, bring):
    gallery(source, colour=False, suffix="jpg")
    assert bring()[1].input_shape == (1, 12, 12)


def test_images_of_several_sizes_are_resized_or_refused(tmp_path, source, bring):
    gallery(source)
    paint(source / "bee" / "large.png", side=40)
    refused(tmp_path, source, "large.png: is 40×40 pixels, 000.png is 12×12")
    assert bring(side=16)[1].input_shape == (3, 16, 16)


def test_a_side_that_no_space_reads_is_refused(tmp_path, source):
    gallery(source, side=100)
    refused(tmp_path, source, "is not images of 1 or 3 channels and 8 to 64")


def bomb(side):
    """A PNG of so many pixels a side in a few bytes: its header says so, its data never come."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("side", "words"), [(6000, "has 6000×6000 pixels"), (60_000, "is no read")]
)
def test_a_decompression_bomb_is_never_decoded(tmp_path, source, monkeypatch, side, words):
    gallery(source)
    (source / "bee" / "bomb.png").write_bytes(bomb(side))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    refused(tmp_path, source, f"bomb.png: {words}", side=32)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.png", b"not an image", "text.png: is no readable image"),
        ("empty.jpg", b"", "empty.jpg: is no readable image"),
        ("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "script.png"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path, source, name, content, words):
    gallery(source)
    (source / "ant" / name).write_bytes(content)
    refused(tmp_path, source, words)


def test_a_torn_image_is_named(tmp_path, source):
    gallery(source)
    torn = source / "ant" / "000.png"
    torn.write_bytes(torn.read_bytes()[:-200])
    refused(tmp_path, source, "000.png: cannot be decoded")


def test_more_images_or_bytes_than_bearable_are_refused_unread(tmp_path, source, monkeypatch):
    gallery(source)
    monkeypatch.setattr(image_folder, "_MAX_BYTES", 1000)
    refused(tmp_path, source, "would unpack to 8640 bytes")
    monkeypatch.setattr(image_folder, "_MAX_FILES", 3)
    refused(tmp_path, source, "holds 20 images")
    monkeypatch.setattr(image_folder, "_MAX_FILE_BYTES", 10)
    monkeypatch.setattr(image_folder, "_MAX_FILES", 300)
    refused(tmp_path, source, "is larger than 10 bytes")


def test_a_class_that_is_only_tested_is_refused(tmp_path, source):
    gallery(source / "train")
    gallery(source / "test", per_class=2)
    paint(source / "test" / "wasp" / "0.png")
    refused(tmp_path, source, "wasp: is a class without training images")


# CIFAR ----------------------------------------------------------------------------------------


def batch(count=20, classes=10):
    pixels = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
    return pixels, np.arange(count) % classes


def as_image(row):
    return row.reshape(3, 32, 32)


def stored(value):
    return (value / 255 - 0.5) / 0.25


def test_cifar_10_binary(source, bring):
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    batches = {name: batch() for name in names}
    for name, (pixels, labels) in batches.items():
        records = np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1)
        (source / name).write_bytes(records.tobytes())
    kind, data = bring()
    assert (kind, data.classes, len(data.y_train)) == ("CIFAR-10, binary", 10, 100)
    expected = stored(as_image(batches["data_batch_2.bin"][0][7]))
    assert data.x_train[27] == pytest.approx(expected, abs=1e-6)


def test_cifar_100_binary_takes_the_fine_labels(source, bring):
    for name in ("train.bin", "test.bin"):
        pixels, fine = batch(classes=5)
        coarse = np.full((20, 1), 9, np.uint8)
        records = np.concatenate([coarse, fine[:, None].astype(np.uint8), pixels], axis=1)
        (source / name).write_bytes(records.tobytes())
    kind, data = bring()
    assert (kind, data.classes) == ("CIFAR-100, binary", 5)


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(3074)])
def test_a_binary_batch_of_a_wrong_length_is_refused(tmp_path, source, content):
    (source / "data_batch_1.bin").write_bytes(content)
    refused(tmp_path, source, "data_batch_1.bin: holds .* no multiple of 3073")


def python_2(pixels, labels, key=b"labels"):
    """Write a batch as the authors' Python 2 did: protocol 2, byte strings, numpy's old names."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    rows = pixels.shape[0]
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02K\x00\x85" + text(b"b")
        + b"tRq\x03(K\x01" + b"J" + struct.pack("<i", rows) + b"M\x00\x0c\x86"
        + b"cnumpy\ndtype\nq\x04(" + text(b"u1") + b"K\x00K\x01tRq\x05(K\x03" + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + b"\x89"
        + b"T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    )  # fmt: skip
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return (
        b"\x80\x02}q\x00(" + text(b"data") + array + text(key) + b"](" + numbers + b"e"
        + text(b"batch_label") + text(b"one of five") + b"u."
    )  # fmt: skip


def test_the_writer_of_these_tests_writes_real_pickles():
    pixels, labels = batch(3)
    loaded = pickle.loads(python_2(pixels, labels), encoding="bytes")
    assert np.array_equal(loaded[b"data"], pixels)
    assert loaded[b"labels"] == labels.tolist()


def python_3(pixels, labels, protocol, key=b"labels"):
    return pickle.dumps(
        {b"data": pixels, key: labels.tolist(), b"filenames": [b"a.png"] * 3}, protocol
    )


WRITERS = [
    python_2,
    *(lambda p, y, key=b"labels", n=n: python_3(p, y, n, key) for n in (0, 2, 3, 4)),
]


@pytest.mark.parametrize("write", WRITERS)
def test_cifar_10_pickles_are_read_without_unpickling(source, bring, write, monkeypatch):
    batches = [batch() for _ in range(6)]
    for name, (pixels, labels) in zip(
        [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], batches, strict=True
    ):
        (source / name).write_bytes(write(pixels, labels))
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("unpickled"))
    kind, data = bring()
    assert kind == "CIFAR-10, Python pickles"
    assert data.x_test[4] == pytest.approx(stored(as_image(batches[5][0][4])), abs=1e-6)
    assert data.y_train.tolist() == np.concatenate([y for _, y in batches[:5]]).tolist()


def test_cifar_100_pickles_take_the_fine_labels(source, bring):
    for name in ("train", "test"):
        (source / name).write_bytes(python_2(*batch(classes=5), key=b"fine_labels"))
    assert bring()[0] == "CIFAR-100, Python pickles"


class Evil:
    def __init__(self, called, *arguments):
        self.reduced = (called, arguments)

    def __reduce__(self):
        return self.reduced


def innocent(**changes):
    pixels, labels = batch(4)
    return {"data": pixels, "labels": labels.tolist()} | changes


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "evil",
    [
        lambda mark: Evil(os.system, f"touch {mark}"),
        lambda mark: Evil(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: innocent(data=Evil(exec, f"open({str(mark)!r}, 'w')")),
        lambda mark: innocent(labels=[Evil(os.mkdir, str(mark))]),
        lambda mark: Evil(getattr, "", "join"),
        lambda mark: innocent(data=Evil(np.ndarray, (9,))),
        lambda mark: innocent(data=np.array([Evil(os.mkdir, str(mark))], dtype=object)),
    ],
)
def test_a_malicious_pickle_runs_nothing_and_is_refused(tmp_path, source, evil, protocol):
    mark = tmp_path / "pwned"
    (source / "data_batch_1").write_bytes(pickle.dumps(evil(mark), protocol))
    refused(tmp_path, source, "data_batch_1: .*not opened")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"hello",
        b"cos\nsystem\n.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02}q\x00.",
        b"}(U\x04datae.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"}.",
        b"B" + struct.pack("<I", 2**31) + b"x.",
        b"\x8e" + struct.pack("<Q", 2**60) + b"x.",
        b"}}R.",
        b"]b.",
        b"h\x05.",
        b"K\x01\x85\x86.",
        b"(((.",
        b"cnumpy\nndarray\n(K\x09tR.",
        b"ccopyreg\n_reconstructor\n.",
        b"\x82\x01.",
        b"Pabc\n.",
    ],
)
def test_a_damaged_or_strange_pickle_is_refused(tmp_path, source, content):
    (source / "data_batch_1").write_bytes(content)
    refused(tmp_path, source, "data_batch_1: .*not opened")


def test_a_pickle_whose_array_lies_about_its_size_is_refused(tmp_path, source):
    honest = python_2(*batch(4))
    for old, new in (
        (b"J" + struct.pack("<i", 4), b"J" + struct.pack("<i", 4_000_000)),
        (b"J" + struct.pack("<i", 4), b"J" + struct.pack("<i", -4)),
        (b"U\x02u1", b"U\x02O8"),
        (b"U\x02u1", b"U\x02f8"),
    ):
        assert honest.count(old) == 1
        (source / "data_batch_1").write_bytes(honest.replace(old, new))
        refused(tmp_path, source, "data_batch_1: .*not opened")


def test_a_pickle_of_endless_parts_is_refused(monkeypatch):
    monkeypatch.setattr(safe_pickle, "_MOST_OPCODES", 100)
    with pytest.raises(RefusedPickleError, match="too many parts"):
        read_pickle(b"]" + b"N" * 200 + b".")


@pytest.mark.parametrize("protocol", range(5))
def test_a_name_that_no_array_needs_ends_the_reading_before_anything_follows(protocol):
    with pytest.raises(RefusedPickleError, match=r"names (posix|nt)\.system"):
        read_pickle(pickle.dumps(Evil(os.system, "true"), protocol))


def test_the_malicious_pickles_of_these_tests_are_malicious(tmp_path):
    pickle.loads(pickle.dumps(innocent(labels=[Evil(os.mkdir, str(tmp_path / "pwned"))])))
    assert (tmp_path / "pwned").exists()


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_do_anything_but_give_a_value_or_a_refusal(data):
    with contextlib.suppress(RefusedPickleError):
        read_pickle(data)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_changed_byte_of_a_real_batch_gets_further_than_a_refusal(data):
    pixels, labels = np.zeros((1, 3072), np.uint8), np.zeros(1, int)
    changed = bytearray(python_2(pixels, labels))
    head = list(range(150)) + list(range(len(changed) - 60, len(changed)))
    changed[data.draw(st.sampled_from(head))] = data.draw(st.integers(0, 255))
    try:
        found = read_pickle(bytes(changed))
        if isinstance(found, dict):
            assert bytes_array(found.get("data")).nbytes <= len(changed)
    except RefusedPickleError:
        pass


def test_plain_values_of_every_protocol_read_as_pickle_would():
    value = {"a": [1, -2, 300, 70_000, 2**40, None, True, False], "b": ("x", ("y",), (), ["ü"], {})}
    for protocol in range(6):
        dumped = pickletools.optimize(pickle.dumps(value, protocol))
        if protocol == 0:
            dumped = pickle.dumps({"a": [1, None], "b": ("x", [])}, 0)
            assert read_pickle(dumped) == {"a": [1, None], "b": ("x", [])}
        else:
            assert read_pickle(dumped) == value
