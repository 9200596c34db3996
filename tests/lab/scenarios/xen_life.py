# SPDX-License-Identifier: Apache-2.0
"""The life of a protected guest on Xen: its engine and guard die, it is unprotected, comes back, reboots, ends, crashes."""

import time

from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.visible import Visible
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import DIRECTORY, GUARD, XEN_PAIR, XenPair

_EPOCHS = 2
# What docs/xen.md promises.
_DESTROYED_WITHIN_S = 60
# In the guest: until no client of its shell is there that has not taken the shell's end (port 2323, and the states of a connection of
# which the other side has not acknowledged that). The shell listens on IPv6, where IPv4 clients are listed, too.
_SHELL_IS_LEFT = "while grep -q ':0913 [0-9A-F]*:[0-9A-F]* 0[14789B] ' /proc/net/tcp /proc/net/tcp6; do sleep 0.2; done"
# A host that has just booted reads all its programs from an emulated disk.
_COLD_S = 480


class Life:
    """One guest, its client, and what happens to them, in order."""

    def __init__(self, lab, report):
        self._report = report
        # A guard that is started again has to be faster than the backup.
        self._pair = XenPair(lab, detect="12s")
        self._guest = XenGuest(address=ADDRESS)
        self._visible = Visible(self._pair, report)
        self._client = None
        self._guard = None

    def first(self):
        pair = self._pair
        pair.start()
        self._guest.create(pair.a)
        self._guest.wait_for_turn(pair.a, 1)
        self._client = GuestClient(pair.c, ADDRESS, 4, 2)
        self._protect(pair.a)

    def _protect(self, host):
        self._guard = self._pair.protect(self._guest, on=host)
        self._pair.wait_until_protected(_EPOCHS, host)

    def _goes_on(self, what):
        self._client.goes_on(self._report, what)
        self._visible.check(what)

    def engine_dies(self):
        pair = self._pair
        old = pair.status(pair.a)["pid"]
        pair.kill(pair.a, "engine")
        self._new_engine(old)
        self._goes_on("an engine that was killed is followed by another; the client has noticed nothing but time")

    def guard_dies(self):
        pair = self._pair
        old = pair.status(pair.a)["pid"]
        pair.kill(pair.a, "guard")
        self._guard.wait()
        self._guard = pair.guard(pair.a)
        self._new_engine(old)
        self._goes_on("a guard that was killed is followed by another; the client has noticed nothing but time")

    def _new_engine(self, old):
        pair = self._pair

        def look():
            if not self._guard.running or pair.promotions(pair.b):
                raise AssertionError(f"the guest was to stay on a: {pair.events(pair.b)[-3:]} {self._guard.err[-500:]}")
            return pair.status(pair.a).get("pid") not in (None, old)

        pair.wait_for(look, "a new engine")
        pair.wait_until_protected(_EPOCHS)

    def both_die(self):
        """Nobody is there to speak for the guest on a: the backup takes over, and the copy on a ends with the next guard."""
        pair = self._pair
        pair.kill(pair.a, "guard", "engine")
        self._guard.wait()
        before = self._client.answers()
        events = pair.wait_for_promotion(pair.b)
        self._client.wait_for_answers(before)
        self._report.check("the old copy is still there", "g1" in pair.domains(pair.a), pair.domains(pair.a))
        # Its output is held, by nobody but the kernel.
        self._visible.promoted(pair.b, events)
        self._goes_on("guard and engine are killed: the guest goes on on b")
        nic = f"vif{pair.a.run(['xl', 'domid', 'g1']).out.strip()}."
        begun = time.monotonic()
        result = pair.a.run(GUARD, timeout_s=_DESTROYED_WITHIN_S, check=False)
        self._report.figure("the next guard to the old copy destroyed", time.monotonic() - begun, "s")
        self._report.check("the next guard on a is told so", result.code == 6 and "promoted elsewhere" in result.err, f"{result.code} {result.err[-300:]}")
        self._report.check("and has destroyed the old copy", "g1" not in pair.domains(pair.a), pair.domains(pair.a))
        self._report.check("with its NIC and what held its output", not pair.left(pair.a, nic, "hvn"), pair.left(pair.a))
        pair.wait_until_protected(_EPOCHS, pair.b)
        self._goes_on("the guest is protected from b to a by itself")

    def unprotected(self, host):
        pair, other = self._pair, self._pair.other(host)
        pair.ask(host, "unprotect", "--timeout=120s", "g1")
        pair.wait_for(lambda: not pair.left(other), "the copy to go")
        self._report.check("unprotect takes the copy away, the guest stays", pair.domains(host) == ["g1"], pair.domains(host))
        self._report.check("nothing holds its output any more", pair.left(host, "hvn") == [], pair.left(host))
        self._goes_on("the client goes on while the guest is not protected")
        self._protect(host)
        self._goes_on("protected again, the client goes on")

    def old_host_returns(self, host):
        """The power of the guest's host is cut, and comes back: the host boots with the record of a guest that it has no more."""
        pair, other = self._pair, self._pair.other(host)
        already = pair.promotions(other)
        host.power_cut()
        before = self._client.answers()
        events = pair.wait_for_promotion(other, already)
        self._client.wait_for_answers(before)
        self._visible.promoted(other, events)
        host.power_on()
        host.connect()
        self._report.figure("boot of the host", host.boot_s, "s")
        self._report.check("the host that was lost boots with its record", host.run(f"ls {DIRECTORY}/g1.group", check=False).code == 0)
        self._report.check("and with no guest", not pair.domains(host), pair.domains(host))
        said = host.run(GUARD, check=False)
        told = "none of its guests exists here any more" in said.err
        self._report.check("its guard says so, and takes the record away", told and not pair.left(host), f"{said.code} {said.err[-300:]}")
        pair.listen(host)
        pair.wait_until_protected(_EPOCHS, other, _COLD_S)
        self._goes_on("it is a backup again: the guest is protected towards it by itself")

    def end(self):
        self._client.check_end(self._report)
        self._visible.check("in the end")


