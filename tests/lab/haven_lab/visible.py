# SPDX-License-Identifier: Apache-2.0
"""Which copy of a guest can be seen: the hub notes at which port the frames of its NIC come into the guests' network."""

import time

from haven_lab.wait import wait_until
from haven_lab.xen_guest import MAC

_FRAME_TIMEOUT_S = 60


class Visible:
    """Of the guest of a XenPair, which runs on a at first."""

    def __init__(self, pair, report):
        self._pair = pair
        self._report = report
        self._owner = "a"
        self._since_s = time.time()  # This copy was promoted then, or, the first one, has not been started before.
        self._announced = {host.name: self._from(host)["reverse_arps"] for host in (pair.a, pair.b)}

    def promoted(self, owner, events):
        """A copy was promoted, by these events of its host: the network is told, and sees no other from then on."""
        self._owner = owner.name
        self._since_s = self._pair.event_times(owner, events)[-1]
        told = self._announced[owner.name]
        wait_until(lambda: self._from(owner)["reverse_arps"] > told, _FRAME_TIMEOUT_S, f"an announcement of the guest from {owner.name}")
        self._announced[owner.name] = self._from(owner)["reverse_arps"]
        announced = self._announced[owner.name] - told
        self._report.check("RARP tells the network where the guest is", announced > 0, f"{announced} frames from {owner.name}")
        self.check("promoted")

    def runs(self, owner):
        """A copy runs there from now on that was let run by a guard, after its promotion was broken off."""
        self._owner = owner.name
        self._since_s = time.time()
        self._announced[owner.name] = self._from(owner)["reverse_arps"]

    def check(self, when):
        """Frames of the guest have come from its owner since the last promotion, and none from the other host."""
        owner = self._pair.lab.host(self._owner)
        other = self._pair.other(owner)
        wait_until(lambda: self._from(owner)["last_s"] > self._since_s, _FRAME_TIMEOUT_S, f"a frame of the guest from {owner.name}")
        last_s = self._from(other)["last_s"]
        seen = f"{self._from(other)['frames']} frames from {other.name}, the last one {self._since_s - last_s:.2f} s before" if last_s else f"none from {other.name}"
        self._report.check(f"{when}: only the copy on {owner.name} can be seen", last_s <= self._since_s, seen)

    def _from(self, host):
        return self._pair.lab.hub.source(f"{host.name}.guests", MAC)
