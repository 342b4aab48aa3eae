"""Devices see differently, each in its own way, and always in the same."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.config import settings_from
from secure_pfnas.learning.devices import device_classes
from secure_pfnas.learning.shift import Shift, shifts


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(5, 3, 14, 12)).astype(np.float32)


def of(**sections):
    return shifts(settings_from({name: dict(table) for name, table in sections.items()}))


def sharpness(images):
    return float(np.abs(np.diff(images, axis=2)).mean())


@pytest.mark.parametrize(
    "shift",
    [Shift("none", 2.0), Shift("resolution", 1.0), Shift("blur", 0.0), Shift("rotation", 0.0)],
)
def test_a_shift_by_nothing_returns_the_same_array(images, shift):
    assert shift(images) is images


def test_half_the_resolution_is_the_means_of_blocks(images):
    coarse = Shift("resolution", 2.0)(images)
    assert coarse.shape == images.shape
    assert coarse.dtype == np.float32
    means = images.reshape(5, 3, 7, 2, 6, 2).mean(axis=(3, 5))
    assert coarse == pytest.approx(np.repeat(np.repeat(means, 2, 2), 2, 3), abs=1e-6)


@pytest.mark.parametrize("factor", [1.3, 3.0, 100.0])
def test_any_factor_keeps_the_shape_and_the_mean_of_the_whole(images, factor):
    coarse = Shift("resolution", factor)(images)
    assert coarse.shape == images.shape
    assert coarse.mean() == pytest.approx(images.mean(), abs=0.05)
    assert len(np.unique(coarse[0, 0])) <= round(14 / factor + 1) * round(12 / factor + 1)


def test_blur_softens_more_the_wider_and_leaves_flat_images_flat(images):
    soft = [sharpness(Shift("blur", sigma)(images)) for sigma in (0.5, 1.0, 2.0)]
    assert sharpness(images) > soft[0] > soft[1] > soft[2]
    flat = np.full_like(images, 0.7)
    assert Shift("blur", 1.5)(flat) == pytest.approx(flat, abs=1e-6)


def test_four_quarter_turns_of_a_square_are_none(images):
    square = images[:, :, :12, :12]
    turned = Shift("rotation", 90.0)(square)
    assert turned == pytest.approx(
        np.rot90(square, axes=(2, 3)), abs=1e-4
    ) or turned == pytest.approx(np.rot90(square, -1, axes=(2, 3)), abs=1e-4)
    assert Shift("rotation", 180.0)(square) == pytest.approx(square[:, :, ::-1, ::-1], abs=1e-4)


def test_clients_are_spread_evenly_from_none_to_most():
    amounts = sorted(s.amount for s in of(data={"shift": "blur", "shift_most": 3.0}).values())
    assert amounts == pytest.approx(np.linspace(0, 3, 20).tolist())
    turned = [s.amount for s in of(data={"shift": "rotation", "shift_most": 30}).values()]
    assert (min(turned), max(turned)) == (-30, 30)
    factors = [s.amount for s in of(data={"shift": "resolution", "shift_most": 4}).values()]
    assert (min(factors), max(factors)) == (1, 4)


def test_a_class_of_devices_sees_alike():
    sections = {
        "data": {"shift": "resolution", "shift_by": "device-class", "shift_most": 3.0},
        "devices": {"micro": {"share": 0.5}, "gateway": {"share": 0.2}},
    }
    classes = device_classes(settings_from(sections))
    expected = {"micro": 3.0, "edge": 2.0, "gateway": 1.0}
    assert all(s.amount == expected[classes[name]] for name, s in of(**sections).items())


def test_the_seed_decides_who_sees_how():
    one, again, other = (
        of(data={"shift": "blur"}, federation={"seed": seed}) for seed in (1, 1, 2)
    )
    assert one == again != other
    assert str(one["dev-000"]).startswith("blur ")
    assert {str(s) for s in of().values()} == {"none"}
