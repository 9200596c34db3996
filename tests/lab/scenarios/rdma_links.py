# SPDX-License-Identifier: Apache-2.0
"""What links do: they break for a while or for good, one way or both, lose frames and mix up their order."""

import time

from haven_lab.protection import Pair, Settings, SYNC_TIMEOUT_S
from haven_lab.registry import scenario

_ALL = ("lan", "rail0", "rail1")
_DATA = ("rail0", "rail1")
# In which directions nothing passes: (from, to).
_WAYS = ((("a", "b"), ("b", "a")), (("a", "b"),), (("b", "a"),))
# Cuts of these lengths, in seconds.
_CUTS = (0.5, 1, 2, 5)
# A device gives a request up after about half a second: from this length on a cut lasts until the link is lost.
_BREAKS_S = 1
_BREAK_TIMEOUT_S = 2
_LOSSES = (0.01, 0.05, 0.2)
_GUEST = "mem=24M,dirty=400,output=20,vcpus=2"
_GUEST_BYTES = 24 << 20
_PAGE_BYTES = 4096
# Detection times above twice the longest cut: TCP, once cut off, doubles the time until it tries again.
_DETECT_S = 4
_DETECT_ALL_S = 11


@scenario("rdma-links", "links cut for a while, each way, by rails; frames lost and reordered; the arbiter cut off as well")
def links(lab, report):
    pair = Pair(lab, report, Settings(guest=_GUEST, detect=f"{_DETECT_S}s", rearm="6s", pause_budget="6s"))
    pair.start()
    owner = pair.node("a")
    for ways in _WAYS:
        _short(pair, report, owner, 1, ways)
    _rails(pair, report, owner)
    # Hundreds of frames pass in that time.
    _traffic(pair, report, owner, 3, loss=0.05)
    _traffic(pair, report, owner, 3, reorder=0.2, reorder_us=5000)
    owner = _long(pair, report, owner)
    owner = _arbiter_too(pair, report, owner)
    pair.stop()


@scenario("rdma-links-all", "every length of cut, each way, and every share of loss")
def links_all(lab, report):
    pair = Pair(lab, report, Settings(guest=_GUEST, detect=f"{_DETECT_ALL_S}s", rearm="13s", pause_budget="13s"))
    pair.start()
    owner = pair.node("a")
    for seconds in _CUTS:
        for ways in _WAYS:
            _short(pair, report, owner, seconds, ways)
    # The smallest share needs the longest time to do something.
    for loss in _LOSSES:
        _traffic(pair, report, owner, 8, loss=loss)
    _traffic(pair, report, owner, 8, reorder=0.5, reorder_us=20_000)
    pair.stop()


@scenario("rdma-links-long", "every length of cut, each way, with a shorter detection time: the arbiter decides")
def links_long(lab, report):
    pair = Pair(lab, report, Settings(guest=_GUEST, detect="400ms", rearm="400ms", pause_budget="2s"))
    pair.start()
    owner = pair.node("a")
    for seconds in (*_CUTS, 10):
        for ways in _WAYS:
            report.step(f"{_words(ways)} for {seconds} s")
            owner = _decided(pair, report, owner, lambda s=seconds, w=ways: _cut_for(pair, s, w))
    pair.stop()


def _words(ways):
    return "nothing passes " + " and ".join(f"from {source} to {target}" for source, target in ways)


def _cut(pair, ways):
    for source, target in ways:
        for network in _ALL:
            pair.lab.hub.one_way(f"{source}.{network}", f"{target}.{network}", cut=True)


def _cut_for(pair, seconds, ways):
    _cut(pair, ways)
    pair.watch(seconds)
    pair.heal()


