# SPDX-License-Identifier: Apache-2.0
"""Primaries that die: their host's power is cut, or their processes are killed, at random moments."""

import random
import statistics
import time

from haven_lab.protection import Pair, SYNC_TIMEOUT_S
from haven_lab.registry import scenario

# "power": of the host; "both": engine and guard by kill -9; "engine": the engine alone.
_KINDS = ("power", "both", "engine", "power", "power")
# A cut comes up to this long after the guest is protected.
_MOMENT_S = 2.0


@scenario("rdma-failover", "the primary's power is cut and its processes are killed, at random moments", cuts=5)
def failover(lab, report, cuts):
    _rounds(lab, report, cuts, random.Random())


@scenario("rdma-soak", "the same for a long time", in_tests_run=False, cuts=50)
def soak(lab, report, cuts):
    _rounds(lab, report, cuts, random.Random())


def _rounds(lab, report, cuts, moments):
    pair = Pair(lab, report)
    pair.start()
    owner = pair.node("a")
    times = {"detection": [], "promotion": [], "output": []}
    for number in range(cuts):
        kind = _KINDS[number % len(_KINDS)]
        pair.watch(moments.uniform(0, _MOMENT_S))
        report.step(f"round {number + 1}: {kind} of host {owner.name}")
        if kind == "engine":
            owner = _engine_alone(pair, report, owner)
        else:
            owner = _whole_primary(pair, report, owner, kind, times)
        pair.expect_protected(owner, SYNC_TIMEOUT_S)
    for name, values in times.items():
        report.figure(f"{name}, median of {len(values)}", statistics.median(values), "s")
        report.figure(f"{name}, longest", max(values), "s")
    pair.stop()


def _whole_primary(pair, report, owner, kind, times):
    """Guard and engine are gone, with or without their host. The new owner."""
    committed = owner.status()["epoch"]["committed"]
    if kind == "power":
        owner.host.power_cut()
    else:
        owner.kill("guard", "engine")
    cut_s = time.monotonic()
    heir = owner.other
    output_s = pair.expect_promoted(heir)
    promoting, promoted = pair.promotion_of(heir)
    report.check("nothing that was acknowledged is lost", promoted["epoch"] >= committed, f"epoch {promoted['epoch']}, known before {committed}")
    times["detection"].append(pair.event_s(promoting) - cut_s)
    times["promotion"].append(pair.event_s(promoted) - pair.event_s(promoting))
    times["output"].append(output_s - cut_s)
    if kind == "power":
        pair.replace_host(owner.name)
    else:
        owner.start_guard()
        pair.expect_gone(owner)
    return heir


def _engine_alone(pair, report, owner):
    """The guard goes on, or the backup is promoted, as the register says. The owner."""
    term = int(pair.register()["term"])
    generation = max(pair.outside.first_s)
    owner.kill("engine")
    now = pair.expect_owner()
    pair.expect_flow(now)
    report.check("one copy runs, the register's", int(pair.register()["term"]) - term == max(pair.outside.first_s) - generation, f"owner {now.name}")
    if now is not owner:
        pair.expect_gone(owner)
    return now
