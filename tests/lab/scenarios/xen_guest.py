# SPDX-License-Identifier: Apache-2.0
"""A real guest on a real Xen host: what replication sees of it, and what it costs."""

import re
import time

from haven_lab.machine import HostSpec
from haven_lab.registry import scenario
from haven_lab.xen_guest import XenGuest
from haven_lab.xen_pair import XenPair

_HOSTS = (HostSpec("a", kind="xen", memory_mb=2048),)


@scenario("xen-probe", "every page that a guest writes is found, and its memory equals the copy", hosts=_HOSTS, epochs=10)
def probe(lab, report, epochs):
    host = lab.host("a")
    guest = XenGuest()
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


_PAIR = (
    HostSpec("a", kind="xen", memory_mb=2048),
    HostSpec("b", kind="xen", memory_mb=2048),
    HostSpec("c", networks=("lan",), memory_mb=512),
)


@scenario("xen-failover", "a guest on Xen goes on when its host loses power", hosts=_PAIR)
def failover(lab, report):
    pair = XenPair(lab)
    pair.start()
    guest = XenGuest()
    guest.create(pair.a)
    guest.wait_for_turn(pair.a, 3)
    report.step("the guest is up")
    pair.protect(guest)
    status = pair.wait_until_protected(epochs=3)
    report.step(f"it is protected: {status['epoch']['committed']} epochs")
    guest.wait_for_turn(pair.a, guest.turns(pair.a) + 2)
    committed = pair.status(pair.a)["epoch"]["committed"]
    seen = guest.turns(pair.a)
    pair.a.power_cut()
    cut_s = time.monotonic()
    guest.wait_for_turn(pair.b, 1)
    report.figure("power cut to the guest's next word", time.monotonic() - cut_s, "s")
    promoted = [event for event in pair.events(pair.b) if event["to"] == "promoted"]
    report.check("nothing that was committed is lost", promoted and promoted[-1]["epoch"] >= committed, f"{promoted}, before {committed}")
    first = guest.first_turn(pair.b)
    # The turns that it told of in epochs that were never committed are told again.
    report.check("it goes on where it was", 0 < first <= seen + 1, f"turn {first} after turn {seen}")
    guest.wait_for_turn(pair.b, first + 5)
    report.check("its memory is sound", not guest.damage(pair.b), guest.damage(pair.b))
    report.check("it is there by its name", guest.is_there(pair.b), pair.b.run("xl list").out)
