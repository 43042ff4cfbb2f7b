"""The ids of spans: the same for the same row, another for another, and never zero, which would mean none."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from worker.domain import trace
from worker.domain.trace import SpanContext

ids = st.uuids()
numbers = st.integers(1, 2**40)


@given(ids, ids)
def test_each_delivery_begins_a_trace(one, other):
    assert trace.received(one) == trace.received(uuid.UUID(str(one)))
    assert (trace.received(one) == trace.received(other)) == (one == other)


@given(ids, numbers, numbers)
def test_an_attempt_belongs_to_the_delivery_that_asked_for_it(delivery, resource, attempt):
    asked = trace.received(delivery)

    found = trace.attempted(resource, attempt, asked)

    assert found.trace == asked.trace
    assert found.span not in (asked.span, trace.called(found).span)
    assert trace.called(found).trace == asked.trace
    assert trace.attempted(resource, attempt, None).trace != asked.trace


@given(ids, numbers, st.text(max_size=40))
def test_ids_fit_and_are_never_zero(delivery, number, name):
    places: list[SpanContext] = [
        trace.received(delivery),
        trace.attempted(number, 1, None),
        trace.delivered(name, number, 0, None),
        trace.drained(name),
    ]

    for place in places:
        assert 0 < place.trace < 2 ** (8 * trace.TRACE_BYTES)
        assert 0 < place.span < 2 ** (8 * trace.SPAN_BYTES)


def test_half_of_the_traces_have_each_bit():
    """Samplers compare the lower half of an id, which in a UUID begins with the same bits always."""
    high = [trace.received(uuid.UUID(int=number)).trace >> 63 & 1 for number in range(400)]

    assert 120 < sum(high) < 280
