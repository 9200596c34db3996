# SPDX-License-Identifier: Apache-2.0
"""A client outside the guest that numbers its requests and checks every answer (scenarios/in_host/counting_client.py)."""

import bisect
import json
import signal as signals
import time

from haven_lab import settings
from haven_lab.wait import wait_until

_SCRIPT = settings.LAB / "scenarios" / "in_host" / "counting_client.py"
# The guest may be away for as long as it takes to detect that, and TCP asks again after twice the time that it waited before.
_ANSWER_TIMEOUT_S = 240


class GuestClient:
    """Runs on a host of the guests' network. Every call fails with what is wrong once it has found something. Moments are those
    of time.time() on this machine."""

    def __init__(self, host, address, kv_connections=8, http_connections=4):
        self.connections = kv_connections + http_connections
        self._host = host
        self._read = 0  # So much of what it has said is taken.
        self._stats = []
        self._verified = []
        self._violation = None
        host.put("/tmp/counting_client.py", _SCRIPT.read_bytes())
        words = ["python3", "-u", "/tmp/counting_client.py", address, kv_connections, http_connections]
        self._command = host.start(words)
        self.wait_for_answers()

    def stat(self):
        """Its last word: `answers` by connection, `wait_s`, `silence_s`, `time`. Fails at a violation."""
        self._take(self._command.out)
        if self._violation is not None:
            raise AssertionError(self._violation)
        if not self._command.running:
            raise AssertionError(f"the client ended: {self._command.out[-500:]} {self._command.err[-2000:]}")
        return self._stats[-1] if self._stats else None

    def stats_since(self, moment_s):
        """Those that it has told after a moment."""
        self.stat()
        return self._stats[self._at(moment_s + self._host.clock_ahead()) :]

    def answers(self, by_s=None, timeout_s=_ANSWER_TIMEOUT_S):
        """How many answers each connection had got by a moment, by now if it is not given: by the client's first word after it,
        so that what came to it until then is counted in."""
        moment_s = (time.time() if by_s is None else by_s) + self._host.clock_ahead()

        def told():
            self.stat()
            at = self._at(moment_s)
            return self._stats[at] if at < len(self._stats) else None

        return wait_until(told, timeout_s, "the client to say what it has got")["answers"]

    def wait_for_answers(self, more_than=None, timeout_s=_ANSWER_TIMEOUT_S):
        """Until every connection has got an answer, or more than it had got before. The moment."""
        floor = more_than or {}

        def all_answered(now):
            return len(now) == self.connections and all(count > floor.get(name, 0) for name, count in now.items())

        return self._first(all_answered, timeout_s, "an answer on every connection of the client")

    def goes_on(self, report, what):
        """Waits until every connection has got an answer more, and the right one; fails if that does not come."""
        self.wait_for_answers(self.answers())
        report.step(f"{what}: an answer more on each connection")

    def wait_for_answer(self, more_than, timeout_s=_ANSWER_TIMEOUT_S):
        """Until any connection has got one. The moment."""
        total = sum(more_than.values())
        return self._first(lambda now: sum(now.values()) > total, timeout_s, "an answer to the client")

    def verify(self, timeout_s=_ANSWER_TIMEOUT_S):
        """Has it read on a new connection all that was acknowledged; the number of keys."""
        self.stat()
        before = len(self._verified)
        self._command.kill(signals.SIGUSR1)

        def read():
            self.stat()
            return len(self._verified) > before

        wait_until(read, timeout_s, "the client to read what was acknowledged")
        return self._verified[-1]

    def stop(self, timeout_s=_ANSWER_TIMEOUT_S):
        """Has every request answered and everything read once more. Its last word: a stat with `asked` and `kept`."""
        self._command.kill(signals.SIGTERM)
        result = self._command.wait(timeout_s)
        last = result.out.splitlines()[-1] if result.out else ""
        if result.code != 0 or '"end"' not in last:
            raise AssertionError(f"the client ended with {result.code}: {last} {result.err[-2000:]}")
        return json.loads(last)["end"]

    def check_end(self, report):
        """Stops it, and has it all checked."""
        end = self.stop()
        answers = sum(end["answers"].values())
        report.check("every request was answered, and every answer was the right one", 0 < end["asked"] == answers, f"{answers} answers")
        report.check("no connection was lost", end["kept"] == self.connections, f"{end['kept']} of {self.connections}")

    def _at(self, time_s):
        """Where the stats begin that were told after a time of the client's host."""
        return bisect.bisect_left(self._stats, time_s, key=lambda stat: stat["time"])

    def _first(self, condition, timeout_s, what):
        seen = 0

        def look():
            nonlocal seen
            self.stat()
            while seen < len(self._stats):
                seen += 1
                if condition(self._stats[seen - 1]["answers"]):
                    return self._stats[seen - 1]
            return None

        return wait_until(look, timeout_s, what)["time"] - self._host.clock_ahead()

    def _take(self, out):
        end = out.rfind("\n", self._read) + 1
        for line in out[self._read : end].splitlines():
            said = json.loads(line)
            if "stat" in said:
                self._stats.append(said["stat"])
            if "verified" in said:
                self._verified.append(said["verified"])
            self._violation = said.get("violation", self._violation)
        self._read = max(self._read, end)