def _short(pair, report, owner, seconds, ways):
    """Shorter than the detection time: output is held, then protection re-armed with the delta."""
    before = pair.expect_protected(owner)
    what = f"{_words(ways)} for {seconds} s"
    report.step(what)
    _cut(pair, ways)
    pair.watch(seconds)
    if seconds >= _BREAKS_S:
        pair.wait(lambda: owner.status()["link_state"] != "up", _BREAK_TIMEOUT_S, "the link to be lost")
    pair.heal()
    healed_s = time.monotonic()
    after = pair.expect_protected(owner)
    report.figure(f"protected again after: {what}", time.monotonic() - healed_s, "s")
    _check_same(report, before, after)
    if seconds >= _BREAKS_S:
        report.check("another link was made", after["link"] > before["link"], f"link {before['link']}, then {after['link']}")
    if after["link"] != before["link"]:
        _check_delta(report, after, what)


def _check_same(report, before, after):
    same = after["session"] == before["session"] and after["register"] == before["register"]
    report.check("the same session goes on, and the register is as it was", same, f"link {before['link']}, then {after['link']}")


def _check_delta(report, status, what):
    """What the last re-arm sent: pages of the guest's memory, and bytes on the wire, which the codec has made fewer."""
    memory, wire = status["counters"]["delta_pages"] * _PAGE_BYTES, status["counters"]["delta_bytes"]
    report.figure(f"delta of memory after: {what}", memory, "bytes")
    report.figure(f"delta on the wire after: {what}", wire, "bytes")
    report.check("a delta was sent, not the whole memory", max(memory, wire) < _GUEST_BYTES / 2, f"{memory} bytes of memory, {wire} on the wire")


def _rails(pair, report, owner):
    """With a rail or the control channel alive nobody is suspected; without a rail for data the primary goes on alone."""
    before = pair.expect_protected(owner)
    report.step("the first rail is cut for longer than the detection time")
    pair.cut("rail0")
    # Whoever suspects the other asks the arbiter at once, and the register is another one then.
    pair.watch(_DETECT_S + 1)
    _check_same(report, before, pair.expect_protected(owner))
    report.step("the control channel is cut as well: the second rail is left")
    pair.heal()
    pair.cut("rail0", "lan")
    pair.watch(_DETECT_S + 1)
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


def _traffic(pair, report, owner, seconds, **rule):
    """Frames are lost, or overtake each other, on both rails."""
    before = pair.expect_protected(owner)
    hit_before = _hit(pair)
    report.step(f"on both rails: {rule}")
    for rail in _DATA:
        pair.lab.hub.both_ways(f"a.{rail}", f"b.{rail}", **rule)
    pair.watch(seconds)
    after = owner.status()
    pair.heal()
    hit = _hit(pair) - hit_before
    report.check("frames were hit", hit > 0, f"{hit} frames; {after['epoch']['committed'] - before['epoch']['committed']} epochs meanwhile")
    now = pair.expect_protected(owner, SYNC_TIMEOUT_S)
    report.check("the owner is the same", now["register"]["owner"] == before["register"]["owner"], f"link {before['link']}, then {now['link']}")


def _hit(pair):
    """Frames lost or reordered so far on the rails, both ways."""
    sides = [(f"{source}.{rail}", f"{target}.{rail}") for rail in _DATA for source, target in ("ab", "ba")]
    return sum(one["lost"] + one["reordered"] for one in (pair.lab.hub.counters(*side) for side in sides))


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
    report.step("all links are cut until the arbiter has decided, and whoever may goes on")

    def fault():
        term = int(pair.register()["term"])
        pair.cut()
        pair.wait(lambda: int(pair.register()["term"]) > term or pair.register()["mode"] == "solo", 90, "a decision", interval_s=0.3)
        pair.expect_owner()
        pair.heal()

    return _decided(pair, report, owner, fault)


def _arbiter_too(pair, report, owner):
    """Nobody can ask anybody: output is held, then the guest paused, until the arbiter is there again."""
    report.step("all links are cut, and the arbiter is cut off as well")

    def fault():
        pair.cut()
        for name in "ab":
            pair.lab.hub.cut(f"{name}.lan", "c.lan")
        # Longer than that would show nothing: a paused guest has no output to hold.
        pair.expect_held(until=lambda: owner.status().get("state") == "paused")
        for name in "ab":
            pair.lab.hub.both_ways(f"{name}.lan", "c.lan")
        pair.expect_owner()
        pair.heal()

    return _decided(pair, report, owner, fault)
