# SPDX-License-Identifier: Apache-2.0
"""What a pair costs between two epochs: how often each side wakes, and how many system calls it makes."""

from haven_lab import usage
from haven_lab.machine import HostSpec
from haven_lab.protection import DIRECTORY, ENGINE, GROUP, PSK, Pair, Settings
from haven_lab.registry import scenario

# Room for the engine's usual sizes.
_HOSTS = (HostSpec("a", memory_mb=2048), HostSpec("b", memory_mb=2048), HostSpec("c", networks=("lan",), memory_mb=512))
# The engine's own period with its usual detection time, which emulated hosts can not have.
_HEARTBEAT_S = 0.01
_COUNTED_S = 10
# An epoch that was under way has long ended by then.
_QUIET_S = 2
# Of a side, in a heartbeat period.
_WAKINGS = 2
_CALLS = 4


@scenario("rdma-idle", "between two epochs each side wakes at most twice in a heartbeat period, for at most four system calls", hosts=_HOSTS, alone=True)
def idle(lab, report):
    words = (f"--psk={PSK}", "--codec=off", f"--heartbeat={_HEARTBEAT_S}s")
    guest = "mem=8M,dirty=1,output=1,vcpus=1"
    pair = Pair(lab, report, Settings(guest=guest, detect="6s", epoch_bytes="256M", credentials=words))
    pair.start()
    owner = pair.node("a")
    owner.ask("interval", GROUP, "1h")
    seen = {}
    before = pair.wait(lambda: _resting(owner, seen), 60, "the last epoch to be over", interval_s=0.3)
    for node, side in ((owner, "primary"), (owner.other, "backup")):
        seconds, wakings, calls = usage.count(node.host, _processes(node), _COUNTED_S)
        most_made = sorted(calls.items(), key=lambda one: -one[1])[:12]
        report.step(f"the {side}'s calls: {', '.join(f'{thread} {number}: {times}' for (thread, number), times in most_made)}")
        for what, number, most in (("wakings", wakings, _WAKINGS), ("system calls", sum(calls.values()), _CALLS)):
            share = number * _HEARTBEAT_S / seconds
            report.figure(f"{what} of the {side} in a heartbeat period", share, "")
            report.check(f"the {side} has at most {most} {what} in a heartbeat period", share <= most, f"{number} in {seconds:.1f} s")
    after = owner.status()
    same = all(before[name] == after[name] for name in ("session", "link", "pid")) and before["epoch"]["committed"] == after["epoch"]["committed"]
    report.check("meanwhile there was one link, and no epoch", same and after["link_state"] == "up", f"epoch {after['epoch']['committed']}")
    owner.ask("interval", GROUP, "100ms")
    pair.stop()


def _resting(owner, seen):
    """The status, once no epoch has been committed for a while: one that was due already still came when the interval had changed."""
    status = owner.status()
    epoch = status["epoch"]
    if epoch["interval_ns"] < 1e12 or epoch["in_flight"] != 0 or epoch["committed"] != seen.get("committed"):
        seen.update(committed=epoch["committed"], written_ns=status["written_ns"])
        return None
    return status if status["written_ns"] > seen["written_ns"] + _QUIET_S * 1e9 else None


def _processes(node):
    """All of the engine's on a node: listener, guard and what does the work. The guest is none."""
    guard = node.file(f"{GROUP}.lock")
    listener = node.host.run(["pgrep", "-f", f"^{ENGINE} backup .*{DIRECTORY}"]).out
    return sorted({str(node.status()["pid"]), guard.strip(), *listener.split()})
