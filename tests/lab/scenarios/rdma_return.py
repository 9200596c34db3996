# SPDX-License-Identifier: Apache-2.0
"""Old primaries that come back after the backup was promoted, with or without their memory."""

from haven_lab.protection import GROUP, Pair, SYNC_TIMEOUT_S
from haven_lab.registry import scenario


@scenario("rdma-return", "the old primary comes back after the promotion: it is deposed, says so, and becomes the new backup")
def come_back(lab, report):
    pair = Pair(lab, report)
    pair.start()
    old = pair.node("a")

    report.step("host a stands still, as one whose hypervisor hangs, and goes on after the promotion as if nothing had been")
    old.host.freeze()
    pair.expect_promoted(old.other)
    pair.expect_flow(old.other)
    old.host.thaw()
    pair.expect_gone(old)
    _check_event(report, old)
    pair.expect_protected(old.other, SYNC_TIMEOUT_S)
    report.check("the old primary is the new backup", _holds_replica(old))

    owner = old.other
    report.step("the power of host b is cut; it boots after the promotion, with the record of its group on its disk")
    owner.host.power_cut()
    pair.expect_promoted(old)
    owner.host.power_on()
    owner.host.connect()
    report.check("the record has outlived the power cut", owner.has_record())
    owner.begin()
    refused = pair.wait(lambda: _refusal(old), 60, f"{old.name} to be told that a copy is left on {owner.name}", interval_s=0.5)
    report.check("a host with a copy of the group takes no replica of it", True, refused)
    owner.start_guard()
    pair.expect_gone(owner, "none of its guests exists here any more", code=0)
    pair.expect_protected(old, SYNC_TIMEOUT_S)
    report.check("the old primary is the new backup", _holds_replica(owner))
    pair.stop()


def _check_event(report, node):
    event = next((e for e in reversed(node.events()) if e["to"] == "deposed"), None)
    report.check(f"an event on {node.name} says that it was deposed, and by whom", event is not None, event and event["cause"])


def _holds_replica(node):
    status = node.status()
    return status.get("role") == "backup" and status["group"] == GROUP


def _refusal(owner):
    error = owner.status().get("last_error", "")
    return error if "is still on this host" in error else None
