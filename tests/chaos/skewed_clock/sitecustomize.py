"""Python imports this by itself where it lies on PYTHONPATH: it moves the clock of the process that is starting.

Only the readings of the wall clock move, wherever in Python they are asked for; durations stay right, as they do on a
machine whose clock was set wrong.
"""

import ctypes
import datetime
import gc
import os
import time

SHIFT = float(os.environ.get("CHAOS_CLOCK_SHIFT_SECONDS", "0"))

_time, _time_ns = time.time, time.time_ns


def _now(cls, tz=None):
    return cls.fromtimestamp(_time() + SHIFT, tz)


def _shift_datetime() -> None:
    """`datetime` is written in C and takes no new methods, but its table of methods can be reached.

    A subclass would not do: database drivers choose by exact class how a value is sent.
    """
    [methods] = gc.get_referents(datetime.datetime.__dict__)
    methods["now"] = classmethod(_now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


time.time = lambda: _time() + SHIFT
time.time_ns = lambda: _time_ns() + int(SHIFT * 1_000_000_000)
_shift_datetime()
