# SPDX-License-Identifier: Apache-2.0
"""Whether the waiting copy of a guest is the guest: every page of it, at a committed epoch."""

import signal

from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.wait import wait_until
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR, XenPair

# Pages that the first domain or the hypervisor writes without Xen's log of dirty pages seeing it, at most: of each of the
# NIC's queues, one for a processor, the two rings; of each processor, its vcpu_info.
_VCPUS = 2
_UNLOGGED_MAX = 2 * _VCPUS + _VCPUS
_FILE = "/tmp/memory"


def _stands_still(host):
    """Whether the guest is suspended there."""
    return "s" in host.run("xl list g1 | awk 'END { print $5 }'").out


def _pages(host):
    """What xen_memory has written: the checksum of every RAM page, by frame."""
    return dict(line.split() for line in host.get(_FILE).decode().splitlines())


@scenario("xen-equal", "after a commit, with the guest stopped, every page of the waiting copy equals the guest's", hosts=XEN_PAIR, in_tests_run=False, rounds=2)
def equal(lab, report, rounds):
    pair = XenPair(lab)
    pair.start()
    guest = XenGuest(address=ADDRESS, vcpus=_VCPUS)
    guest.create(pair.a)
    guest.wait_for_turn(pair.a, 1)
    client = GuestClient(pair.c, ADDRESS)
    pair.protect(guest)
    primary = pair.a
    for _ in range(rounds):
        backup = pair.other(primary)
        pair.wait_until_protected(4, primary)
        already = pair.promotions(backup)
        _compare(pair, report, primary, backup)
        pair.wait_for_promotion(backup, already)
        client.wait_for_answers(client.answers())
        report.check(f"it goes on on {backup.name} once the arbiter answers", True)
        primary = backup
    client.check_end(report)


def _compare(pair, report, primary, backup):
    """The primary commits a last epoch for a handover and stays stopped, while the backup asks an arbiter that does not answer."""
    pair.etcd.kill(signal.SIGSTOP)
    primary.start(["haven-engine", "handover", "--directory=/var/lib/haven-engine", "g1"])

    def applied():
        status = pair.status(backup)
        done = status["epoch"]["applied"] == status["epoch"]["committed"]
        return status if status.get("activity") == "claiming" and done else None

    status = wait_until(applied, 60, "the last epoch to be applied")
    still = _stands_still(primary)
    # The primary waits for 10 s.
    for reader in [host.start(["xen_memory", name, _FILE]) for host, name in ((primary, "g1"), (backup, "g1--incoming"))]:
        reader.wait(300).must_succeed()
    still = still and _stands_still(primary)
    pair.etcd.kill(signal.SIGCONT)
    report.check("the guest stood still meanwhile", still)
    here, there = _pages(primary), _pages(backup)
    missing = [gfn for gfn in here if gfn not in there]
    differs = [gfn for gfn, crc in here.items() if there.get(gfn) != crc]
    report.check("the copy has every page", not missing, missing[:20])
    detail = f"epoch {status['epoch']['committed']}: {len(differs)} of {len(here)} pages differ: {differs[:20]}"
    report.check("every page is equal but for those that are written unlogged", len(differs) <= _UNLOGGED_MAX, detail)