@scenario("xen-life", "engine and guard of a protected guest die, it is unprotected and protected again, its old host comes back", hosts=XEN_PAIR)
def life(lab, report):
    world = Life(lab, report)
    world.first()
    report.step("the engine is killed")
    world.engine_dies()
    report.step("the guard is killed")
    world.guard_dies()
    report.step("guard and engine are killed")
    world.both_die()
    report.step("unprotected and protected again, on b")
    world.unprotected(lab.host("b"))
    report.step("the power of b is cut, and comes back")
    world.old_host_returns(lab.host("b"))
    world.end()


class Ends:
    """A guest that ends by itself, with its protection: first on a, then on b, under the same name."""

    def __init__(self, lab, report):
        self._report = report
        self._pair = XenPair(lab, detect="8s")
        self._pair.start()

    def protected(self, host, *more):
        """A new guest, whose file has `more` lines, and its guard."""
        guest = self._up(host, more)
        guard = self._pair.protect(guest, on=host)
        self._pair.wait_until_protected(_EPOCHS, host)
        return guest, guard

    def _up(self, host, more=()):
        guest = XenGuest(address=ADDRESS, more=more)
        guest.create(host)
        guest.wait_for_turn(host, 1)
        return guest

    def taken_over(self, host):
        """The same on another node than the one where the group was protected last, which the register names."""
        pair, report = self._pair, self._report
        guest = self._up(host)
        refused = pair.protect(guest, on=host).wait(_DESTROYED_WITHIN_S)
        told = refused.code == 4 and "protect --take-over" in refused.err
        report.check("another node protects the group on an operator's word only", told, f"{refused.code} {refused.err[-300:]}")
        report.check("and has touched nothing", pair.domains(host) == ["g1"], pair.domains(host))
        guard = pair.protect(guest, "--take-over", on=host)
        pair.wait_until_protected(_EPOCHS, host)
        report.check("with that word the group is its own", pair.register()["owner"].startswith(f"{host.name}."), pair.register())
        return guest, guard

    def ends(self, host, guest, guard, line, what, again=False):
        """The guest does `line`. Its protection ends first; then it is what its file says."""
        pair, report, other = self._pair, self._report, self._pair.other(host)
        old = host.run(["xl", "domid", "g1"]).out.strip()
        before = len(pair.events(host))
        guest.shell(pair.c, f"({_SHELL_IS_LEFT}; {line}) >/dev/null 2>&1 &")
        ended = guard.wait(_DESTROYED_WITHIN_S)
        told = ended.code == 0 and "a guest has ended, and the protection" in ended.err
        report.check(f"{what}: the guard says that the guest has ended, and ends", told, f"{ended.code} {ended.err[-300:]}")
        causes = [event["cause"] for event in pair.events(host)[before:]]
        report.check(f"{what}: so does the event", "a guest of the group has ended by itself" in causes, causes)
        report.check(f"{what}: the register says that nobody is protected", pair.register()["mode"] == "none", pair.register())
        pair.wait_for(lambda: not pair.left(other), f"{what}: the copy to go")
        report.check(f"{what}: nothing was promoted", not pair.promotions(other) and not pair.promotions(host))
        if again:
            pair.wait_for(lambda: host.run(["xl", "domid", "g1"], check=False).out.strip() not in ("", old), f"{what}: a new domain")
            report.check(f"{what}: the guest starts again, its output open", pair.left(host, "hvn") == [], pair.left(host))
            pair.wait_for(lambda: "up" in guest.shell(pair.c, "echo up", check=False), f"{what}: the guest to answer")
            return
        pair.wait_for(lambda: not pair.left(host), f"{what}: the guest to go, with all that was its")
        report.check(f"{what}: nothing is left of it on either host", True)


@scenario("xen-ends", "a protected guest reboots, shuts down, crashes; its group moves to another node", hosts=XEN_PAIR)
def ends(lab, report):
    a, b = lab.host("a"), lab.host("b")
    world = Ends(lab, report)
    report.step("the guest reboots")
    world.ends(a, *world.protected(a), "reboot -f", "reboot", again=True)
    a.run(["xl", "destroy", "g1"])
    report.step("the guest shuts down, on another node")
    world.ends(b, *world.taken_over(b), "poweroff -f", "shutdown")
    report.step("the guest crashes")
    world.ends(b, *world.protected(b, 'on_crash="destroy"'), "echo c >/proc/sysrq-trigger", "crash")
