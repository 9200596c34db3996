# SPDX-License-Identifier: Apache-2.0
"""What replication costs beside what the wire can do: always both in one run, one after the other, as ratios."""

import statistics

from haven_lab import perftest, usage
from haven_lab.machine import HostSpec
from haven_lab.protection import GROUP, PSK, Pair, Settings
from haven_lab.registry import scenario

_HOSTS = (HostSpec("a", cpus=2), HostSpec("b", cpus=2), HostSpec("c", networks=("lan",), memory_mb=512))
# Of one WRITE of an epoch: a slot of the journal.
_SLOT_BYTES = 256 << 10
# Between epochs while something else is measured, and while epochs are.
_IDLE = "1h"
_FULL = "500ms"
# Between small epochs: time for the guest to write, and none for the engine to fall asleep.
_SMALL_INTERVAL = "2ms"
# Small epochs measured beside each run of ib_write_lat.
_SMALL_EPOCHS = 50
# What they are called, the pages of each, and the guest that makes them. The second one writes to a single page all the time, so
# that whenever an epoch comes, that page and no other is dirty.
_SMALL = (
    ("an empty epoch", 0, "mem=8M,vcpus=1,dirty=0,output=20"),
    ("an epoch of one page", 1, "mem=8M,vcpus=1,dirty=1000,block=64,locality=1,hot=0,output=20"),
)
# System calls are counted for so long.
_COUNTED_S = 10
# What is to be reached.
_GOODPUT = 0.95
_LATENCY = 2.5
_DETECT_S = 6
_GIB = 1 << 30


@scenario("rdma-goodput", "the wire phase beside ib_write_bw; CPU and system calls on both sides", hosts=_HOSTS, in_tests_run=False, alone=True, pairs=5)
def goodput(lab, report, pairs):
    # It writes all over its memory: between two epochs much more than one WRITE holds.
    pair = _started(lab, report, "mem=64M,vcpus=1,dirty=4000,locality=0,output=20")
    _goodput(pair, report, pairs)
    pair.stop()


@scenario("rdma-latency", "commits of empty and of one-page epochs beside ib_write_lat", hosts=_HOSTS, in_tests_run=False, alone=True, pairs=5)
def latency(lab, report, pairs):
    ratios, psk = {}, None
    for kind, pages, guest in _SMALL:
        pair = _started(lab, report, guest, psk)
        psk = pair.psk
        ratios[kind] = _latency(pair, report, kind, pages, pairs)
        _set_interval(pair.node("a"), _FULL)
        pair.stop()
    for kind, ratio in ratios.items():
        report.check(f"the commit of {kind} takes at most {_LATENCY} times two ways", ratio <= _LATENCY, f"{ratio:.2f}")


def _started(lab, report, guest, psk=None):
    # Pages travel as they are, and nothing else than what is measured goes on.
    words = (f"--psk={PSK}", "--codec=off")
    pair = Pair(lab, report, Settings(guest=guest, interval=_FULL, detect=f"{_DETECT_S}s", two_rails=False, credentials=words))
    pair.psk = psk
    pair.start()
    return pair


def _set_interval(owner, interval):
    owner.ask("interval", GROUP, interval)


def _epochs(pair, owner, count):
    """The statuses after each of so many epochs, as far as they can be seen."""
    seen = {}

    def look():
        status = owner.status()
        seen[status["epoch"]["committed"]] = status
        return len(seen) > count

    pair.wait(look, 300, f"{count} epochs", interval_s=0.1)
    return [seen[epoch] for epoch in sorted(seen)][1:]


