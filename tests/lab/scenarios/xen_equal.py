# SPDX-License-Identifier: Apache-2.0
"""Whether the waiting copy of a guest is the guest: every page of it, at a committed epoch."""

import signal
import time

from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.visible import Visible
from haven_lab.wait import DeadlineExceeded, wait_until
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import DIRECTORY, ENGINE, XEN_PAIR, XEN_PAIR_TWO_PROCESSORS, XenPair

_MEMORY_MB = 160
# Of that a screen has so many, and the guest's kernel gives as many back when it boots: the toolstack's target does not count them.
_SCREEN_MB = 16
_PAGES_PER_MB = 256
_SCREEN_FROM = 0xE0000
# Of the toolstack's rings, of which the copy has its own, there is a handful.
_RINGS_MAX = 16
_FILE = "/tmp/memory"
_READ_TIMEOUT_S = 300
# Variables of the guest's kernel that tell where its events come in (unlogged/unlogged_pages.cc).
_SYMBOLS = "__per_cpu_offset xen_vcpu_info cpu_control_block event_array event_array_pages"
# In text mode each character is a write to an emulated card, which has it in the guest's memory.
_WRITE_TO_SCREEN = "(while :; do date >/dev/tty1; sleep 1; done) </dev/null >/dev/null 2>&1 &"


def _stands_still(host):
    """Whether the guest is suspended there."""
    return "s" in host.run("xl list g1 | awk 'END { print $5 }'").out


def _pages(host):
    """What xen_memory has written: the checksum of every RAM page, by frame."""
    return dict(line.split() for line in host.get(_FILE).decode().splitlines())


@scenario("xen-equal", "after a commit, with the guest stopped, every page of the waiting copy equals the guest's", hosts=XEN_PAIR, rounds=2)
def equal(lab, report, rounds):
    _run(lab, report, rounds, XenGuest(address=ADDRESS, memory_mb=_MEMORY_MB), _MEMORY_MB)


@scenario("xen-equal-hvm", "the same of a guest with a screen, into whose memory its QEMU writes", hosts=XEN_PAIR_TWO_PROCESSORS, in_tests_run=False, rounds=2)
def equal_hvm(lab, report, rounds):
    guest = XenGuest(address=ADDRESS, memory_mb=_MEMORY_MB, kind="hvm with a screen")
    _run(lab, report, rounds, guest, _MEMORY_MB - _SCREEN_MB, _WRITE_TO_SCREEN)


def _run(lab, report, rounds, guest, has_mb, first=""):
    pair = XenPair(lab)
    pair.start()
    guest.create(pair.a)
    guest.wait_for_turn(pair.a, 1)
    # Before anybody else wants the guest's processors: its kernel has some 200,000 symbols.
    pattern = "|".join(_SYMBOLS.split())
    symbols = guest.shell(pair.c, f"grep -E ' ({pattern})$' /proc/kallsyms")
    if first:
        guest.shell(pair.c, first)
    client = GuestClient(pair.c, ADDRESS)
    visible = Visible(pair, report)
    pair.protect(guest)
    primary = pair.a
    for _ in range(rounds):
        backup = pair.other(primary)
        pair.wait_until_protected(4, primary)
        already = pair.promotions(backup)
        _Comparison(pair, report, primary, backup, has_mb).run(symbols)
        events = pair.wait_for_promotion(backup, already)
        pair.kill(primary, "guard", "engine", signal="CONT")
        before = client.answers()
        client.wait_for_answers(before)
        visible.promoted(backup, events)
        primary = backup
    client.check_end(report)
    visible.check("in the end")


class _Comparison:
    """The primary commits a last epoch for a handover and stays stopped, while the backup asks an arbiter that does not answer."""

    def __init__(self, pair, report, primary, backup, has_mb):
        self._pair = pair
        self._report = report
        self._primary = primary
        self._backup = backup
        self._has_mb = has_mb

    def run(self, symbols):
        pair, primary = self._pair, self._primary
        pair.etcd.kill(signal.SIGSTOP)
        begun = time.monotonic()
        handover = primary.start([ENGINE, "handover", f"--directory={DIRECTORY}", "g1"])
        try:
            status = wait_until(self._applied, 60, "the last epoch to be applied", interval_s=0.25)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"{error}: {handover.out}{handover.err} {pair.status(primary)}") from error
        # A handover that does not happen ends after five detection times. Neither the engine nor its guard, which would end an engine that
        # hangs, gets to see that: reading takes longer.
        pair.kill(primary, "guard", "engine", signal="STOP")
        self._report.figure("the handover asked for to the primary held", time.monotonic() - begun, "s")
        still = _stands_still(primary)
        named = self._named(symbols)
        for reader in [host.start(["xen_memory", name, _FILE]) for host, name in ((primary, "g1"), (self._backup, "g1--incoming"))]:
            reader.wait(_READ_TIMEOUT_S).must_succeed()
        self._report.check("the guest stands still meanwhile", still and _stands_still(primary))
        applied = self._applied()
        same = applied is not None and applied["epoch"]["committed"] == status["epoch"]["committed"]
        self._report.check("and its copy waits for the arbiter, at the same epoch", same, status["epoch"]["committed"])
        pair.etcd.kill(signal.SIGCONT)
        self._compare(named)

    def _applied(self):
        """The status of the backup, if it asks for the promotion and has applied all that was committed."""
        status = self._pair.status(self._backup)
        claiming = status.get("activity") == "claiming"
        return status if claiming and status["epoch"]["applied"] == status["epoch"]["committed"] else None

    def _named(self, symbols):
        """What unlogged_pages says: the number of the guest's RAM pages, and {frame: name} of those that may differ."""
        said = self._primary.run(["unlogged_pages", "g1"], stdin=symbols).out.splitlines()
        rows = [line.split(" ", 2) for line in said]
        pages = next(int(row[1]) for row in rows if row[0] == "pages")
        rings = [row[1] for row in rows if row[0] == "ring"]
        named = {row[1]: row[2] for row in rows if row[0] == "unlogged"}
        self._report.check("the toolstack's own pages are few", 0 < len(rings) <= _RINGS_MAX, rings)
        return pages - len(rings), named

    def _compare(self, named):
        report = self._report
        ram_pages, names = named
        here, there = _pages(self._primary), _pages(self._backup)
        # The hypervisor's own count, which is what the guest was given but for what its kernel has put elsewhere.
        known = ram_pages > self._has_mb * _PAGES_PER_MB * 0.99
        report.check("every page of RAM is compared", known and len(here) >= ram_pages, f"{len(here)} of {ram_pages}")
        report.figure("of them above 3.5 GiB, which is where a screen has its own", sum(int(gfn, 16) >= _SCREEN_FROM for gfn in here), "pages")
        missing = [gfn for gfn in here if gfn not in there]
        report.check("the copy has every page", not missing, missing[:20])
        compared = [gfn for gfn in here if gfn not in names]
        differs = [gfn for gfn in compared if there[gfn] != here[gfn]]
        report.check("every page is equal but for those that are written unlogged", not differs, f"{len(differs)} of {len(compared)} differ: {differs[:20]}")
        for gfn, name in names.items():
            if gfn in here and there[gfn] != here[gfn]:
                report.step(f"frame {gfn} differs, as it may: {name}")
        report.figure("pages that may differ, named one by one", len(here) - len(compared), "pages")
