# SPDX-License-Identifier: Apache-2.0
"""A client outside the guest that numbers its requests and checks every answer (scenarios/in_host/counting_client.py)."""

import json
import signal as signals

from haven_lab import settings
from haven_lab.wait import wait_until

_SCRIPT = settings.LAB / "scenarios" / "in_host" / "counting_client.py"
# The guest may be away for as long as it takes to detect that, and TCP asks again after twice the time that it waited before.
_ANSWER_TIMEOUT_S = 240


class GuestClient:
    """Runs on a host of the guests' network; violation() says what it found, and every wait here fails then."""

    def __init__(self, host, address, kv_connections=8, http_connections=4):
        self.connections = kv_connections + http_connections
        host.put("/tmp/counting_client.py", _SCRIPT.read_bytes())
        words = ["python3", "-u", "/tmp/counting_client.py", address, kv_connections, http_connections]
        self._command = host.start(words)
        self.wait_for_answers()

    def stat(self):
        """Its last word: `answers` by connection, `wait_s`, `silence_s`, `time`. Fails at a violation."""
        out = self._command.out
        at = out.rfind('{"violation"')
        if at >= 0:
            raise AssertionError(json.loads(out[at:].splitlines()[0])["violation"])
        if not self._command.running:
            raise AssertionError(f"the client ended: {out[-500:]} {self._command.err[-2000:]}")
        at = out.rfind('{"stat"', 0, out.rfind("\n") + 1)
        return json.loads(out[at:].splitlines()[0])["stat"] if at >= 0 else None

    def answers(self):
        """How many answers each connection has got."""
        stat = self.stat()
        return stat["answers"] if stat else {}

    def wait_for_answers(self, more_than=None, timeout_s=_ANSWER_TIMEOUT_S):
        """Until every connection has got an answer, or more than it had got before."""
        floor = more_than or {}

        def all_answered():
            now = self.answers()
            return len(now) == self.connections and all(count > floor.get(name, 0) for name, count in now.items())

        wait_until(all_answered, timeout_s, "an answer on every connection of the client")

    def wait_for_answer(self, more_than, timeout_s=_ANSWER_TIMEOUT_S):
        """Until any connection has got one."""
        total = sum(more_than.values())
        wait_until(lambda: sum(self.answers().values()) > total, timeout_s, "an answer to the client", interval_s=0.02)

    def verify(self, timeout_s=_ANSWER_TIMEOUT_S):
        """Has it read on a new connection all that was acknowledged; the number of keys."""
        before = self._command.out.count('{"verified"')
        self._command.kill(signals.SIGUSR1)

        def read():
            self.stat()
            return self._command.out.count('{"verified"') > before

        wait_until(read, timeout_s, "the client to read what was acknowledged")
        out = self._command.out
        return json.loads(out[out.rfind('{"verified"') :].splitlines()[0])["verified"]

    def stop(self, timeout_s=_ANSWER_TIMEOUT_S):
        """Has every request answered and everything read once more. The number of answers in all."""
        self._command.kill(signals.SIGTERM)
        result = self._command.wait(timeout_s)
        last = result.out.splitlines()[-1] if result.out else ""
        if result.code != 0 or '"end"' not in last:
            raise AssertionError(f"the client ended with {result.code}: {last} {result.err[-2000:]}")
        return sum(json.loads(last)["end"]["answers"].values())
