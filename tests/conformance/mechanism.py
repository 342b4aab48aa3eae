"""What every release mechanism promises. A mechanism's test inherits ``MechanismConformance``."""

from __future__ import annotations

import math

import numpy as np

from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.charge import from_text, to_text
from secure_pfnas.privacy.mechanisms.mechanism import Mechanism
from secure_pfnas.wire.randomness import RandomBytes, SeededStream


class MechanismConformance:
    """Inherit; say how to make one, and how to release a statistic whose every element is equal."""

    def make(self) -> Mechanism:
        raise NotImplementedError

    def release(self, mechanism: Mechanism, value: int, random: RandomBytes) -> np.ndarray:
        """Return what leaves, as int64."""
        raise NotImplementedError

    def test_it_declares_an_event_the_ledger_and_the_accountant_know(self):
        event = self.make().event
        assert from_text(to_text(event)) == event
        assert 0 < epsilon([event], 1e-5) < math.inf

    def test_its_name_and_sensitivity_are_plain(self):
        mechanism = self.make()
        assert mechanism.name.isidentifier()
        assert isinstance(mechanism.sensitivity, int)
        assert mechanism.sensitivity >= 1

    def noises(self, mechanism: Mechanism, count: int, *name: int | str) -> np.ndarray:
        draws = [self.release(mechanism, 0, SeededStream(*name, i)) for i in range(count)]
        return np.concatenate(draws)

    def test_the_same_bytes_give_the_same_release_and_others_another(self):
        mechanism = self.make()
        first = self.noises(mechanism, 20, 1)
        assert np.array_equal(first, self.noises(mechanism, 20, 1))
        assert not np.array_equal(first, self.noises(mechanism, 20, 2))

    def test_a_release_is_of_integers_that_move_with_the_statistic(self):
        mechanism = self.make()
        for value in (0, 1, 10**6):
            released = self.release(mechanism, value, SeededStream(3, "x"))
            assert released.dtype == np.int64
            noise = self.release(mechanism, 0, SeededStream(3, "x"))
            assert np.array_equal(released - value, noise)

    def test_the_noise_is_centred_and_never_clamped(self):
        noise = self.noises(self.make(), 4000, 4, "mean").astype(np.float64)
        assert abs(noise.mean()) < 5 * noise.std() / math.sqrt(noise.size)
        assert noise.min() < 0 < noise.max()

    def test_a_lone_release_hides_its_unit_as_well_as_it_claims(self):
        """Tell two neighbouring worlds apart by thresholds; no better than ε and δ allow."""
        mechanism = self.make()
        noise = np.sort(self.noises(mechanism, 4000, 5, "worlds").astype(np.float64))
        eps = epsilon([mechanism.event], 1e-5)
        cuts = noise[:: noise.size // 40]
        here = 1 - np.searchsorted(noise, cuts) / noise.size
        there = 1 - np.searchsorted(noise + self.shift(mechanism), cuts) / noise.size
        slack = 4 * np.sqrt(there * (1 - there) / noise.size + here * (1 - here) / noise.size)
        assert np.all(there <= math.exp(eps) * here + 1e-5 + slack * math.exp(eps))

    def shift(self, mechanism: Mechanism) -> float:
        """By how much a neighbour moves what leaves; override where noise is shared out."""
        return float(mechanism.sensitivity)
