"""The table of rights, and the calculus of filters behind it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from secure_pfnas.runtime.broker.acl import Rights, covers, rights_of
from secure_pfnas.wire.identity import PartyRole

LEVELS = ("a", "b", "c")
TOPICS = ["/".join(levels) for size in (1, 2, 3, 4) for levels in product(LEVELS, repeat=size)]
FILTERS = st.lists(st.sampled_from(("a", "b", "+")), min_size=1, max_size=3).flatmap(
    lambda levels: st.sampled_from(("/".join(levels), "/".join([*levels, "#"])))
)


def matched(topic_filter):
    return {topic for topic in TOPICS if topic_matches_sub(topic_filter, topic)}


@given(FILTERS, FILTERS)
def test_a_filter_is_covered_exactly_if_all_it_matches_is_allowed(pattern, topic_filter):
    assert covers(pattern, topic_filter) == (matched(topic_filter) <= matched(pattern))


@given(FILTERS, st.sampled_from(TOPICS))
def test_a_topic_is_covered_exactly_if_it_matches(pattern, topic):
    assert covers(pattern, topic) == (topic in matched(pattern))


@pytest.mark.parametrize("malformed", ["a/#/b", "a+/b", "a/b#", "#a", "a/\0", "+a"])
def test_a_malformed_filter_is_never_covered(malformed):
    assert not covers("#", malformed)


DEVICE = rights_of("dev-a", PartyRole.DEVICE, "clinic")


@pytest.mark.parametrize(
    "topic_filter",
    [
        "#",
        "+",
        "",
        "fl/#",
        "$SYS/#",
        "fl/v1/other/dev/dev-a/down/+",
        "fl/v1/clinic/dev/+/down/+",
        "fl/v1/clinic/dev/dev-a/#",
        "fl/v1/clinic/dev/dev-a/down/#",
        "fl/v1/clinic/dev/dev-a/up/+",
        "fl/v1/clinic/dev/dev-b/down/chunk",
    ],
)
def test_a_device_may_not_read(topic_filter):
    assert not DEVICE.may_read(topic_filter)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "$SYS/x",
        "fl/v1/clinic/dev/+/up/ack",
        "fl/v1/clinic/dev/dev-a/down/chunk",
        "fl/v1/clinic/dev/dev-a/up/#",
        "fl/v1/clinic/dev/dev-a/up/+",
        "fl/v1/clinic/dev/dev-a/up/chunk/more",
        "fl/v1/clinic/dev/dev-a/up/other",
        "fl/v1/clinic/dev/dev-b/up/chunk",
    ],
)
def test_a_device_may_not_write(topic):
    assert not DEVICE.may_write(topic)


def test_a_device_has_its_own_topics():
    assert DEVICE.may_read("fl/v1/clinic/dev/dev-a/down/+")
    assert DEVICE.may_read("fl/v1/clinic/dev/dev-a/down/chunk")
    for leaf in ("up/chunk", "up/ack", "presence"):
        assert DEVICE.may_write(f"fl/v1/clinic/dev/dev-a/{leaf}")
    assert DEVICE.may_retain("fl/v1/clinic/dev/dev-a/presence")
    assert not DEVICE.may_retain("fl/v1/clinic/dev/dev-a/up/chunk")
    assert not DEVICE.may_retain("fl/v1/clinic/dev/dev-b/presence")


def test_a_broker_certificate_has_no_rights_as_a_client():
    assert rights_of("broker", PartyRole.BROKER, "clinic") == Rights()
