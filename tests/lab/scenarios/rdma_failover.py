# SPDX-License-Identifier: Apache-2.0
"""Primaries that die: their host's power is cut, or their processes are killed, at random moments."""

import random
import statistics
import time

from haven_lab.protection import Pair, SYNC_TIMEOUT_S
from haven_lab.registry import scenario

# "power": of the host; "both": engine and guard by kill -9; "engine": the engine alone.
_KINDS = ("power", "both", "engine", "power", "power")
_TOLD = {"power": "power cut", "both": "engine and guard killed", "engine": "engine killed"}
# A cut comes up to this long after the guest is protected.
_MOMENT_S = 2.0


@scenario("rdma-failover", "the primary's power is cut and its processes are killed, at random moments", cuts=5)
def failover(lab, report, cuts):
    _rounds(lab, report, cuts)


@scenario("rdma-soak", "the same for a long time", in_tests_run=False, cuts=50)
def soak(lab, report, cuts):
    _rounds(lab, report, cuts)


class Times:
    """What was cut, and the seconds from then to the suspicion (detection), from there until the copy ran (promotion), and from
    the cut to the copy's first packet outside (output). bench/report_failover.py makes a table of these figures."""

    def __init__(self):
        self._rounds = {}

    def add(self, kind, **seconds):
        self._rounds.setdefault(kind, []).append(seconds)

    def tell(self, report):
        promoted = [one for rounds in self._rounds.values() for one in rounds if one]
        for kind, rounds in [*self._rounds.items(), ("all that were promoted", promoted)]:
            report.figure(f"{kind}: rounds", len(rounds), "")
            for name in ("detection", "promotion", "output"):
                values = [one[name] for one in rounds if one]
                if values:
                    report.figure(f"{kind}: {name}, median", statistics.median(values), "s")
                    report.figure(f"{kind}: {name}, longest", max(values), "s")


def _rounds(lab, report, cuts):
    pair = Pair(lab, report)
    pair.start()
    owner = pair.node("a")
    moments = random.Random(lab.seed)
    times = Times()
    for number in range(cuts):
        kind = _KINDS[number % len(_KINDS)]
        pair.watch(moments.uniform(0, _MOMENT_S))
        report.step(f"round {number + 1}: {_TOLD[kind]}, host {owner.name}")
        if kind == "engine":
            owner = _engine_alone(pair, report, owner, times)
        else:
            owner = _whole_primary(pair, report, owner, kind, times)
        pair.expect_protected(owner, SYNC_TIMEOUT_S)
    times.tell(report)
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
    promoted = _note_promotion(pair, heir, times, _TOLD[kind], cut_s, output_s)
    report.check("nothing that was acknowledged is lost", promoted["epoch"] >= committed, f"epoch {promoted['epoch']}, known before {committed}")
    if kind == "power":
        pair.replace_host(owner.name)
    else:
        owner.start_guard()
        pair.expect_gone(owner)
    return heir


def _note_promotion(pair, heir, times, kind, cut_s, output_s):
    """The event of its end."""
    promoting, promoted = pair.promotion_of(heir)
    begin_s, end_s = pair.event_s(promoting), pair.event_s(promoted)
    times.add(kind, detection=begin_s - cut_s, promotion=end_s - begin_s, output=output_s - cut_s)
    return promoted


def _engine_alone(pair, report, owner, times):
    """The guard goes on, or the backup is promoted, as the register says. The owner."""
    term = int(pair.register()["term"])
    generation = max(pair.outside.first_s)
    owner.kill("engine")
    cut_s = time.monotonic()
    now = pair.expect_owner()
    pair.expect_flow(now)
    newest = max(pair.outside.first_s)
    report.check("one copy runs, the register's", int(pair.register()["term"]) - term == newest - generation, f"owner {now.name}")
    if now is owner:
        times.add(f"{_TOLD['engine']}, the guard goes on")
    else:
        _note_promotion(pair, now, times, f"{_TOLD['engine']}, the backup promoted", cut_s, pair.outside.first_s[newest])
        pair.expect_gone(owner)
    return now
