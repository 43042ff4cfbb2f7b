"""Garbage: how often Python looks for what only refers to itself."""

import gc

THRESHOLDS = (20_000, 20, 20)
"""Objects between two looks. A document is a thousand of them, all of which end by themselves; by default, Python would
look through those that are being read after every seven hundred."""


def expect_little() -> None:
    """Look less often. Called before a program loads its modules, which stay: a tenth of its start goes into looking
    through them again and again."""
    gc.set_threshold(*THRESHOLDS)


def settle() -> None:
    """Leave alone what is loaded by now, and look less often at what comes. Called once a process is up."""
    gc.collect()
    # What stays would be looked through each time: a third of the time that it takes to read documents, and a tenth of
    # a second in which no request goes on.
    gc.freeze()
    expect_little()
