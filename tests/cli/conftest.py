"""Calling the command line, and inputs small enough to run it often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from secure_pfnas.cli.main import main


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> list[str]:
        """The two lines of an error, checked to be the only ones."""
        lines = self.err.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["error", "next"], self.err
        assert self.out == ""
        return lines


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def calling(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return calling


def images(train: int = 400, test: int = 80, classes: int = 2) -> dict[str, np.ndarray]:
    """Bright halves, left or right: learnable in a moment, and nobody's data."""
    rng = np.random.default_rng(7)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % classes
        x = rng.integers(0, 90, (count, 8, 8), dtype=np.uint8)
        for label in range(classes):
            x[y == label, :, label * 8 // classes : (label + 1) * 8 // classes] += 120
        return x, y

    (x_train, y_train), (x_test, y_test) = split(train), split(test)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return images()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "halves.npz"
    np.savez(path, **images())
    return path


@pytest.fixture(scope="session")
def small(data: Path) -> list[str]:
    """``--set`` options of a federation of seven devices on that data."""
    settings = {
        "data.source": data,
        "data.alpha": 100,
        "data.train_per_client": 24,
        "data.validation_per_client": 20,
        "data.test_per_client": 10,
        "data.minimum_per_client": 8,
        "federation.clients": 7,
        "federation.cohort": 7,
        "federation.rounds": 2,
        "privacy.reward_epsilon": 50,
    }
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def space() -> list[str]:
    """``--set`` options that say what the data is, for parties that hold none or only some."""
    facts = {"channels": 1, "height": 8, "width": 8, "classes": 2}
    return [word for key, value in facts.items() for word in ("--set", f"space.{key}={value}")]