def _goodput(pair, report, pairs):
    """The wire phase of large epochs against ib_write_bw with requests of the same size on one queue pair; CPU on both sides."""
    owner = pair.node("a")
    ratios, used = [], []
    for _ in range(pairs):
        _set_interval(owner, _IDLE)
        wire = perftest.bandwidth(pair.lab, _SLOT_BYTES, 100)
        _set_interval(owner, _FULL)
        before = _usage(owner)
        rates = [s["epoch"]["wire_bytes"] * 8 / s["phases"]["wire"]["last_ns"] for s in _epochs(pair, owner, 6)]
        after = _usage(owner)
        used.append({what: after[what] - before[what] for what in after})
        ratios.append(statistics.median(rates) / wire)
        report.step(f"ib_write_bw {wire:.3f} Gb/s, the wire phase {statistics.median(rates):.3f} Gb/s")
    report.figure("goodput of the wire phase / ib_write_bw, median", statistics.median(ratios), "")
    report.figure("goodput of the wire phase / ib_write_bw, spread", max(ratios) - min(ratios), "")
    gib = sum(one["bytes"] for one in used) / _GIB
    for side in ("primary", "backup"):
        report.figure(f"CPU of the {side} for a GiB replicated", sum(one[side] for one in used) / gib, "s")
    for node, side in ((owner, "primary"), (owner.other, "backup")):
        before = owner.status()
        seconds, _, calls = usage.count(node.host, [node.status()["pid"]], _COUNTED_S)
        report.figure(f"system calls of the {side} in an epoch", sum(calls.values()) / seconds / _epochs_per_s(before, owner.status()), "")
    report.figure("bytes on the wire of such an epoch", owner.status()["epoch"]["wire_bytes"] / 1e6, "MB")
    ratio = statistics.median(ratios)
    report.check(f"goodput is at least {_GOODPUT} of what ib_write_bw has", ratio >= _GOODPUT, f"{ratio:.2f}")


def _epochs_per_s(before, after):
    seconds = (after["written_ns"] - before["written_ns"]) / 1e9
    return (after["epoch"]["committed"] - before["epoch"]["committed"]) / seconds


def _usage(owner):
    """CPU seconds of engine and session so far, and bytes on the wire."""
    primary, backup = owner.status(), owner.other.status()
    return {
        "primary": usage.cpu_s(owner.host, primary["pid"]),
        "backup": usage.cpu_s(owner.other.host, backup["pid"]),
        "bytes": primary["counters"]["wire_bytes"],
    }


def _latency(pair, report, kind, pages, pairs):
    """Epochs of so many pages, from the first byte on the wire to the acknowledgement, against a round trip of ib_write_lat: the
    median ratio."""
    owner = pair.node("a")
    ratios = []
    for _ in range(pairs):
        _set_interval(owner, _IDLE)
        way_us = perftest.latency(pair.lab, 64, 200)
        _set_interval(owner, _SMALL_INTERVAL)
        commits_us = sorted((s["phases"]["wire"]["last_ns"] + s["phases"]["commit"]["last_ns"]) / 1e3 for s in _small_epochs(pair, owner, pages))
        commit_us = statistics.median(commits_us)
        ratios.append(commit_us / (2 * way_us))
        report.step(f"two ways of ib_write_lat {2 * way_us:.0f} us, the commit of {kind} {commit_us:.0f} us ({commits_us[0]:.0f} to {commits_us[-1]:.0f})")
    report.figure(f"commit of {kind} / two ways of ib_write_lat, median of {pairs}", statistics.median(ratios), "")
    report.figure(f"commit of {kind} / two ways of ib_write_lat, spread", max(ratios) - min(ratios), "")
    return statistics.median(ratios)


def _small_epochs(pair, owner, pages):
    """The statuses after _SMALL_EPOCHS epochs of exactly so many pages, as far as they can be seen. A status is written while the
    next epoch is under way: it counts only if every epoch since the status before it had that many."""
    last, seen = None, []

    def look():
        nonlocal last
        status = owner.status()
        now = (status["counters"]["epochs"], status["counters"]["total_pages"])
        if last is not None and now[0] > last[0] and now[1] - last[1] == pages * (now[0] - last[0]):
            seen.append(status)
        last = now
        return len(seen) > _SMALL_EPOCHS

    pair.wait(look, 300, f"{_SMALL_EPOCHS} epochs of {pages} pages", interval_s=0.1)
    return seen[1:]  # The first one began as the interval was another.
