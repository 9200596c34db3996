# SPDX-License-Identifier: Apache-2.0
"""The engine itself in a host, without a network: whether it runs on this kernel with these libraries."""

import re

from haven_lab.machine import HostSpec
from haven_lab.registry import scenario
from haven_lab.wait import wait_until

_A = "/run/haven/a"
_B = "/run/haven/b"


@scenario("engine-smoke", "a synthetic guest protected over shared memory within one host", hosts=[HostSpec("a")])
def smoke(lab, report):
    host = lab.host("a")
    host.run(f"mkdir -p {_A} {_B} /run/haven/arbiter && touch /run/haven/arbiter/haven-arbiter")
    engine, arbiter = "haven-engine", "--arbiter=file:/run/haven/arbiter"
    host.start([engine, "backup", f"--directory={_B}", "--node=b", f"--listen=unix:{_B}/backup.sock", arbiter])
    wait_until(lambda: host.run(["test", "-S", f"{_B}/backup.sock"], check=False).code == 0, 60, "the backup's socket")
    guest = "synthetic:name=g1,mem=16M,dirty=1000,output=50"
    # Emulated processors take seconds for the memory of large epochs, and are late for the usual heartbeats.
    sizes = ["--epoch-bytes=16M", "--detect=2s"]
    to = f"--backup=unix:{_B}/backup.sock"
    guard = host.start([engine, "protect", guest, f"--directory={_A}", "--node=a", to, arbiter, *sizes])

    def epochs():
        if not guard.running:
            raise RuntimeError(f"protect ended: {guard.err}")
        status = host.run([engine, "status", f"--directory={_A}"], check=False).out
        carried = re.search(r"total +(\d+) epochs", status)
        return int(carried.group(1)) if carried else 0

    wait_until(lambda: epochs() >= 10, 120, "ten epochs", interval_s=1)
    check = [engine, "status", "--check", f"--directory={_A}"]
    # Emulated processors may pause long enough for a link to be made anew: protected again within the deadline counts.
    wait_until(lambda: host.run(check, check=False).code == 0, 60, "status --check to say protected")
    report.check("the guest is protected, and at least ten epochs have been carried", epochs() >= 10, f"{epochs()} epochs")
