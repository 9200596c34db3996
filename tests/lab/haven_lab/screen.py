# SPDX-License-Identifier: Apache-2.0
"""What a person watches: lines that stay, and below them a few that are drawn anew. Without a terminal, lines now and then."""

import contextlib
import os
import shutil
import sys
import threading
import time

_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_EVERY_S = 5.0
_REDRAW_S = 0.25


def bars(values, width):
    """The last values as a row of bars, the greatest of them as the highest."""
    values = list(values)[-width:]
    most = max(values, default=0)
    return "".join(_BARS[0 if value <= 0 else 1 + int(value / most * (len(_BARS) - 2))] for value in values)


class Screen:
    """Colours and drawing only on a terminal."""

    def __init__(self, out=sys.stdout):
        self._out = out
        self._live = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._drawn = 0
        self._plain_s = 0.0
        self._started = time.monotonic()

    def seconds(self):
        return time.monotonic() - self._started

    def say(self, text="", style=""):
        """A line that stays. `style` is "bold", "green", "red", "dim" or nothing."""
        self.clear()
        for line in text.split("\n"):
            self._out.write(f"{self._styled(line, style)}\n")
        self._out.flush()

    def stage(self, text):
        self.say(f"\n{self.seconds():5.0f} s  {text}", "bold")

    def draw(self, lines):
        """Shows these lines in place of those drawn before; without a terminal only every few seconds."""
        if not self._live:
            if time.monotonic() - self._plain_s >= _PLAIN_EVERY_S:
                self._plain_s = time.monotonic()
                self._out.write("".join(f"{line}\n" for line in lines))
                self._out.flush()
            return
        self.clear()
        width = shutil.get_terminal_size().columns - 1
        self._out.write("".join(f"{line[:width]}\n" for line in lines))
        self._out.flush()
        self._drawn = len(lines)

    def clear(self):
        """Nothing drawn is there any more."""
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    @contextlib.contextmanager
    def busy(self, text):
        """A context during which a clock runs beside the text; the line stays with the time that it took."""
        begun = time.monotonic()
        done = threading.Event()

        def tick():
            while not done.wait(_REDRAW_S):
                if self._live:
                    self.draw([f"         {text} … {time.monotonic() - begun:.0f} s"])

        ticking = threading.Thread(target=tick)
        ticking.start()
        try:
            yield
        finally:
            done.set()
            ticking.join()
            self.clear()
        self.say(f"         {text}: {time.monotonic() - begun:.0f} s")

    def _styled(self, line, style):
        codes = {"bold": "1", "green": "32", "red": "31;1", "dim": "2"}
        return f"\x1b[{codes[style]}m{line}\x1b[0m" if self._live and style in codes and line else line
