# SPDX-License-Identifier: Apache-2.0
"""Side by side with `xl remus`: the same hosts, the same guest, the same load, one run."""

import statistics
import time

from haven_lab import settings
from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR, XenPair

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
_PORT = 8765
_TRANSPORT = settings.LAB / "scenarios" / "in_host" / "remus_transport.py"
# Gaps of the guest's ticker that are no pause: its processors are emulated, and shared.
_GAP_MS = 60
_WAIT_S = 240


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
        watch = host.start(["chrt", "-f", "1", "xen_watch", "g1", str(self._seconds)])
        world.guest.shell(world.pair.c, f"/tmp/guest_ticker {_GAP_MS} {self._seconds} </dev/null >/tmp/ticks 2>&1 &")
        cpu = [_cpu_s(host), _cpu_s(self._other)]
        wire = world.pair.lab.hub.counters(*self._wire)["bytes"]
        answers, begun = sum(world.client.answers().values()), time.monotonic()
        while watch.running:
            time.sleep(1)
            wait_s = world.client.stat()["wait_s"]
            if wait_s is not None:
                self.waits_s.append(wait_s)
        elapsed = time.monotonic() - begun
        self.answers_per_s = (sum(world.client.answers().values()) - answers) / elapsed
        self.wire_bytes = world.pair.lab.hub.counters(*self._wire)["bytes"] - wire
        self.cpu_s, self.other_cpu_s = (_cpu_s(each) - before for each, before in zip((host, self._other), cpu))
        self._take_states(watch.wait().out)
        self.rate = self.checkpoints / elapsed
        said = world.guest.shell(world.pair.c, "while ! grep -q end /tmp/ticks; do sleep 1; done; cat /tmp/ticks").split()
        self.gaps_ms = [float(word) for word in said[2:] if word.replace(".", "").isdigit()]
        return self

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
            for percent in (50, 99, 100):
                report.figure(f"{name}: {what}, {f'p{percent}' if percent < 100 else 'longest'}", _at(values, percent), "ms")
        report.figure(f"{name}: on the wire, a checkpoint", self.wire_bytes / self.checkpoints / 1024, "KiB")
        report.figure(f"{name}: CPU of the first domain, a checkpoint", self.cpu_s * 1000 / self.checkpoints, "ms")
        report.figure(f"{name}: CPU of the backup's first domain, a checkpoint", self.other_cpu_s * 1000 / self.checkpoints, "ms")


def _cpu_s(host):
    """Of the first domain since it booted."""
    return float(host.run("xl list 0 | awk 'END { print $6 }'").out)


