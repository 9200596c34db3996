# SPDX-License-Identifier: Apache-2.0
"""What the codec's policy costs where nothing is to be gained, and what it is worth on a link that is the limit."""

import collections
import statistics

from haven_lab.protection import GROUP, Pair, Settings
from haven_lab.registry import scenario

# It writes whole pages of noise, each epoch others: nothing of them is known, nothing compresses. So the link is as fast as it
# is needed, and whatever the codec does takes longer than sending pages as they are.
_NEW_PAGES = "mem=64M,vcpus=1,dirty=250,block=4096,locality=0,output=20"
# It writes as a key-value server does (bench/traces): in each epoch five blocks of 64 bytes of every page in use, none of which
# compresses. An epoch is small enough to pass the narrow link before RDMA takes it for lost.
_SMALL_CHANGES = "mem=64M,vcpus=1,dirty=1200,block=64,locality=1,hot=0.003,output=20"
_INTERVAL = "200ms"
_MODES = ("off", "auto")
_GAIN = 2
_LOSS = 1.05
# The policy tries other levels now and then, all of them one after the other: a period may be full of that.
_USUAL = 2 / 3
# Epochs. It tries them often at first, and knows what to do after that.
_LEARN = 120


@scenario(
    "codec-link",
    "commit latency with the codec's policy against raw pages: where there is nothing to gain, and on a tenth of the link",
    in_tests_run=False,
    alone=True,
    pairs=9,
    rounds=3,
    epochs=25,
)
def codec_link(lab, report, pairs, rounds, epochs):
    pair = Pair(lab, report, Settings(guest=_NEW_PAGES, interval=_INTERVAL, two_rails=False))
    pair.start()
    _nothing_to_gain(pair, report, pairs, epochs)
    pair.stop()
    narrow = Pair(lab, report, Settings(guest=_SMALL_CHANGES, interval=_INTERVAL, two_rails=False))
    narrow.psk = pair.psk
    narrow.start()
    _on_a_tenth(lab, narrow, report, rounds, epochs)
    narrow.stop()


def _nothing_to_gain(pair, report, pairs, epochs):
    """Pages of noise on the full link: the policy leaves them alone."""
    owner = pair.node("a")
    _commits(pair, owner, "auto", _LEARN)
    seen = _in_turn(pair, owner, pairs, epochs)
    ratio = _tell(report, "new pages, full link", seen)
    usual = [statistics.mode(status["codec"]["level"] for status in period) for period in seen["auto"]]
    left = usual.count("off")
    report.check("the policy leaves pages alone that can not be made small", left >= _USUAL * len(usual), f"in {left} of {len(usual)} periods")
    report.check(f"where nothing is to be gained the policy is within {_LOSS - 1:.0%} of raw pages", ratio <= _LOSS, f"{ratio:.3f}")


def _on_a_tenth(lab, pair, report, rounds, epochs):
    """Small changes, on the full link and then on a tenth of what that carried."""
    owner = pair.node("a")
    _commits(pair, owner, "auto", _LEARN)
    seen = _in_turn(pair, owner, rounds, epochs)
    _tell(report, "small changes, full link", seen)
    rates = [_wire_kbps(status) for period in seen["off"] for status in period]
    rate_kbps = statistics.median(rates)
    report.figure("the full link carries", rate_kbps / 1000, "Mb/s")
    lab.hub.both_ways("a.rail0", "b.rail0", rate_kbps=max(1, int(rate_kbps / 10)), queue_bytes=8 << 20)
    _commits(pair, owner, "auto", _LEARN)
    ratio = _tell(report, "small changes, a tenth of it", _in_turn(pair, owner, rounds, epochs))
    report.check("no frame was dropped for want of room", lab.hub.counters("a.rail0", "b.rail0")["overflowed"] == 0)
    report.check("with a tenth of the link a commit takes half the time or less", ratio * _GAIN <= 1, f"{1 / ratio:.2f} times faster")
    lab.hub.heal()


def _in_turn(pair, owner, rounds, epochs):
    """{mode: the statuses of each of its periods}. The modes take turns, and each comes first as often as the other."""
    seen = {mode: [] for mode in _MODES}
    for number in range(rounds):
        for mode in _MODES if number % 2 == 0 else tuple(reversed(_MODES)):
            seen[mode].append([status for status in _commits(pair, owner, mode, epochs) if status["epoch"]["pages"] > 0])
    return seen


def _tell(report, where, seen):
    """Reports each mode's commits, period by period, and what auto takes for one of raw pages: the median of neighbours' ratios."""
    times = {mode: [statistics.median(_commit_ms(status) for status in period) for period in seen[mode]] for mode in _MODES}
    for mode in _MODES:
        _spread(report, f"{where}: commit, {mode}", times[mode], "ms")
        statuses = [status["epoch"] for period in seen[mode] for status in period]
        report.figure(f"{where}: bytes a dirty page, {mode}", sum(s["wire_bytes"] for s in statuses) / sum(s["pages"] for s in statuses), "")
    levels = collections.Counter(status["codec"]["level"] for period in seen["auto"] for status in period)
    told = ", ".join(f"{count} at {level}" for level, count in levels.most_common())
    report.step(f"{where}: {sum(map(len, seen['off']))} epochs of off; of auto {told}")
    # Trials apart: what is left is noise, or a price of the mode itself.
    for level in levels:
        at_level = [_commit_ms(status) for period in seen["auto"] for status in period if status["codec"]["level"] == level]
        report.figure(f"{where}: commit, auto, at level {level}, median", statistics.median(at_level), "ms")
    return _spread(report, f"{where}: auto / off", [auto / off for auto, off in zip(times["auto"], times["off"])], "")


def _spread(report, name, values, unit):
    """Reports the median and between what the middle half lies. The median."""
    low, median, high = statistics.quantiles(values if len(values) > 1 else values * 2, n=4, method="inclusive")
    for which, value in (("low", low), ("median", median), ("high", high)):
        report.figure(f"{name}, {which}", value, unit)
    return median


def _commit_ms(status):
    return sum(status["phases"][phase]["last_ns"] for phase in ("encode", "wire", "commit")) / 1e6


def _wire_kbps(status):
    return status["epoch"]["wire_bytes"] * 8e6 / (status["phases"]["wire"]["last_ns"] + status["phases"]["commit"]["last_ns"])


def _commits(pair, owner, mode, count):
    """The statuses after so many epochs in a mode, as far as they can be seen, without the first, which was another mode's."""
    owner.ask("codec", GROUP, mode)
    first = owner.status()["epoch"]["committed"]
    seen = {}

    def look():
        status = owner.status()
        seen[status["epoch"]["committed"]] = status
        return status["epoch"]["committed"] >= first + 2 + count

    pair.wait(look, 300, f"{count} epochs in mode {mode}", interval_s=0.05)
    return [seen[epoch] for epoch in sorted(seen) if epoch > first + 2]
