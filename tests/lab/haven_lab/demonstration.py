# SPDX-License-Identifier: Apache-2.0
"""What tests/lab/demo shows: a guest, its client, and the end of the host that the guest runs on."""

import collections
import time

from haven_lab.guest_client import GuestClient
from haven_lab.screen import bars
from haven_lab.wait import DeadlineExceeded
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XenPair

_WATCH_S = 20
_LOOK_S = 0.5
_BARS = 60
_RETURN_TIMEOUT_S = 120
_PAGE_MIB = 4096 / (1 << 20)


class Demonstration:
    """play() shows it all. What does not hold ends it by an exception."""

    def __init__(self, lab, screen):
        self._lab = lab
        self._screen = screen
        self._pair = XenPair(lab, detect="5s")
        self._guest = XenGuest(address=ADDRESS)
        self._client = None
        self._rates = collections.deque(maxlen=_BARS)
        self._looked = (time.monotonic(), 0)
        self._facts = []

    def play(self):
        self._start()
        self._protect()
        self._watch()
        self._cut()
        self._sum_up()

    def _start(self):
        self._screen.stage("A guest on host a: Linux with two processors, a web server and a key-value store, all in memory")
        with self._screen.busy("arbiter (etcd) on host c, haven-engine on a and b"):
            self._pair.start()
        with self._screen.busy("the guest boots"):
            self._guest.create(self._pair.a)
            self._guest.wait_for_turn(self._pair.a, 1)
        with self._screen.busy("a client on host c opens 12 connections and checks every answer"):
            self._client = GuestClient(self._pair.c, ADDRESS)

    def _protect(self):
        self._screen.stage("haven-engine protect xen:g1 --backup rdma:b")
        self._pair.protect(self._guest)
        begun = time.monotonic()

        def look():
            status = self._pair.status(self._pair.a)
            sync = status.get("sync", {})
            if status.get("state") == "protected" and status["register"]["mode"] == "promotable":
                return True
            lines = [f"         state      {status.get('state', 'starting')}"]
            if sync.get("active"):
                done, left = sync["pages_done"] * _PAGE_MIB, sync["pages_left"] * _PAGE_MIB
                lines.append(f"         memory     {done:.0f} MiB copied, {left:.0f} MiB to go")
            self._screen.draw([*lines, *self._client_lines()])
            return False

        self._until(look, 200, "the guest to be protected")
        self._screen.say(f"         a complete copy waits on host b after {time.monotonic() - begun:.0f} s; output is held and released epoch by epoch")

    def _watch(self):
        self._screen.stage("Protected: every epoch is committed on host b before its output leaves")
        end = time.monotonic() + _WATCH_S

        def look():
            self._screen.draw([*self._engine_lines(), *self._client_lines()])
            return time.monotonic() >= end

        self._until(look, _WATCH_S + 60, "the time")
        status = self._pair.status(self._pair.a)
        self._facts += [
            ("epochs committed while watched and before", status["epoch"]["committed"]),
            ("guest stopped in an epoch, median", f"{status['pause']['p50_ns'] / 1e9:.2f} s"),
            ("packets held and released", status["output"]["released_packets"]),
        ]

    def _cut(self):
        before = self._pair.status(self._pair.a)["epoch"]["committed"]
        self._screen.stage("Host a loses its power. Nothing in it gets to do anything any more")
        cut_s = time.time()
        self._pair.a.power_cut()
        # What came to the client until its first word after this is from host a: detection takes seconds.
        answers = self._client.answers()
        told, first_s = 0, None

        def look():
            nonlocal told, first_s
            events = self._promotion_events()
            if len(events) > told:
                for event, at_s in list(zip(events, self._pair.event_times(self._pair.b, events)))[told:]:
                    self._screen.say(f"  {at_s - cut_s:+6.1f} s  host b: {event['cause']}", "green" if event["to"] == "promoted" else "")
            told = len(events)
            now = self._client.stat()["answers"]
            back = sum(now.get(name, 0) > count for name, count in answers.items())
            if back and first_s is None:
                first_s = self._client.wait_for_answer(answers) - cut_s
                self._screen.say(f"  {first_s:+6.1f} s  client: the first answer, on a connection that it had opened to host a", "green")
            self._screen.draw([f"         {time.time() - cut_s:.0f} s since the cut; {back} of {len(answers)} connections have got an answer", *self._client_lines()])
            return back == len(answers) and events and events[-1]["to"] == "promoted"

        self._until(look, _RETURN_TIMEOUT_S, "all connections to go on")
        all_s = self._client.wait_for_answers(answers) - cut_s
        self._screen.say(f"  {all_s:+6.1f} s  client: every connection goes on", "green")
        keys = self._client.verify()
        events = self._promotion_events()
        event_s = self._pair.event_times(self._pair.b, events)
        granted_s = next(at_s for event, at_s in zip(events, event_s) if event["cause"].startswith("granted"))
        self._facts += [
            ("epoch promoted (committed before the cut)", f"{events[-1]['epoch']} ({before})"),
            ("cut to suspicion (--detect 5s)", f"{event_s[0] - cut_s:.1f} s"),
            ("suspicion to the arbiter's grant", f"{granted_s - event_s[0]:.2f} s"),
            ("grant to the guest running", f"{event_s[-1] - granted_s:.2f} s"),
            ("cut to the first answer", f"{first_s:.1f} s"),
            ("cut to an answer on every connection", f"{all_s:.1f} s"),
            ("keys read back as acknowledged", keys),
        ]

    def _sum_up(self):
        # The client has ended by now if an answer was wrong or came twice.
        end = self._client.stop()
        answers = sum(end["answers"].values())
        lost = (self._client.connections - end["kept"], end["asked"] - answers)
        self._screen.stage("Done")
        self._facts += [
            ("answers, each one the right one", answers),
            ("connections lost, requests without an answer", f"{lost[0]}, {lost[1]}"),
            ("turns that the guest found its memory damaged in", len(self._guest.damage(self._pair.b))),
        ]
        width = max(len(name) for name, _ in self._facts)
        for name, value in self._facts:
            self._screen.say(f"         {name:{width}}   {value}")
        self._screen.say("         Processors are emulated here: times mean something only beside each other.", "dim")
        if any(lost):
            raise AssertionError(f"{lost[0]} connections and {lost[1]} answers were lost")
        if self._guest.damage(self._pair.b):
            raise AssertionError(f"the guest's memory was damaged: {self._guest.damage(self._pair.b)}")

    def _promotion_events(self):
        events = self._pair.events(self._pair.b)
        begun = [at for at, event in enumerate(events) if event["to"] == "promoting" and event["from"] != "promoting"]
        if not begun:
            return []
        # The engine of the promoted copy goes on in the same file.
        ended = [at for at in range(begun[-1], len(events)) if events[at]["to"] == "promoted"]
        return events[begun[-1] : ended[0] + 1 if ended else None]

    def _engine_lines(self):
        status = self._pair.status(self._pair.a)
        if not status:
            return []
        epoch, output, pause = status["epoch"], status["output"], status["pause"]
        return [
            f"         epoch      {epoch['committed']} committed; the last one: {epoch['pages']} pages, {epoch['wire_bytes'] / (1 << 20):.1f} MiB on the wire",
            f"         pause      {pause['last_ns'] / 1e9:.2f} s, median {pause['p50_ns'] / 1e9:.2f} s; nearly all of it is the guest's own freezing and thawing",
            f"         output     {output['held_packets']} packets held now, {output['released_packets']} released",
        ]

    def _client_lines(self):
        stat = self._client.stat()
        total = sum(stat["answers"].values())
        now = time.monotonic()
        elapsed = now - self._looked[0]
        if elapsed >= _LOOK_S:
            self._rates.append((total - self._looked[1]) / elapsed if self._looked[1] else 0)
            self._looked = (now, total)
        wait = f"{stat['wait_s']:.1f} s" if stat["wait_s"] is not None else "none now"
        return [
            f"         client     {total} answers, all right; from request to answer {wait}",
            f"         answers/s  {bars(self._rates, _BARS)} {self._rates[-1] if self._rates else 0:.0f}",
        ]

    def _until(self, look, timeout_s, what):
        deadline = time.monotonic() + timeout_s
        while not look():
            if time.monotonic() >= deadline:
                self._screen.clear()
                raise DeadlineExceeded(f"{what}: not within {timeout_s:g} s")
            time.sleep(_LOOK_S)
        self._screen.clear()

