# SPDX-License-Identifier: Apache-2.0
"""What a scenario found out: checks, figures, and the verdict."""

import json
import time


class CheckFailed(Exception):
    """Something that had to hold did not."""


class Report:
    """Of one scenario. Prints as it goes."""

    def __init__(self, scenario, say=print, seed=None):
        """`seed`: of its random choices, if it makes any."""
        self._scenario = scenario
        self._seed = seed
        self._say = say
        self._started = time.monotonic()
        self._checks = []
        self._figures = {}
        self._failure = None

    def step(self, text):
        """Tells the reader what happens now."""
        self._say(f"{self._seconds():7.1f} s  {text}")

    def check(self, what, condition, detail=""):
        """Something that has to hold; the scenario ends here if it does not."""
        self._checks.append({"what": what, "ok": bool(condition), "detail": str(detail)})
        self.step(f"{'ok' if condition else 'FAILED'}: {what}{f' ({detail})' if detail else ''}")
        if not condition:
            raise CheckFailed(f"{what}{f': {detail}' if detail else ''}")

    def figure(self, name, value, unit):
        """Something measured. Times under emulation say nothing by themselves: compare within one run."""
        self._figures[name] = {"value": value, "unit": unit}
        shown = f"{value:.4g}" if isinstance(value, float) else value
        self.step(f"{name}: {shown} {unit}")

    def fail(self, error):
        """The scenario ended with an exception."""
        self._failure = f"{type(error).__name__}: {error}"

    @property
    def passed(self):
        """A scenario that has checked nothing has not passed."""
        return self._failure is None and bool(self._checks) and all(check["ok"] for check in self._checks)

    @property
    def failure(self):
        if self._failure is None and not self._checks:
            return "the scenario checked nothing"
        return self._failure

    def write(self, path):
        """All of it as JSON."""
        found = {
            "scenario": self._scenario,
            "passed": self.passed,
            "failure": self.failure,
            "seconds": round(self._seconds(), 2),
            "seed": self._seed,
            "figures": self._figures,
            "checks": self._checks,
        }
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

    def _seconds(self):
        return time.monotonic() - self._started
