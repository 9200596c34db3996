# SPDX-License-Identifier: Apache-2.0
"""The main job between two hosts over soft-RoCE: hundreds of epochs, and a copy that is equal whenever it is looked at.

Host b has huge pages set aside, host a has none: regions come from both kinds of memory on either side.
"""

import re

from haven_lab.protection import GROUP, Pair, Settings, SYNC_TIMEOUT_S
from haven_lab.registry import scenario

# The guest that talks to the world, one that changes a few bytes all over its memory, and one that rewrites a few pages.
_GUEST = "mem=256M,vcpus=2,dirty=1000,locality=0.8,hot=0.02,output=20"
_OTHERS = ("name=g2,mem=32M,dirty=200,block=64,locality=0,output=0", "name=g3,mem=32M,dirty=2000,hot=0.01,locality=1,fill=1,output=0")

# More than b's regions need: a journal for two epochs as the backup, staging and image of one each as the primary.
_HUGE_PAGES = 24
_EPOCH_KIB = 8 << 10


@scenario("rdma-protect", "guests with several write patterns over rxe; the copy is equal at every sampled moment", epochs=300)
def protect(lab, report, epochs):
    pair = Pair(lab, report, Settings(guest=_GUEST, others=_OTHERS, epoch_bytes=f"{_EPOCH_KIB}K"))
    lab.host("b").run(f"sysctl -q vm.nr_hugepages={_HUGE_PAGES}")
    free = _free_huge_pages(pair.node("b"))
    report.check("host b has set huge pages aside", free == _HUGE_PAGES, f"{free} of {_HUGE_PAGES}")
    pair.start()
    for sample, way in enumerate(("handover", "promote")):
        owner = pair.node("ab"[sample % 2])
        _carry(pair, report, owner, epochs // 2)
        _check_huge_pages(report, pair.node("b"))
        report.step(f"the copy on {owner.other.name} is tried: {way}")
        if way == "handover":
            owner.ask("handover", f"--timeout={SYNC_TIMEOUT_S}s", GROUP, timeout_s=SYNC_TIMEOUT_S)
        else:
            owner.other.ask("promote", GROUP)
        pair.expect_promoted(owner.other)
        for name in ("g2", "g3"):
            found = owner.other.report(name)
            report.check(f"the copy of {name} is equal as well", found.verdict == "equal", found.finding)
        pair.expect_protected(owner.other, SYNC_TIMEOUT_S)
        report.check("the new owner is protected by the old one", owner.other.ask("status", "--check", check=False).code == 0)
    pair.stop()


def _carry(pair, report, owner, epochs):
    """Waits for so many epochs of the session, all acknowledged."""
    before = pair.expect_protected(owner)
    wanted = before["epoch"]["committed"] + epochs
    status = pair.wait(lambda: _reached(owner, wanted), 600, f"{epochs} epochs", interval_s=1)
    seconds = (status["written_ns"] - before["written_ns"]) / 1e9
    report.figure(f"epochs of {owner.name} to {owner.other.name}", (status["epoch"]["committed"] - before["epoch"]["committed"]) / seconds, "1/s")
    report.check(
        f"{epochs} epochs over one link", status["link"] == before["link"] and status["session"] == before["session"],
        f"links {before['link']} to {status['link']}")
    report.check("output flows", pair.expect_flow(owner) > 0)


def _reached(owner, epoch):
    status = owner.status()
    return status if status and status["epoch"]["committed"] >= epoch else None


def _check_huge_pages(report, node):
    """What serves the group on a node, as primary or backup, has its large regions on huge pages."""
    status = node.status()
    process = node.host.get(f"/proc/{status['pid']}/status").decode()
    held_kib = int(re.search(r"^HugetlbPages:\s+(\d+) kB", process, re.MULTILINE).group(1))
    free = _free_huge_pages(node)
    # An epoch at least is in registered memory on either side.
    taken = held_kib >= _EPOCH_KIB and free < _HUGE_PAGES
    report.check(f"the {status['role']} on {node.name} has its regions on huge pages", taken, f"{held_kib} KiB, {free} of {_HUGE_PAGES} pages left")


def _free_huge_pages(node):
    return int(re.search(r"^HugePages_Free:\s+(\d+)", node.host.get("/proc/meminfo").decode(), re.MULTILINE).group(1))
