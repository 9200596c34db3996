# SPDX-License-Identifier: Apache-2.0
"""What links do: they break for a while or for good, one way or both, lose frames and mix up their order."""

import time

from haven_lab.protection import Pair, Settings, SYNC_TIMEOUT_S
from haven_lab.registry import scenario

_ALL = ("lan", "rail0", "rail1")
_DATA = ("rail0", "rail1")
# Cuts of these lengths, in seconds.
_CUTS = (0.5, 1, 2, 5)
_LOSSES = (0.01, 0.05, 0.2)
_GUEST = "mem=24M,dirty=400,output=20,vcpus=2"
_GUEST_BYTES = 24 << 20


@scenario("rdma-links", "links cut for a while, one way, by rails; frames lost and reordered; the arbiter cut off as well")
def links(lab, report):
    pair = Pair(lab, report, Settings(guest=_GUEST, detect="4s", rearm="6s", pause_budget="6s"))
    pair.start()
    owner = pair.node("a")
    _short(pair, report, owner, 1)
    _one_way(pair, report, owner, "a", "b", 1)
    _rails(pair, report, owner)
    _traffic(pair, report, owner, loss=0.05)
    _traffic(pair, report, owner, reorder=0.2, reorder_us=5000)
    owner = _long(pair, report, owner)
    owner = _arbiter_too(pair, report, owner)
    pair.stop()


@scenario("rdma-links-all", "every length of cut, each way, and every share of loss", in_tests_run=False)
def links_all(lab, report):
    pair = Pair(lab, report, Settings(guest=_GUEST, detect="8s", rearm="10s", pause_budget="10s"))
    pair.start()
    owner = pair.node("a")
    for seconds in _CUTS:
        _short(pair, report, owner, seconds)
        for source, target in ("ab", "ba"):
            _one_way(pair, report, owner, source, target, seconds)
    for loss in _LOSSES:
        _traffic(pair, report, owner, loss=loss)
    _traffic(pair, report, owner, reorder=0.5, reorder_us=20_000)
    pair.stop()


@scenario("rdma-links-long", "every length of cut with a shorter detection time: the arbiter decides", in_tests_run=False)
def links_long(lab, report):
    pair = Pair(lab, report, Settings(guest=_GUEST, detect="400ms", rearm="400ms", pause_budget="2s"))
    pair.start()
    owner = pair.node("a")
    for seconds in (*_CUTS, 10):
        owner = _decided(pair, report, owner, lambda s=seconds: _cut_for(pair, s))
    pair.stop()


def _cut_for(pair, seconds, networks=_ALL):
    pair.cut(*networks)
    pair.watch(seconds)
    pair.heal()


def _short(pair, report, owner, seconds):
    """Shorter than the detection time: output is held, then protection re-armed with the delta."""
    before = pair.expect_protected(owner)
    report.step(f"all links are cut for {seconds} s")
    _cut_for(pair, seconds)
    healed_s = time.monotonic()
    after = pair.expect_protected(owner)
    report.figure(f"protected after a cut of {seconds} s", time.monotonic() - healed_s, "s")
    _check_same(report, before, after)
    report.figure(f"delta after a cut of {seconds} s", _delta_bytes(after), "bytes")


def _check_same(report, before, after):
    same = after["session"] == before["session"] and after["register"] == before["register"]
    report.check("the same session goes on, and the register is as it was", same, f"link {before['link']}, then {after['link']}")
    if after["link"] != before["link"]:
        report.check("a delta was sent, not the whole memory", _delta_bytes(after) < _GUEST_BYTES / 2, f"{_delta_bytes(after)} bytes")


def _delta_bytes(status):
    """What the last re-arm sent."""
    return status["counters"]["delta_pages"] * 4096


