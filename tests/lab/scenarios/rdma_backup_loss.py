# SPDX-License-Identifier: Apache-2.0
"""A backup that dies: by the arbiter's word the guest goes on alone, and never without it."""

import time

from haven_lab.protection import Pair, SYNC_TIMEOUT_S
from haven_lab.registry import scenario

# Without a word of the arbiter nothing may leave for so long.
_HELD_S = 8


@scenario("rdma-backup-loss", "the backup's power is cut: with a grant the guest goes on alone, without one its output is held")
def backup_loss(lab, report):
    pair = Pair(lab, report)
    pair.start()
    owner, guest = pair.node("a"), None
    for granted in (True, False):
        pair.expect_flow(owner)
        guest = guest or pair.outside.last.pid
        if not granted:
            pair.hold_arbiter()
        report.step(f"the power of host b is cut, the arbiter {'answers' if granted else 'is silent'}")
        pair.lab.host("b").power_cut()
        cut_s = time.monotonic()
        if not granted:
            pair.expect_held(_HELD_S)
            pair.expect_state(owner, "paused")
            report.check("the status says who has to speak", "arbiter" in owner.status()["reason"], owner.status()["reason"])
            pair.release_arbiter()
        alone = pair.wait(lambda: _solo(pair, owner), 90, "the register to say solo", interval_s=0.3)
        flow_s = pair.expect_flow(owner)
        report.figure(f"output flows again{'' if granted else ', the arbiter silent for a while'}", flow_s - cut_s, "s")
        report.check("the guest runs on unprotected, by the register's word", alone["owner"].startswith("a."), alone)
        pair.replace_host("b")
        pair.expect_protected(owner, SYNC_TIMEOUT_S)
        pair.expect_flow(owner)
        report.check("it is protected again and was never stopped for good", pair.outside.last.pid == guest, f"process {guest}")
    pair.stop()


def _solo(pair, owner):
    register = pair.register()
    return register if register["mode"] == "solo" and owner.status()["state"] in ("unprotected", "syncing") else None
