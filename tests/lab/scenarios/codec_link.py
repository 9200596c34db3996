# SPDX-License-Identifier: Apache-2.0
"""What the codec's policy is worth on a wire that is the limit, and what it costs on one that is not: both in one run."""

import statistics

from haven_lab.protection import GROUP, Pair, Settings
from haven_lab.registry import scenario

# It writes as a key-value server does (bench/traces): in each epoch five blocks of 64 bytes of every page in use, none of which
# compresses. An epoch is small enough to pass the narrow link before RDMA takes it for lost.
_GUEST = "mem=64M,vcpus=1,dirty=1200,block=64,locality=1,hot=0.003,output=20"
_INTERVAL = "200ms"
_MODES = ("off", "auto")
_GAIN = 2
_LOSS = 1.05


@scenario(
    "codec-link",
    "commit latency with the codec's policy against raw pages: on the full link, and on a tenth of it",
    in_tests_run=False,
    alone=True,
    rounds=3,
    epochs=25,
)
def codec_link(lab, report, rounds, epochs):
    pair = Pair(lab, report, Settings(guest=_GUEST, interval=_INTERVAL, two_rails=False))
    pair.start()
    owner = pair.node("a")
    # The policy learns for a while.
    _commits(pair, owner, "auto", 60)
    free, rate_kbps = _compare(pair, report, owner, "full link", rounds, epochs)
    slower = free["auto"] / free["off"]
    report.check(f"with a link that is not the limit the policy is within {_LOSS - 1:.0%} of raw pages", slower <= _LOSS, f"{slower:.3f}")
    report.step(f"the link carries {rate_kbps / 1000:.0f} Mb/s; from now on a tenth")
    lab.hub.both_ways("a.rail0", "b.rail0", rate_kbps=max(1, int(rate_kbps / 10)), queue_bytes=8 << 20)
    _commits(pair, owner, "auto", 60)
    narrow, _ = _compare(pair, report, owner, "a tenth of it", rounds, epochs)
    report.check("no frame was dropped for want of room", lab.hub.counters("a.rail0", "b.rail0")["overflowed"] == 0)
    faster = narrow["off"] / narrow["auto"]
    report.check("with a tenth of the link a commit takes half the time or less", faster >= _GAIN, f"{faster:.2f} times faster")
    lab.hub.heal()
    pair.stop()


def _compare(pair, report, owner, link, rounds, epochs):
    """Median commit latency in seconds by mode, measured in turn, and what the wire carries of raw pages in kb/s."""
    seen = {mode: [] for mode in _MODES}
    rates = []
    for _ in range(rounds):
        for mode in _MODES:
            found = _commits(pair, owner, mode, epochs)
            seen[mode] += [status for status in found if status["epoch"]["pages"] > 0]
        rates += [s["epoch"]["wire_bytes"] * 8e6 / (s["phases"]["wire"]["last_ns"] + s["phases"]["commit"]["last_ns"]) for s in seen["off"]]
    medians = {}
    for mode, found in seen.items():
        times = [sum(status["phases"][phase]["last_ns"] for phase in ("encode", "wire", "commit")) / 1e9 for status in found]
        medians[mode] = statistics.median(times)
        report.figure(f"commit, {link}, {mode}, median", medians[mode] * 1e3, "ms")
        report.figure(f"bytes a dirty page, {link}, {mode}", sum(s["epoch"]["wire_bytes"] for s in found) / sum(s["epoch"]["pages"] for s in found), "")
    levels = {status["codec"]["level"] for status in seen["auto"]}
    report.step(f"{link}: {len(seen['off'])} and {len(seen['auto'])} epochs; levels of auto: {', '.join(sorted(levels))}")
    return medians, statistics.median(rates)


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
