# SPDX-License-Identifier: Apache-2.0
"""Signals that end a program, as an exception, so that everything is cleaned up on the way out."""

import signal

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the program to end. Not an Exception: nothing on the way takes it for a failure of its own."""


def raise_on_signals():
    """From now on the first signal raises Interrupted. Further ones are ignored: they would interrupt the cleaning up."""

    def stop(number, _):
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(f"interrupted by {signal.Signals(number).name}")

    for number in _SIGNALS:
        signal.signal(number, stop)
