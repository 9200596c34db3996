# SPDX-License-Identifier: Apache-2.0
"""A real guest on a real Xen host: what replication sees of it, and what it costs."""

import re

from haven_lab.machine import HostSpec
from haven_lab.registry import scenario
from haven_lab.xen_guest import XenGuest

_HOSTS = (HostSpec("a", kind="xen", memory_mb=2048),)


@scenario("xen-probe", "every page that a guest writes is found, and its memory equals the copy", hosts=_HOSTS, epochs=10)
def probe(lab, report, epochs):
    _probe(lab, report, epochs, XenGuest())


@scenario("xen-probe-hvm", "the same of a guest with emulated hardware, and what its QEMU takes", hosts=_HOSTS, in_tests_run=False, epochs=10)
def probe_hvm(lab, report, epochs):
    _probe(lab, report, epochs, XenGuest(kind="hvm"))


def _probe(lab, report, epochs, guest):
    host = lab.host("a")
    guest.create(host)
    guest.wait_for_turn(host, 3)
    report.step("the guest is up")
    before = guest.turns(host)
    found = host.run(["xen_probe", guest.name, epochs, 200], timeout_s=600, check=False)
    report.check("all RAM of the suspended guest equals the copy", found.code == 0, (found.out + found.err)[-500:])
    pages = int(re.search(r"dirty_pages (\d+)", found.out).group(1))
    report.check("pages were dirtied", pages > 0, pages)
    report.figure("dirty pages of an epoch", pages / epochs, "pages")
    for step, median in re.findall(r"(\w+)_us p50=(\d+)", found.out):
        report.figure(f"{step}, median", int(median) / 1000, "ms")
    guest.wait_for_turn(host, before + 3)
    report.check("the guest goes on, and found no damage", not guest.damage(host), guest.damage(host))

    # Whoever takes the log away is noticed. Time enough between two epochs for a slow machine to do it.
    robbed = host.start(["xen_probe", guest.name, 3, 20000])
    robbed.wait_for_output("copied", timeout_s=300)
    host.run(["xen_probe", "--steal", guest.name])
    found = robbed.wait(timeout_s=600)
    report.check("a log that was taken away is noticed", "lost guest" in found.out, (found.out + found.err)[-500:])
    report.check("all RAM equals the copy even so", found.code == 0, (found.out + found.err)[-500:])
