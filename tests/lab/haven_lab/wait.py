# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions, always with a deadline."""

import threading
import time


class DeadlineExceeded(Exception):
    """What was waited for did not come."""


def wait_until(condition, timeout_s, what, interval_s=0.1):
    """Calls `condition` until it returns something true, and returns that; `what` says in the error what was missing."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(f"{what}: not within {timeout_s:g} s")
        time.sleep(interval_s)


class Signal:
    """A condition that other threads announce: no polling."""

    def __init__(self):
        self._changed = threading.Condition()

    def __enter__(self):
        self._changed.acquire()
        return self

    def __exit__(self, *_):
        self._changed.release()

    def announce(self):
        """Something may have become true; held by the caller."""
        self._changed.notify_all()

    def wait_for(self, condition, timeout_s, what):
        """Held by the caller; returns what `condition` returned once that is true."""
        value = self._changed.wait_for(condition, timeout_s)
        if not value:
            raise DeadlineExceeded(f"{what}: not within {timeout_s:g} s")
        return value
