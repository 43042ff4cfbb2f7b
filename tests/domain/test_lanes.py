"""Failures that look alike share a lane, and others do not."""

import pytest

from worker.domain import lanes
from worker.domain.retry import Failure
from worker.domain.states import FailureKind, Step


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (FailureKind.REJECTED, Step.CALL),
        (FailureKind.TIMEOUT, Step.CALL),
        (FailureKind.NOT_FOUND, Step.CALL),
        (FailureKind.UNREADABLE, Step.READ),
        (FailureKind.STALE, Step.READ),
        (FailureKind.BUG, Step.WRITE),
        (FailureKind.CRASHED, Step.WRITE),
    ],
)
def test_each_failure_has_its_step(kind, step):
    assert lanes.step(kind) is step


def test_numbers_do_not_matter():
    first = Failure(FailureKind.CRASHED, "the worker died 5 times in a row while working on it")
    second = Failure(FailureKind.CRASHED, "the worker died 17 times in a row while working on it")

    assert lanes.fingerprint(first) == lanes.fingerprint(second)
    assert len(lanes.fingerprint(first)) == 16


@pytest.mark.parametrize(
    "other",
    [
        Failure(FailureKind.REJECTED, "the provider answered 400", http_status=422),
        Failure(FailureKind.REJECTED, "the answer is odd", http_status=400),
        Failure(FailureKind.UNREADABLE, "the provider answered 400", http_status=400),
    ],
)
def test_kind_status_and_words_do(other):
    assert lanes.fingerprint(other) != lanes.fingerprint(
        Failure(FailureKind.REJECTED, "the provider answered 400", http_status=400)
    )
