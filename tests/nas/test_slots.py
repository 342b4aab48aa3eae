"""Slot layouts: what they refuse, and that they scale."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space


def test_an_unknown_personal_parameter_is_refused(space):
    with pytest.raises(ValueError, match="has no parameters"):
        SlotLayout.derive(space, frozenset({"haed.weight"}))


def test_membership_refuses_what_is_no_architecture(layout):
    with pytest.raises(ValueError, match="no architecture"):
        layout.membership([(0,) * 13, (9,) * 13])


def test_membership_of_nobody_is_empty(layout):
    assert layout.membership([]).shape == (0, len(layout.slots))


def test_personal_slots_are_split_off_without_changing_the_rest(space, layout):
    plain = SlotLayout.derive(space)
    arch = space.decode(space.size - 1)
    assert plain.size(plain.used(arch)) == layout.size(layout.used(arch))
    assert plain.shared(arch) == plain.used(arch)
    assert set(layout.used(arch)) - set(layout.shared(arch)) == {
        slot.id for slot in layout.slots if slot.personal
    }


def test_normalisation_can_be_personal_too(space):
    norms = frozenset(name for name in space.tensors if "norm" in name)
    layout = SlotLayout.derive(space, norms | space.head)
    personal = {region.parameter for region in layout.regions if layout.slots[region.slot].personal}
    assert personal == norms | space.head


def test_a_layout_is_comparable_and_hashable(space, layout):
    twin = SlotLayout.derive(make_space("compact_cnn", (1, 8, 8), 10), space.head)
    assert len({twin, layout}) == 1
    assert layout != SlotLayout.derive(space)
    assert layout != "layout"


def test_the_smallest_net_is_in_every_net(layout, every_arch):
    members = layout.membership([tuple(row) for row in every_arch.tolist()])
    smallest = members[0]
    assert (members[:, smallest]).all()
    assert np.array_equal(np.flatnonzero(smallest), layout.used((0,) * 13))
