# SPDX-License-Identifier: Apache-2.0
"""Side by side with `xl remus`: the same hosts, the same guest, the same load, one run."""

import statistics
import time

from haven_lab import settings
from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR_TWO_PROCESSORS, XenPair

_INTERVAL_MS = 500
_SHORTEST_MS = 10
# The steps of a promotion, by the cause of the event that begins each, from the arbiter's word on.
_PHASES = {
    "granted": "cut-off",
    "reading": "last epoch read",
    "applying": "applied",
    "preparing": "prepared",
    "telling": "register: running",
    "starting": "run",
}
_PORT = 8766
_TRANSPORT = settings.LAB / "scenarios" / "in_host" / "remus_transport.py"
_TICKER = "/lab/bin/guest_ticker"
# Shorter gaps of the guest's ticker are not told: its processors are emulated, and shared. A checkpoint's is many times as long.
_GAP_MS = 10
_WAIT_S = 240
# Everything that would be held leaves for the guests' network in front of the plugs. The engine notices somebody at its devices, and
# builds its buffer anew, once.
_PAST_THE_PLUGS = """
for device in $(ip -br link | awk '$1 ~ /^hvn/ { print $1 }'); do
  tc qdisc add dev $device clsact && tc filter add dev $device egress matchall action mirred egress redirect dev guests || exit 1
done
"""
# What is asked of us, as a share of what `xl remus` has.
_STOPPED_MOST = 0.2
_GAP_MOST = 0.6
_PROMOTION_MOST = 0.2


