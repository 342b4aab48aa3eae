"""What every search space promises. A space's test inherits ``SpaceConformance``.

Architectures are the smallest, the largest and a seeded draw; nothing here enumerates a space, so
the suite holds for spaces of any size.
"""

from __future__ import annotations

import itertools
import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from secure_pfnas.learning.clipped_sums import ClippedSums
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.slots import ALIGNMENT, SlotLayout
from secure_pfnas.nas.space import Architecture, SearchSpace
from secure_pfnas.nas.subnet import extract, flatten, gather, load, scatter
from secure_pfnas.nas.supernet import forward, initial_vector, pack, unpack
from secure_pfnas.secagg.messages import SLOTS_MAX


def images(space: SearchSpace, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, *space.input_shape, generator=generator)


class LiveActivations(TorchDispatchMode):
    """Measures the most bytes of activations alive during one operation of ``module``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.weights = {value.untyped_storage().data_ptr() for value in module.parameters()}
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [result] if isinstance(result, Tensor) else [r for r in result if r is not None]
        given = [arg for arg in args if isinstance(arg, Tensor)]
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in (*self.alive, *outputs, *given)
        }
        live = sum(size for place, size in storages.items() if place not in self.weights)
        self.peak_bytes = max(self.peak_bytes, live)
        for tensor in outputs:
            self.alive.add(tensor)
        return result


class SpaceConformance:
    """Inherit, and give a fixture ``space``; large spaces draw fewer architectures.

    The smallest architecture must have every kind of layer, as the nested ones do.
    """

    drawn = 8
    graded = 4
    """Architectures whose per-example gradients are checked; the smallest comes first."""

    @pytest.fixture(scope="class")
    @classmethod
    def space(cls) -> SearchSpace:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def layout(cls, space: SearchSpace) -> SlotLayout:
        return SlotLayout.derive(space, space.head)

    @pytest.fixture(scope="class")
    @classmethod
    def initial(cls, space: SearchSpace, layout: SlotLayout) -> np.ndarray:
        return initial_vector(layout, space, torch.Generator().manual_seed(3))

    @pytest.fixture(scope="class")
    @classmethod
    def vector(cls, space: SearchSpace, layout: SlotLayout, initial: np.ndarray) -> np.ndarray:
        """As if trained: what starts as zero or one would hide half of the mistakes."""
        rng = np.random.default_rng(11)
        moved = {
            name: values + rng.normal(0, 0.05, values.shape).astype(np.float32)
            for name, values in unpack(layout, initial).items()
        }
        return pack(layout, moved)

    @pytest.fixture(scope="class")
    @classmethod
    def largest(cls, space: SearchSpace) -> Architecture:
        return tuple(len(decision.options) - 1 for decision in space.decisions)

    @pytest.fixture(scope="class")
    @classmethod
    def archs(cls, space: SearchSpace, largest: Architecture) -> list[Architecture]:
        rng = np.random.default_rng(7)
        drawn = [
            tuple(int(rng.integers(len(decision.options))) for decision in space.decisions)
            for _ in range(cls.drawn)
        ]
        return [(0,) * len(space.decisions), largest, *drawn]

    # --- the space ---------------------------------------------------------------------------

    def test_spaces_of_equal_arguments_are_equal_values(self, space):
        twin = type(space)(space.input_shape, space.classes)
        assert twin == space
        assert hash(twin) == hash(space)
        assert twin != type(space)(space.input_shape, space.classes + 1)

    def test_every_architecture_has_one_code(self, space, archs):
        assert space.encode(archs[0]) == 0
        assert space.encode(archs[1]) == space.size - 1
        assert all(space.decode(space.encode(arch)) == arch for arch in archs)

    def test_what_is_no_architecture_is_refused(self, space, archs):
        arch = archs[0]
        for wrong in (arch[:-1], (*arch, 0), (-1, *arch[1:]), (99, *arch[1:]), list(arch), None):
            assert not space.contains(wrong)
        assert not space.contains((False, *arch[1:]))
        with pytest.raises(ValueError, match="no architecture"):
            space.build((99, *arch[1:]))
        for code in (-1, space.size):
            with pytest.raises(ValueError, match="no code"):
                space.decode(code)

    def test_no_decision_is_without_effect(self, space, layout, vector, largest):
        x = images(space, 2)
        for index, decision in enumerate(space.decisions):
            if len(decision.options) == 1:  # the paper's tables have stages with nothing to choose
                continue
            other = (*largest[:index], 0, *largest[index + 1 :])
            assert cost(space, other) != cost(space, largest), decision
            if layout.used(other) == layout.used(largest):
                ours, theirs = (extract(layout, vector, arch)(x) for arch in (other, largest))
                assert not torch.allclose(ours, theirs, atol=1e-4), decision

    # --- slots -------------------------------------------------------------------------------

    def test_every_element_lies_in_exactly_one_slot(self, space, layout):
        filled = [np.zeros(slot.size, dtype=np.int8) for slot in layout.slots]
        covered = {name: np.zeros(shape, np.int8) for name, shape in space.shapes().items()}
        for region in layout.regions:
            covered[region.parameter][tuple(slice(*side) for side in region.box)] += 1
            stop = region.start + math.prod(region.shape)
            filled[region.slot][region.start : stop] += 1
        assert all((elements == 1).all() for elements in covered.values())
        assert all((run == 1).all() for run in filled)

    def test_a_round_can_carry_every_slot(self, layout):
        assert len(layout.slots) <= SLOTS_MAX

    def test_slots_are_aligned_disjoint_and_padded_with_zeros(self, layout, vector):
        assert all(slot.offset % ALIGNMENT == 0 for slot in layout.slots)
        padding = np.ones(layout.length, dtype=bool)
        for slot in layout.slots:
            run = slice(slot.offset, slot.offset + slot.size)
            assert padding[run].all()
            padding[run] = False
        assert not vector[padding].any()
        assert [slot.id for slot in layout.slots] == list(range(len(layout.slots)))

    def test_a_slot_is_used_whole_or_not_at_all(self, space, layout, archs):
        members = layout.membership(archs)
        for arch, contained in zip(archs, members, strict=True):
            tensors = {}
            for name, tensor in space.tensors.items():
                tensors[name] = np.zeros(tensor.shape, dtype=np.float32)
                if tensor.present(arch):
                    tensors[name][tuple(slice(*side) for side in tensor.cut(arch))] = 1
            used = pack(layout, tensors)
            for slot in layout.slots:
                assert (used[slot.offset :][: slot.size] == contained[slot.id]).all()
            assert layout.used(arch) == tuple(np.flatnonzero(contained))

    def test_no_two_slots_have_the_same_members(self, layout):
        keys = {
            (slot.personal, layout.members[slot.id].over, layout.members[slot.id].table)
            for slot in layout.slots
        }
        assert len(keys) == len(layout.slots)
        assert all(1 in member.table for member in layout.members)

    def test_personal_parameters_keep_to_themselves(self, space, layout, largest):
        for region in layout.regions:
            assert layout.slots[region.slot].personal == (region.parameter in space.head)
        assert {slot for slot in layout.used(largest) if layout.slots[slot].personal} == (
            set(layout.used(largest)) - set(layout.shared(largest))
        )
        assert not any(slot.personal for slot in SlotLayout.derive(space).slots)

    def test_the_digest_names_the_layout(self, space, layout):
        assert SlotLayout.derive(space, space.head) == layout
        assert SlotLayout.derive(space).digest != layout.digest
        other = type(space)(space.input_shape, space.classes + 1)
        assert SlotLayout.derive(other, other.head).digest != layout.digest

    # --- subnets -----------------------------------------------------------------------------

    def test_a_subnet_has_the_parameters_of_its_slots_and_no_buffers(self, space, layout, archs):
        for arch in archs:
            module = space.build(arch)
            shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
            cuts = {
                name: tuple(stop - start for start, stop in tensor.cut(arch))
                for name, tensor in space.tensors.items()
                if tensor.present(arch)
            }
            assert shapes == cuts
            assert not list(module.buffers())
            count = sum(value.numel() for value in module.parameters())
            assert count == layout.size(layout.used(arch)) == cost(space, arch).parameters

    def test_an_untrained_subnet_returns_the_supernet_bit_for_bit(self, layout, vector, archs):
        for arch in archs:
            into = vector.copy()
            packed = flatten(layout, extract(layout, vector, arch), arch)
            assert packed.tobytes() == gather(layout, vector, layout.used(arch)).tobytes()
            scatter(layout, packed, layout.used(arch), into)
            assert into.tobytes() == vector.tobytes()

    def test_training_a_subnet_touches_nothing_but_its_own_copy(self, layout, vector, archs):
        before = vector.copy()
        for arch in archs:
            module = extract(layout, vector, arch)
            packed = flatten(layout, module, arch)
            kept = packed.copy()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(1)
            assert vector.tobytes() == before.tobytes()
            assert packed.tobytes() == kept.tobytes()
            load(layout, module, arch, packed)
            packed += 1
            assert flatten(layout, module, arch).tobytes() == kept.tobytes()

    def test_a_slot_that_nobody_covers_stays_bitwise_equal(self, layout, vector, archs):
        for arch in archs:
            into = vector.copy()
            used = layout.used(arch)
            scatter(layout, gather(layout, vector, used) + np.float32(1), used, into)
            changed = np.zeros(layout.length, dtype=bool)
            for slot in used:
                changed[layout.slots[slot].offset :][: layout.slots[slot].size] = True
            assert into[~changed].tobytes() == vector[~changed].tobytes()
            assert (into[changed] != vector[changed]).all()

    def test_a_subnet_computes_what_the_supernet_computes(self, space, layout, vector, archs):
        x = images(space, 3)
        for arch in archs:
            logits = extract(layout, vector, arch)(x)
            assert logits.shape == (3, space.classes)
            torch.testing.assert_close(
                logits, forward(layout, space, vector, arch, x), atol=1e-5, rtol=0
            )

    def test_whole_tensors_and_the_flat_vector_are_inverse(self, layout, vector):
        assert pack(layout, unpack(layout, vector)).tobytes() == vector.tobytes()

    # --- beginnings --------------------------------------------------------------------------

    def test_initial_values_come_from_the_given_generator_alone(self, space, layout, initial):
        before = torch.get_rng_state()
        again = initial_vector(layout, space, torch.Generator().manual_seed(3))
        other = initial_vector(layout, space, torch.Generator().manual_seed(4))
        extract(layout, initial, space.decode(0))
        assert again.tobytes() == initial.tobytes() != other.tobytes()
        assert torch.equal(before, torch.get_rng_state())
        assert np.isfinite(initial).all()

    def test_initial_values_have_the_declared_spread(self, space, layout, initial):
        for name, values in unpack(layout, initial).items():
            tensor = space.tensors[name]
            if tensor.deviation == 0:
                assert (values == tensor.mean).all()
            elif values.size >= 500:
                assert abs(values.mean() - tensor.mean) < 0.2 * tensor.deviation, name
                assert values.std() == pytest.approx(tensor.deviation, rel=0.15), name

    # --- differential privacy ----------------------------------------------------------------

    @pytest.mark.parametrize("examples", [3, 1, 0])
    @pytest.mark.parametrize("share", [0.5, 1e6])
    def test_clipped_sums_are_those_of_one_backward_pass_an_example(
        self, space, layout, vector, archs, examples, share
    ):
        """Clipped to half of the mean norm, and not at all."""
        x = images(space, 3)[:examples]
        labels = (torch.arange(3) % space.classes)[:examples]
        for arch in archs[: self.graded]:
            module = extract(layout, vector, arch)
            naive = [self.gradient(module, x[[i]], labels[[i]]) for i in range(examples)]
            norms = [
                torch.cat([g.flatten() for g in one.values()]).double().norm() for one in naive
            ]
            clip = share * float(sum(norms)) / examples if examples else share
            sums = ClippedSums(extract(layout, vector, arch), clip)(x, labels)
            factors = [min(1.0, clip / (float(norm) + 1e-6)) for norm in norms]
            for (name, parameter), total in zip(module.named_parameters(), sums, strict=True):
                parts = [f * one[name] for f, one in zip(factors, naive, strict=True)]
                expected = sum(parts, torch.zeros_like(parameter))
                torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-4, msg=name)

    @staticmethod
    def gradient(module: nn.Module, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        module.zero_grad()
        F.cross_entropy(module(x), labels, reduction="sum").backward()
        return {name: value.grad.clone() for name, value in module.named_parameters()}

    # --- costs -------------------------------------------------------------------------------

    def test_multiply_accumulates_agree_with_a_counted_forward_pass(
        self, space, layout, vector, archs
    ):
        for arch in archs:
            counter = FlopCounterMode(display=False)
            with torch.no_grad(), counter:
                extract(layout, vector, arch)(images(space, 1))
            assert cost(space, arch).macs == pytest.approx(counter.get_total_flops() / 2, rel=0.02)

    def test_peak_activations_agree_with_a_measured_forward_pass(
        self, space, layout, vector, archs
    ):
        for arch in archs:
            module, x = extract(layout, vector, arch), images(space, 1)
            live = LiveActivations(module)
            with torch.no_grad(), live:
                module(x)
            assert cost(space, arch).peak_activation_bytes == pytest.approx(
                live.peak_bytes, rel=0.05
            )

    def test_a_larger_choice_never_costs_less(self, space, archs):
        for arch, index in itertools.product(archs, range(len(space.decisions))):
            if arch[index] + 1 < len(space.decisions[index].options):
                larger = (*arch[:index], arch[index] + 1, *arch[index + 1 :])
                more, less = cost(space, larger), cost(space, arch)
                assert more.parameters >= less.parameters
                assert more.macs >= less.macs
                assert more.peak_activation_bytes >= less.peak_activation_bytes
