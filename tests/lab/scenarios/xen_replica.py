# SPDX-License-Identifier: Apache-2.0
"""The waiting copy of a guest on a real Xen host, by xen_replica_trial: no engine, no network, one host, one guest."""

import re

from haven_lab.machine import HostSpec
from haven_lab.registry import scenario
from haven_lab.wait import wait_until

_HOSTS = (HostSpec("a", kind="xen", memory_mb=2048),)
_TRIAL = "/lab/bin/xen_replica_trial"
_GUEST = "10.8.0.2"
# Emulated, and on a machine that may be busy.
_PATIENCE_S = 400

_SETUP = f"""
ip link add xenbr0 type bridge && ip link set xenbr0 up && ip address add 10.8.0.1/24 dev xenbr0
cat >/tmp/web1.cfg <<END
name = "web1"
type = "pvh"
kernel = "/guest/vmlinuz"
ramdisk = "/guest/initrd.gz"
extra = "console=hvc0 quiet lab.address={_GUEST}/24 lab.pace=1 lab.kb=4"
memory = 128
vcpus = 2
vif = ["mac=00:16:3e:00:00:01,bridge=xenbr0"]
END
xl create -q /tmp/web1.cfg
"""


def _domains(host):
    """The names of the domains, with their states as `xl list` shows them."""
    rows = [line.split() for line in host.run("xl list", timeout_s=_PATIENCE_S).out.splitlines()[1:]]
    return {row[0]: row[4] for row in rows}


def _count(host):
    """How often the guest has done its work since it booted, or None if it does not answer."""
    answer = host.run(f"timeout 20 busybox wget -q -O - http://{_GUEST}/count", timeout_s=_PATIENCE_S, check=False)
    return int(answer.out) if answer.code == 0 and answer.out.strip().isdigit() else None


def _goes_on(host, after):
    """Waits until the guest has counted past a number."""
    return wait_until(lambda: (_count(host) or 0) > after, _PATIENCE_S, f"the guest to count past {after}")


def _gone(host):
    return "web1--incoming" not in _domains(host)


def _try(host, what, options="", check=True):
    return host.run([_TRIAL, what, "web1", *([options] if options else [])], timeout_s=_PATIENCE_S, check=check)


def _figure(result, name):
    return float(re.search(rf"^{name}=([0-9.e+-]+)$", result.out, re.MULTILINE).group(1))


def _abandoned(host, report):
    _try(host, "abandon")
    report.check("an abandoned copy is gone", _gone(host))
    orphan = _try(host, "orphan")
    report.check("a copy whose toolstack was killed takes no epoch", "has ended" in orphan.out, orphan.out)
    report.check("and is gone, too", _gone(host))


def _killed(host, report):
    holding = host.start([_TRIAL, "hold", "web1"])
    holding.wait_for_output(r"domid=\d+", _PATIENCE_S)
    report.check("the copy waits, paused", "p" in _domains(host).get("web1--incoming", ""))
    refused = _try(host, "abandon", check=False)
    report.check("nobody else gets hold of the guest", refused.code == 1 and "has hold of it" in refused.err, refused.err)
    host.run("pkill -9 -x xen_replica_tri")
    wait_until(lambda: _gone(host), _PATIENCE_S, "the copy of a killed process to be destroyed")
    report.check("the copy of a killed process is destroyed", True)
    holding = host.start([_TRIAL, "hold", "web1"])
    holding.wait_for_output(r"domid=\d+", _PATIENCE_S)
    host.run("kill -9 $(pgrep -f 'xl migrate-receive' | head -n 1) $(pgrep -x xen_replica_tri)")
    holding.wait(_PATIENCE_S)
    left = _domains(host).get("web1--incoming", "")
    report.check("what both leave that were killed together is paused", "p" in left, left)
    refused = _try(host, "abandon", check=False)
    report.check("a second copy is refused with the remedy", refused.code == 1 and "xl destroy" in refused.err, refused.err)
    host.run("xl destroy web1--incoming", timeout_s=_PATIENCE_S)


def _refused(host, report):
    bridge = _try(host, "abandon", "bridge:xenbr0=nowhere", check=False)
    report.check("a missing bridge is named", bridge.code == 1 and "no bridge nowhere" in bridge.err, bridge.err)
    free = int(re.search(r"free_memory *: (\d+)", host.run("xl info").out).group(1))
    host.run(f"sed 's/web1/filler/; s/^memory.*/memory = {free - 100}/; /^vif/d' /tmp/web1.cfg >/tmp/filler.cfg")
    host.run("xl create -p -q /tmp/filler.cfg", timeout_s=_PATIENCE_S)
    memory = _try(host, "abandon", check=False)
    told = "RESOURCE_EXHAUSTED" in memory.err and "MiB free" in memory.err
    report.check("too little memory is told as such", memory.code == 1 and told, memory.err)
    host.run("xl destroy filler", timeout_s=_PATIENCE_S)
    report.check("nothing is left of what could not be built", set(_domains(host)) == {"Domain-0", "web1"})


def _promoted(host, report, kind):
    before = _count(host)
    result = _try(host, "promote")
    names = _domains(host)
    report.check(f"{kind}: the copy has the guest's name", set(names) == {"Domain-0", "web1"}, str(names))
    _goes_on(host, before)
    report.check(f"{kind}: the guest goes on, after the end of the process that promoted it", True)
    console = host.run("timeout 5 xl console web1", check=False, timeout_s=_PATIENCE_S).out
    report.check(f"{kind}: its data is whole", "damaged" not in console and "tick" in console, console[-200:])
    for name in ("build_ms", "suspend_ms", "copy_ms", "prepared_ms", "running_ms"):
        report.figure(f"{kind}: {name[:-3]}", _figure(result, name), "ms")
    # On one processor the guest runs first, and who promoted it sees that later.
    unpaused = int(re.search(r"unpaused_us=(\d+)", result.err).group(1)) / 1000
    report.figure(f"{kind}: from the decision to the guest's first instruction", _figure(result, "prepared_ms") + unpaused, "ms")


@scenario("xen-replica", "a waiting copy on a Xen host: built, abandoned, orphaned, refused, promoted twice", hosts=_HOSTS, in_tests_run=False)
def replica(lab, report):
    host = lab.host("a")
    host.run(_SETUP, timeout_s=_PATIENCE_S)
    _goes_on(host, 0)
    _abandoned(host, report)
    _killed(host, report)
    _refused(host, report)
    before = _count(host)
    _goes_on(host, before)
    report.check("the original has gone on all the time", True)
    _promoted(host, report, "first")
    # What a failover leaves must be a guest that can be protected.
    _promoted(host, report, "again")