def _at(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0


class Measure:
    """What a guest on a host suffers for some seconds, seen from outside, from inside, and by its client."""

    def __init__(self, world, host, other, seconds):
        self._world = world
        self._host = host
        self._seconds = seconds
        self._wire = (f"{host.name}.rail0", f"{other.name}.rail0")
        self._other = other
        self.stopped_ms, self.gaps_ms, self.waits_s = [], [], []
        self.answers_per_s = self.wire_bytes = self.checkpoints = self.rate = 0
        self.cpu_s = self.other_cpu_s = 0.0

    def take(self):
        world, host = self._world, self._host
        # The guest is slow to take a command: what it takes meanwhile counts for nothing.
        ticker = f"/tmp/guest_ticker {_GAP_MS} {self._seconds} {world.ticks_per_ms}"
        world.guest.shell(world.pair.c, f"{ticker} </dev/null >/tmp/ticks 2>&1 &", timeout_s=_WAIT_S)
        cpu = [_cpu_s(host), _cpu_s(self._other)]
        wire = world.pair.lab.hub.counters(*self._wire)["bytes"]
        begun_s = time.time()
        watched = host.run(["chrt", "-f", "1", "xen_watch", "g1", str(self._seconds)], timeout_s=self._seconds + _WAIT_S)
        self._take_client(world.client.stats_since(begun_s))
        self.wire_bytes = world.pair.lab.hub.counters(*self._wire)["bytes"] - wire
        self.cpu_s, self.other_cpu_s = (_cpu_s(each) - before for each, before in zip((host, self._other), cpu))
        self._take_states(watched.out)
        self.rate = self.checkpoints / self._seconds
        ended = "while ! grep -q end /tmp/ticks; do sleep 0.2; done; cat /tmp/ticks"
        said = world.guest.shell(world.pair.c, ended, timeout_s=_WAIT_S).split()
        gaps = sorted((float(word) for word in said[2:] if word.replace(".", "").isdigit()), reverse=True)
        # As many as there were checkpoints: the whole pause of each. A shorter one is not told, and not taken for none.
        self.gaps_ms = (gaps + [_GAP_MS] * self.checkpoints)[: self.checkpoints]
        return self

    def _take_client(self, stats):
        first, last = stats[0], stats[-1]
        answers = sum(last["answers"].values()) - sum(first["answers"].values())
        self.answers_per_s = answers / (last["time"] - first["time"])
        self.waits_s = [stat["wait_s"] for stat in stats if stat["wait_s"] is not None]

    def _take_states(self, lines):
        states = [line.split() for line in lines.splitlines()]
        for (begin, state), (end, _) in zip(states, states[1:]):
            if state == "suspended":
                self.stopped_ms.append((float(end) - float(begin)) * 1000)
        self.checkpoints = len(self.stopped_ms)

    def report(self, report, name):
        report.figure(f"{name}: client", self.answers_per_s, "answers/s")
        report.figure(f"{name}: client, request to answer", statistics.median(self.waits_s) if self.waits_s else 0.0, "s")
        if not self.checkpoints:
            return
        report.figure(f"{name}: checkpoints", self.rate, "/s")
        for what, values in (("suspended to resumed", self.stopped_ms), ("gap of the guest's ticker", self.gaps_ms)):
            for percent in (50, 90, 99, 100):
                report.figure(f"{name}: {what}, {f'p{percent}' if percent < 100 else 'longest'}", _at(values, percent), "ms")
        report.figure(f"{name}: on the wire, a checkpoint", self.wire_bytes / self.checkpoints / 1024, "KiB")
        report.figure(f"{name}: CPU of the first domain, a checkpoint", self.cpu_s * 1000 / self.checkpoints, "ms")
        report.figure(f"{name}: CPU of the backup's first domain, a checkpoint", self.other_cpu_s * 1000 / self.checkpoints, "ms")


def _cpu_s(host):
    """Of the first domain since it booted."""
    return float(host.run("xl list 0 | awk 'END { print $6 }'").out)


class Comparison:
    """One guest. A power cut brings it from a to b; there it is measured, protected by us to a, alone, and by `xl remus` to a."""

    def __init__(self, lab, report, memory, seconds):
        self.pair = XenPair(lab, interval=f"{_INTERVAL_MS}ms", detect="8s")
        self.guest = XenGuest(address=ADDRESS, memory_mb=memory)
        self.client = None
        self.ticks_per_ms = 0
        self._report = report
        self._seconds = seconds

    def start(self):
        pair = self.pair
        pair.start()
        self.guest.create(pair.a)
        self.guest.wait_for_turn(pair.a, 1)
        # The guest has no programs of ours.
        self.guest.give(pair.c, _TICKER, "/tmp/guest_ticker")
        said = self.guest.shell(pair.c, "chmod +x /tmp/guest_ticker && /tmp/guest_ticker 1000 1")
        self.ticks_per_ms = int(said.split()[1])
        self.client = GuestClient(pair.c, ADDRESS)

    def power_cut(self):
        """Milliseconds from the arbiter's grant to the guest running on b; where the time until the first answer goes."""
        pair, report = self.pair, self._report
        pair.protect(self.guest)
        pair.wait_until_protected(3)
        watch = pair.b.start(["chrt", "-f", "1", "xen_watch", "g1--incoming", str(_WAIT_S)])
        watch.wait_for_output("paused", _WAIT_S)
        cut_s = time.time()
        pair.a.power_cut()
        answers = self.client.answers()
        events = pair.wait_for_promotion(pair.b)
        first_s = self.client.wait_for_answer(answers)
        event_s = pair.event_times(pair.b, events)
        moments = {cause: next(at_s for event, at_s in zip(events, event_s) if event["cause"].startswith(cause)) for cause in _PHASES}
        ends = [*list(moments.values())[1:], event_s[-1]]
        report.figure("power cut: detection", event_s[0] - cut_s, "s")
        report.figure("power cut: the arbiter's word", moments["granted"] - event_s[0], "s")
        for (cause, phase), end in zip(_PHASES.items(), ends):
            report.figure(f"power cut: {phase}", end - moments[cause], "s")
        report.figure("power cut: network and client", first_s - event_s[-1], "s")
        report.figure("power cut: to the first answer", first_s - cut_s, "s")
        watch.wait_for_output("running", _WAIT_S)
        running_s = next(float(line.split()[0]) for line in watch.out.splitlines() if "running" in line)
        watch.kill()
        self.client.wait_for_answers(answers)
        pair.replace(pair.a)
        granted = next(event for event in events if event["cause"].startswith("granted"))
        # Both by the clock of b.
        return (running_s - pair.own_times([granted])[0]) * 1000

    def ours(self):
        """With an epoch every half second, with one after the other, and without output commit."""
        pair = self.pair
        # By then the codec's policy has tried its levels.
        pair.wait_until_protected(60, pair.b)
        found = self._measure("haven-engine")
        for phase, times in pair.status(pair.b)["phases"].items():
            self._report.figure(f"haven-engine: {phase}, p50", times["p50_ns"] / 1e6, "ms")
        pair.ask(pair.b, "interval", "g1", f"{_SHORTEST_MS}ms")
        busy = self._measure("haven-engine, without a break")
        pair.ask(pair.b, "interval", "g1", f"{_INTERVAL_MS}ms")
        return found, busy, self._without_output_commit()

    def _without_output_commit(self):
        pair = self.pair
        pair.b.run(_PAST_THE_PLUGS)
        before = pair.wait_until_protected(3, pair.b)["output"]["released_packets"]
        found = self._measure("haven-engine, output not held")
        released = pair.status(pair.b)["output"]["released_packets"] - before
        self._report.check("without output commit no packet is held", released == 0 and found.answers_per_s > 0, f"{released} packets")
        return found

    def alone(self):
        self.pair.ask(self.pair.b, "unprotect", "--timeout=120s", "g1")
        return self._measure("unprotected")

    def _measure(self, name):
        pair = self.pair
        self._report.step(name)
        found = Measure(self, pair.b, pair.a, self._seconds).take()
        found.report(self._report, name)
        return found

    def remus(self):
        """The same of `xl remus`; the decision is the end of file."""
        pair = self.pair
        for host in (pair.a, pair.b):
            host.put("/tmp/transport", _TRANSPORT.read_bytes(), mode=0o755)
        sender, _ = self._start_remus(_INTERVAL_MS)
        found = self._measure("xl remus")
        # A copy that is destroyed does not run when its sender ends.
        pair.a.run(["xl", "destroy", "g1--incoming"])
        self._report.step(f"xl remus says: {sender.wait(_WAIT_S).err[-200:]}")
        _, receiver = self._start_remus(_SHORTEST_MS)
        busy = self._measure("xl remus, without a break")
        self.client.check_end(self._report)
        return found, busy, self._end_of_file(receiver)

    def _start_remus(self, interval_ms):
        """Both ends, once three checkpoints are made."""
        pair = self.pair
        receiver = pair.a.start(["/tmp/transport", "receive", str(_PORT), "xl", "migrate-receive", "-r"])
        receiver.wait_for_output("listens", _WAIT_S)
        wire = f"/tmp/transport send {pair.a.address('rail0')} {_PORT}"
        sender = pair.b.start(["xl", "remus", "-F", "-d", "-n", "-i", str(interval_ms), "-s", "", "g1", wire])
        pair.wait_for(lambda: "g1--incoming" in pair.domains(pair.a), "xl remus to build its copy", _WAIT_S)
        first = pair.b.start(["xen_watch", "g1", str(_WAIT_S)])
        first.wait_for_output("(?s)(suspended.*){3}", _WAIT_S)
        first.kill()
        return sender, receiver

    def _end_of_file(self, receiver):
        pair = self.pair
        watch = pair.a.start(["chrt", "-f", "1", "xen_watch", "g1--incoming", str(_WAIT_S)])
        watch.wait_for_output("paused|running", _WAIT_S)
        pair.b.run("pkill -9 -x transport; xl destroy g1", check=False)
        # Both by the clock of a.
        ended_s = float(receiver.wait_for_output(r"end of file ([0-9.]+)", _WAIT_S).group(1))
        watch.wait_for_output("(?s)paused.*running", _WAIT_S)
        running_s = [float(line.split()[0]) for line in watch.out.splitlines() if "running" in line][-1]
        return (running_s - ended_s) * 1000


def _compare(report, ours, theirs, busy, promotions_ms):
    """The ratios, then what they have to be: all figures are there even if one is not what it has to be."""
    rows = (
        ("suspended to resumed, p50", _at(ours.stopped_ms, 50), _at(theirs.stopped_ms, 50), _STOPPED_MOST),
        ("suspended to resumed, p99", _at(ours.stopped_ms, 99), _at(theirs.stopped_ms, 99), _STOPPED_MOST),
        ("gap of the guest's ticker, p50", _at(ours.gaps_ms, 50), _at(theirs.gaps_ms, 50), _GAP_MOST),
        ("gap of the guest's ticker, p90", _at(ours.gaps_ms, 90), _at(theirs.gaps_ms, 90), _GAP_MOST),
        ("gap of the guest's ticker, longest", max(ours.gaps_ms, default=0), max(theirs.gaps_ms, default=0), _GAP_MOST),
        ("checkpoints a second, without a break", busy[0].rate, busy[1].rate, None),
        ("promotion", *promotions_ms, _PROMOTION_MOST),
    )
    ratios = []
    for what, our_value, their_value, most in rows:
        ratio = our_value / their_value if their_value else 0.0
        report.figure(f"ratio to xl remus: {what}", ratio, "")
        ratios.append((what, ratio, most))
    for what, ratio, most in ratios:
        if most is not None:
            report.check(f"{what}: at most {most} of xl remus's", 0 < ratio <= most, f"{ratio:.3f}")


@scenario("xen-remus", "pause, cost and promotion beside those of xl remus", hosts=XEN_PAIR_TWO_PROCESSORS, in_tests_run=False, memory=128, seconds=40)
def remus(lab, report, memory, seconds):
    world = Comparison(lab, report, memory, seconds)
    world.start()
    our_promotion_ms = world.power_cut()
    ours, our_busy, open_ = world.ours()
    world.alone()
    theirs, their_busy, their_promotion_ms = world.remus()
    made = (ours.checkpoints, open_.checkpoints, theirs.checkpoints)
    report.check("all have made checkpoints", min(made) > 3, made)
    report.step("both protect the guest from b to a. It is promoted by us on b, and by xl remus on a, hosts of the same make")
    report.figure("haven-engine: decision to running", our_promotion_ms, "ms")
    report.figure("xl remus: end of file to running", their_promotion_ms, "ms")
    _compare(report, ours, theirs, (our_busy, their_busy), (our_promotion_ms, their_promotion_ms))
