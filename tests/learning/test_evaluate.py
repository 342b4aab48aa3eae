from __future__ import annotations

import numpy as np
import torch
from torch import nn

from secure_pfnas.learning.evaluate import correct


class Reads(nn.Module):
    """Answers with the class written into the first pixel."""

    def forward(self, x):
        return torch.nn.functional.one_hot(x[:, 0, 0, 0].long(), 5).float()


def test_the_count_is_of_right_answers_over_every_batch():
    rng = np.random.default_rng(0)
    x = np.zeros((700, 1, 8, 8), dtype=np.float32)
    x[:, 0, 0, 0] = rng.integers(0, 5, 700)
    y = rng.integers(0, 5, 700)
    counted = correct(Reads(), x, y)
    assert counted == int(np.count_nonzero(x[:, 0, 0, 0] == y))
    assert type(counted) is int


def test_one_changed_example_moves_the_count_by_at_most_one():
    x = np.zeros((30, 1, 8, 8), dtype=np.float32)
    y = np.zeros(30, dtype=np.int64)
    before = correct(Reads(), x, y)
    y[3] = 4
    assert before - correct(Reads(), x, y) == 1


def test_no_examples_are_no_right_answers():
    empty = np.zeros((0, 1, 8, 8), dtype=np.float32)
    assert correct(Reads(), empty, np.zeros(0, dtype=np.int64)) == 0
