# SPDX-License-Identifier: Apache-2.0
"""What becomes of a guest with a device model (QEMU) when a process dies that has to do with it: the guest and its client go on."""

from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.visible import Visible
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR_TWO_PROCESSORS, XenPair

_EPOCHS = 2
# It is met by chance, one time in ten or so.
_KILL_TIMEOUT_S = 300
# QEMU stands for a part of each epoch. An engine that is halted meanwhile leaves it so. Takes the process of the engine.
_KILL_WHILE_QEMU_STANDS = """
kill -STOP $1
until xl qemu-monitor-command g1 'info status' | grep -q paused; do
  kill -CONT $1
  sleep 0.$((RANDOM % 8 + 2))
  kill -STOP $1
done
kill -KILL $1
"""
_QEMU_OF = "xenstore-read /local/domain/$(xl domid {})/image/device-model-pid"


class Deaths:
    """Each leaves the guest protected from a to b, and its client content."""

    def __init__(self, lab, report):
        self._report = report
        self._pair = XenPair(lab)
        self._guest = XenGuest(address=ADDRESS, kind="hvm")
        self._visible = Visible(self._pair, report)
        self._client = None

    def start(self):
        self._pair.start()
        self._guest.create(self._pair.a)
        self._guest.wait_for_turn(self._pair.a, 1)
        self._client = GuestClient(self._pair.c, ADDRESS, 4, 2)
        self._pair.protect(self._guest)
        self._protected("at first", self._pair.a)

    def engine_dies(self, times):
        """While QEMU stands: the guard lets it go on, before the guest, or the next engine does."""
        host = self._pair.a
        for number in range(1, times + 1):
            old = self._pair.status(host)["pid"]
            host.run(["bash", "-c", _KILL_WHILE_QEMU_STANDS, "kill", str(old)], timeout_s=_KILL_TIMEOUT_S)
            self._pair.wait_for(lambda: self._pair.status(host).get("pid") not in (None, old), "a new engine")
            self._protected(f"the engine is killed in an epoch, {number} of {times}", host)
            self._qemu_runs(host)

    def waiting_qemu_dies(self):
        pair, backup = self._pair, self._pair.b
        hear = pair.ear(backup)
        old = backup.run("xl domid g1--incoming").out
        backup.run(f"kill -KILL $({_QEMU_OF.format('g1--incoming')})")
        told = hear("device model of the copy is lost")
        self._report.check("a copy whose QEMU was killed takes no epoch", True, told)
        pair.wait_for(lambda: backup.run("xl domid g1--incoming", check=False).out not in ("", old), "another copy")
        self._protected("the QEMU of the waiting copy is killed", pair.a)

    def power_is_cut(self):
        """The copy that was built last is the guest, with a QEMU of its own, and is protected again."""
        pair = self._pair
        pair.a.power_cut()
        events = pair.wait_for_promotion(pair.b)
        self._visible.promoted(pair.b, events)
        self._goes_on("the power of its host is cut")
        self._qemu_runs(pair.b)
        pair.replace(pair.a)
        self._protected("the lost host is back", pair.b)

    def end(self):
        self._client.verify()
        self._client.check_end(self._report)
        self._visible.check("in the end")
        self._report.check("its memory is sound", not self._guest.damage(self._pair.b), self._guest.damage(self._pair.b))

    def _qemu_runs(self, host):
        """By the toolstack's own socket: ours is the engine's."""

        def look():
            said = host.run(["xl", "qemu-monitor-command", "g1", "info status"], check=False, timeout_s=60).out
            return said.strip() if "running" in said else None

        # It stands for a moment in each epoch.
        self._report.check(f"its QEMU runs on {host.name}", True, self._pair.wait_for(look, "its QEMU to run"))

    def _goes_on(self, what):
        self._client.goes_on(self._report, f"{what}: the guest and its client go on")
        self._visible.check(what)

    def _protected(self, what, host):
        self._pair.wait_until_protected(_EPOCHS, host)
        self._goes_on(what)


@scenario("xen-hvm-faults", "engine and QEMUs of a guest with emulated hardware die, and the power of its host is cut", hosts=XEN_PAIR_TWO_PROCESSORS, engines=3)
def hvm_faults(lab, report, engines):
    world = Deaths(lab, report)
    world.start()
    world.engine_dies(engines)
    world.waiting_qemu_dies()
    world.power_is_cut()
    world.end()