class Comparison:
    """One guest: alone, then protected by us from a to b, then by `xl remus` from b to a."""

    def __init__(self, lab, report, memory, seconds):
        self.pair = XenPair(lab, interval=f"{_INTERVAL_MS}ms", detect="8s")
        self.guest = XenGuest(address=ADDRESS, memory_mb=memory)
        self.client = None
        self._report = report
        self._seconds = seconds

    def start(self):
        pair = self.pair
        pair.start()
        self.guest.create(pair.a)
        self.guest.wait_for_turn(pair.a, 1)
        self.client = GuestClient(pair.c, ADDRESS)
        # The guest has no programs of ours: it takes this one from its network.
        pair.c.start(f"busybox nc -l -p {_PORT} </lab/bin/guest_ticker")
        self.guest.shell(pair.c, f"sleep 1; nc 10.9.3.3 {_PORT} </dev/null >/tmp/guest_ticker; chmod +x /tmp/guest_ticker")

    def alone(self):
        return self._measure(self.pair.a, "unprotected")

    def ours(self):
        pair = self.pair
        pair.protect(self.guest)
        pair.wait_until_protected(3)
        found = self._measure(pair.a, "haven-engine")
        status = pair.status(pair.a)
        for phase, times in status["phases"].items():
            self._report.figure(f"haven-engine: {phase}, p50", times["p50_ns"] / 1e6, "ms")
        pair.ask(pair.a, "interval", "g1", f"{_SHORTEST_MS}ms")
        busy = self._measure(pair.a, "haven-engine, without a break")
        return found, busy, self._power_cut()

    def _measure(self, host, name):
        self._report.step(name)
        found = Measure(self, host, self.pair.other(host), self._seconds).take()
        found.report(self._report, name)
        return found

    def _power_cut(self):
        """Milliseconds from the arbiter's grant to the guest running on b; where the time until the first answer goes."""
        pair, report = self.pair, self._report
        watch = pair.b.start(["chrt", "-f", "1", "xen_watch", "g1--incoming", "60"])
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
        self.client.wait_for_answers(self.client.answers())
        watch.kill()
        # Both by the clock of b.
        return (running_s - pair.b.clock_ahead() - moments["granted"]) * 1000

    def remus(self):
        """The same of `xl remus`; the decision is the end of file."""
        pair = self.pair
        pair.ask(pair.b, "unprotect", "--timeout=120s", "g1")
        pair.lab.restore("a")
        for host in (pair.a, pair.b):
            host.put("/tmp/transport", _TRANSPORT.read_bytes(), mode=0o755)
        sender = self._start_remus(_INTERVAL_MS)
        found = self._measure(pair.b, "xl remus")
        # A copy that is destroyed does not run when its sender ends.
        pair.a.run(["xl", "destroy", "g1--incoming"])
        self._report.step(f"xl remus says: {sender.wait(_WAIT_S).err[-200:]}")
        self._start_remus(_SHORTEST_MS)
        busy = self._measure(pair.b, "xl remus, without a break")
        self.client.check_end(self._report)
        return found, busy, self._end_of_file()

    def _start_remus(self, interval_ms):
        pair = self.pair
        receiver = pair.a.start(["/tmp/transport", "receive", str(_PORT), "xl", "migrate-receive", "-r"])
        receiver.wait_for_output("listens", _WAIT_S)
        wire = f"/tmp/transport send {pair.a.address('rail0')} {_PORT}"
        sender = pair.b.start(["xl", "remus", "-F", "-d", "-n", "-i", str(interval_ms), "-s", "", "g1", wire])
        pair.wait_for(lambda: "g1--incoming" in pair.domains(pair.a), "xl remus to build its copy", _WAIT_S)
        first = pair.b.start(["xen_watch", "g1", "120"])
        first.wait_for_output("(?s)(suspended.*){3}", _WAIT_S)
        first.kill()
        return sender

    def _end_of_file(self):
        pair = self.pair
        watch = pair.a.start(["chrt", "-f", "1", "xen_watch", "g1--incoming", "60"])
        watch.wait_for_output("paused|running", _WAIT_S)
        ended = pair.b.run("date +%s.%N; pkill -9 -x transport; xl destroy g1", check=False).out
        watch.wait_for_output("(?s)paused.*running", _WAIT_S)
        running_s = [float(line.split()[0]) for line in watch.out.splitlines() if "running" in line][-1]
        return (running_s - float(ended.split()[0])) * 1000


@scenario("xen-remus", "pause, cost and promotion beside those of xl remus", hosts=XEN_PAIR, in_tests_run=False, memory=128, seconds=40)
def remus(lab, report, memory, seconds):
    world = Comparison(lab, report, memory, seconds)
    world.start()
    world.alone()
    ours, our_busy, our_promotion_ms = world.ours()
    theirs, their_busy, their_promotion_ms = world.remus()
    report.check("both have made checkpoints", ours.checkpoints > 3 and theirs.checkpoints > 3, f"{ours.checkpoints}, {theirs.checkpoints}")
    report.figure("haven-engine: decision to running", our_promotion_ms, "ms")
    report.figure("xl remus: end of file to running", their_promotion_ms, "ms")
    for what, our_value, their_value in (
        ("suspended to resumed, p50", _at(ours.stopped_ms, 50), _at(theirs.stopped_ms, 50)),
        ("suspended to resumed, p99", _at(ours.stopped_ms, 99), _at(theirs.stopped_ms, 99)),
        ("gap of the guest's ticker, p50", _at(ours.gaps_ms, 50), _at(theirs.gaps_ms, 50)),
        ("largest gap of the guest's ticker", max(ours.gaps_ms, default=0), max(theirs.gaps_ms, default=0)),
        ("checkpoints a second, without a break", our_busy.rate, their_busy.rate),
        ("promotion", our_promotion_ms, their_promotion_ms),
    ):
        report.figure(f"ratio to xl remus: {what}", our_value / their_value if their_value else 0.0, "")