def _one_way(pair, report, owner, source, target, seconds):
    before = pair.expect_protected(owner)
    report.step(f"nothing passes from {source} to {target} for {seconds} s")
    for network in _ALL:
        pair.lab.hub.one_way(f"{source}.{network}", f"{target}.{network}", cut=True)
    pair.watch(seconds)
    pair.heal()
    _check_same(report, before, pair.expect_protected(owner))


def _rails(pair, report, owner):
    """With a rail or the control channel alive nobody is suspected; without a rail for data the primary goes on alone."""
    before = pair.expect_protected(owner)
    report.step("the first rail is cut for longer than the detection time")
    pair.cut("rail0")
    pair.watch(6)
    _check_same(report, before, pair.expect_protected(owner))
    report.step("the control channel is cut as well: the second rail is left")
    pair.heal()
    pair.cut("rail0", "lan")
    pair.watch(6)
    _check_same(report, before, pair.expect_protected(owner))
    pair.heal()
    pair.expect_protected(owner)
    report.step("both rails are cut for good, the control channel lives")
    pair.cut(*_DATA)
    pair.wait(lambda: pair.register()["mode"] == "solo", 60, "the register to say solo", interval_s=0.3)
    pair.expect_flow(owner)
    report.check("the primary goes on alone, and nobody was promoted", pair.owner() is owner)
    pair.heal()
    pair.expect_protected(owner, SYNC_TIMEOUT_S)


def _traffic(pair, report, owner, **rule):
    """Frames are lost, or overtake each other, on both rails."""
    before = pair.expect_protected(owner)
    report.step(f"on both rails: {rule}")
    for rail in _DATA:
        pair.lab.hub.both_ways(f"a.{rail}", f"b.{rail}", **rule)
    pair.watch(5)
    after = owner.status()
    pair.heal()
    counters = [pair.lab.hub.counters("a.rail0", "b.rail0"), pair.lab.hub.counters("b.rail0", "a.rail0")]
    hit = sum(one["lost"] + one["reordered"] for one in counters)
    report.check("frames were hit", hit > 0, f"{hit} frames; {after['epoch']['committed'] - before['epoch']['committed']} epochs meanwhile")
    now = pair.expect_protected(owner, SYNC_TIMEOUT_S)
    report.check("the owner is the same", now["register"]["owner"] == before["register"]["owner"], f"link {before['link']}, then {now['link']}")


def _decided(pair, report, owner, fault):
    """Longer than the detection time: whoever the register names goes on; the other one is its backup in the end."""
    pair.expect_protected(owner, SYNC_TIMEOUT_S)
    term = int(pair.register()["term"])
    generation = max(pair.outside.first_s)
    fault()
    now = pair.expect_owner()
    register = pair.register()
    promoted = max(pair.outside.first_s) - generation
    report.check("one copy runs, the register's", int(register["term"]) - term == promoted, f"{now.name}, term {term}, then {register['term']}")
    if now is not owner:
        pair.expect_gone(owner)
    pair.expect_protected(now, SYNC_TIMEOUT_S)
    return now


def _long(pair, report, owner):
    report.step("all links are cut until the arbiter has decided")

    def fault():
        term = int(pair.register()["term"])
        pair.cut()
        pair.wait(lambda: int(pair.register()["term"]) > term or pair.register()["mode"] == "solo", 90, "a decision", interval_s=0.3)
        pair.watch(3)
        pair.heal()

    return _decided(pair, report, owner, fault)


def _arbiter_too(pair, report, owner):
    """Nobody can ask anybody: output is held, then the guest paused, until the arbiter is there again."""
    report.step("all links are cut, and the arbiter is cut off as well")

    def fault():
        pair.cut()
        for name in "ab":
            pair.lab.hub.cut(f"{name}.lan", "c.lan")
        pair.expect_held(8)
        pair.expect_state(owner, "paused")
        for name in "ab":
            pair.lab.hub.both_ways(f"{name}.lan", "c.lan")
        pair.expect_owner()
        pair.heal()

    return _decided(pair, report, owner, fault)
