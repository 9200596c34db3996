# SPDX-License-Identifier: Apache-2.0
"""The world outside a protected guest: every packet that leaves any of its copies, held against what was promoted.

The rules are those of tests/kill. Packets reach this side by the hosts' serial ports, which no fault of the network touches.
"""

import sys
import time

from haven_lab import settings

sys.path.insert(0, str(settings.ROOT / "tests" / "kill"))

# pylint: disable=wrong-import-position
import kill_checks

SOCKET = "/run/haven.packets"
_RECORDER = "/run/packet_recorder.py"
# Packets of one epoch are let go at once.
_QUEUE = 4096


class Outside:
    """Listens on any number of hosts. `report_of(node)` is the report of the copy there, or None."""

    def __init__(self, report_of):
        self.history = kill_checks.History()
        self.last = None  # The last packet that left, ...
        self.last_node = None  # ... the host that it left, ...
        self.last_s = 0.0  # ... and when it was seen, by this machine's clock, as time.monotonic().
        self.first_s = {}  # When the first packet of each incarnation was seen.
        self.count = 0
        self._report_of = report_of
        self._recorders = {}
        self._taken = {}

    def listen(self, host):
        """From now on on this host too; again after it was switched on anew."""
        host.run(f"sysctl -q net.unix.max_dgram_qlen={_QUEUE}")
        host.put(_RECORDER, (settings.LAB / "haven_lab" / "packet_recorder.py").read_bytes())
        recorder = host.start(["python3", _RECORDER, SOCKET])
        recorder.wait_for_output("ready")
        self._recorders[host.name] = recorder
        self._taken[host.name] = len("ready\n")

    def look(self):
        """Takes what has arrived; kill_checks.Violation if it must not have."""
        for node, recorder in self._recorders.items():
            text = recorder.out
            end = text.rfind("\n") + 1
            for line in text[self._taken[node] : end].splitlines():
                self._take(node, bytes.fromhex(line))
            self._taken[node] = max(end, self._taken[node])

    def _take(self, node, record):
        (packet,), _ = kill_checks.parse_packets(record)
        self.count += 1
        self.last, self.last_node, self.last_s = packet, node, time.monotonic()
        if packet.generation not in self.first_s:
            self.first_s[packet.generation] = self.last_s
            if packet.generation > 1:
                self._note_promotion(node, packet.generation - 1)
        # Process ids are of one host.
        self.history.add(packet._replace(pid=(node, packet.pid)))

    def _note_promotion(self, node, generation):
        """A copy of incarnation `generation` runs: it has said what it is."""
        if generation in self.history.promotions:
            return
        report = self._report_of(node)
        if report is None or report.generation != generation:
            raise kill_checks.Violation("report", f"a copy of incarnation {generation} runs on {node} without a report of it")
        self.history.promoted(report)
