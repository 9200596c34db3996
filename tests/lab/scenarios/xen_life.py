# SPDX-License-Identifier: Apache-2.0
"""The life of a protected guest on Xen: its engine and guard die, it is unprotected, comes back, reboots, ends, crashes."""

import time

from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR, XenPair

_EPOCHS = 2
# What docs/xen.md promises.
_DESTROYED_WITHIN_S = 60


class Life:
    """One guest, its client, and what happens to them, in order."""

    def __init__(self, lab, report):
        self._report = report
        self._pair = XenPair(lab, detect="8s")
        self._guest = XenGuest(address=ADDRESS)
        self._client = None
        self._guard = None

    def start(self, *more):
        self._guest = XenGuest(address=ADDRESS, more=more)
        self._guest.create(self._pair.a)
        self._guest.wait_for_turn(self._pair.a, 1)

    def protect(self, host):
        self._guard = self._pair.protect(self._guest, on=host)
        self._pair.wait_until_protected(_EPOCHS, host)

    def first(self):
        self._pair.start()
        self.start()
        self._client = GuestClient(self._pair.c, ADDRESS, 4, 2)
        self.protect(self._pair.a)

    def goes_on(self, what):
        """Every connection gets answers, and they are the right ones."""
        self._client.wait_for_answers(self._client.answers())
        self._report.check(what, True)

    def engine_dies(self):
        pair = self._pair
        old = pair.status(pair.a)["pid"]
        pair.kill(pair.a, "engine")
        pair.wait_for(lambda: pair.status(pair.a).get("pid") != old, "a new engine")
        pair.wait_until_protected(_EPOCHS)
        self.goes_on("an engine that was killed is followed by another; the client has noticed nothing but time")

    def guard_dies(self):
        pair = self._pair
        old = pair.status(pair.a)["pid"]
        pair.kill(pair.a, "guard")
        self._guard.wait()
        self._guard = pair.a.start(["haven-engine", "guard", "--directory=/var/lib/haven-engine", "g1"])
        pair.wait_for(lambda: pair.status(pair.a).get("pid") != old, "a new engine")
        pair.wait_until_protected(_EPOCHS)
        self.goes_on("a guard that was killed is followed by another; the client has noticed nothing but time")

    def both_die(self):
        """Nobody is there to speak for the guest on a: the backup takes over, and the copy on a ends with the next guard."""
        pair = self._pair
        pair.kill(pair.a, "guard", "engine")
        self._guard.wait()
        before = self._client.answers()
        pair.wait_for_promotion(pair.b)
        self._client.wait_for_answers(before)
        self._report.check("guard and engine are killed: the guest goes on on b", True)
        self._report.check("the old copy is still there, its output held", "g1" in pair.domains(pair.a), pair.domains(pair.a))
        begun = time.monotonic()
        result = pair.a.run(["haven-engine", "guard", "--directory=/var/lib/haven-engine", "g1"], timeout_s=_DESTROYED_WITHIN_S, check=False)
        self._report.figure("the next guard to the old copy destroyed", time.monotonic() - begun, "s")
        self._report.check("the next guard on a is told so", result.code == 6 and "promoted elsewhere" in result.err, f"{result.code} {result.err[-300:]}")
        self._report.check("and has destroyed the old copy", "g1" not in pair.domains(pair.a), pair.domains(pair.a))
        left = pair.a.run("ip -br link | grep -E '^(vif|hvn)'", check=False).out
        self._report.check("with its NIC and what held its output", not left, left)
        pair.wait_until_protected(_EPOCHS, pair.b)
        self.goes_on("the guest is protected from b to a by itself")

    def unprotected(self, host):
        pair, other = self._pair, self._pair.other(host)
        pair.ask(host, "unprotect", "--timeout=120s", "g1")
        pair.wait_for(lambda: not pair.domains(other), "the copy to go")
        self._report.check("unprotect takes the copy away, the guest stays", pair.domains(host) == ["g1"], pair.domains(host))
        left = host.run("ip -br link | grep ^hvn", check=False).out
        self._report.check("nothing holds its output any more", not left, left)
        self.goes_on("the client goes on while the guest is not protected")
        self.protect(host)
        self.goes_on("protected again, the client goes on")

    def connections_end(self):
        self._report.check("every answer so far was the right one", self._client.stop() > 0)

    def ends_by_itself(self, host, line, expected, what):
        """The guest does `line`. Its protection ends first; then it is what its file says."""
        pair, other = self._pair, self._pair.other(host)
        old = host.run(["xl", "domid", "g1"]).out.strip()
        self._guest.shell(pair.c, line, check=False)
        pair.wait_for(lambda: not pair.domains(other), f"{what}: the copy to go")
        if expected == "again":
            pair.wait_for(lambda: host.run(["xl", "domid", "g1"], check=False).out.strip() not in ("", old), f"{what}: a new domain")
        else:
            pair.wait_for(lambda: not pair.domains(host), f"{what}: the guest to end")
        gone = host.run("ls /var/lib/haven-engine/*.group", check=False).out
        self._report.check(f"{what}: the protection ended, the guest is {expected}", not gone, f"{pair.domains(host)} {gone}")


@scenario("xen-life", "a protected guest whose engine and guard die, that is unprotected, fails back, reboots, ends, crashes", hosts=XEN_PAIR, in_tests_run=False)
def life(lab, report):
    a, b = lab.host("a"), lab.host("b")
    world = Life(lab, report)
    world.first()
    report.step("the engine is killed")
    world.engine_dies()
    report.step("the guard is killed")
    world.guard_dies()
    report.step("guard and engine are killed")
    world.both_die()
    report.step("unprotected and protected again, on b")
    world.unprotected(b)
    world.connections_end()
    report.step("the guest reboots")
    world.ends_by_itself(b, "reboot -f", "again", "reboot")
    b.run("xl destroy g1")
    report.step("the guest shuts down")
    world.start()
    world.protect(a)
    world.ends_by_itself(a, "poweroff -f", "gone", "shutdown")
    report.step("the guest crashes")
    world.start('on_crash="destroy"')
    world.protect(a)
    world.ends_by_itself(a, "echo c >/proc/sysrq-trigger", "gone", "crash")
