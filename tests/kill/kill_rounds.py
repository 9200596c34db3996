# SPDX-License-Identifier: Apache-2.0
"""Rounds: one kill each, at a random moment, and what must be true after it."""

import signal
import time

import kill_processes
import kill_world
from kill_checks import Violation

# What is killed: the primary's engine; its guard, with which the engine dies; both, one after the other; the process of
# the session on the backup; the backup's listener.
KINDS = ("engine", "guard", "both", "session", "backup-listener")
_WEIGHTS = (6, 5, 3, 5, 1)

# A kill comes up to this long after the group is protected; an early one so long after the last kill was got over,
# while the replica may still be filled.
_MOMENT_S = 0.2
# What a service manager takes to start a guard again, and how long a guard is held still while its engine is dead: both
# around the time after which the backup asks for promotion.
_RESTART_S = 0.8
_EARLY_SHARE = 0.25
_STALLED_SHARE = 0.5
# No promotion is later than this.
_PROMOTION_LIMIT_S = 20


class Outcome:
    """Of one round, for the figures."""

    def __init__(self, kind):
        self.kind = kind
        self.early = False
        self.promoted = False
        self.unprovoked = False  # There was a promotion, now or since the last round, that no kill explains.
        self.running_ms = None  # From the kill until the copy runs ...
        self.output_ms = None  # ... and until its first packet has left.


class Rounds:
    """Kills in one World, one after the other."""

    def __init__(self, world, random, kinds):
        self.world = world
        self.random = random
        self.kinds = [(kind, weight) for kind, weight in zip(KINDS, _WEIGHTS) if kind in kinds]
        self._settled_ns = 0
        self._owner = None

    def choose(self):
        """The kind of the next round."""
        kinds, weights = zip(*self.kinds)
        return self.random.choices(kinds, weights)[0]

    def run(self, kind):
        """One round. Violation: something is wrong. Leaves the group with an owner whose output flows."""
        outcome = Outcome(kind)
        outcome.early = self.random.random() < _EARLY_SHARE and self._settled_ns > 0
        if not outcome.early:
            self.world.expect_protected(self._settled_ns)
        self._wait(_MOMENT_S)
        node = self.world.expect(self.world.owner, "owner", "nobody owns the group")
        outcome.unprovoked = self._owner is not None and node is not self._owner
        before = _Before(self.world, node)
        at_ns = self._kill(outcome, node)
        self._settle(outcome, before, at_ns)
        self.world.check_reports()
        self._settled_ns = time.monotonic_ns()
        return outcome

    def _wait(self, most_s):
        """A random time, during which packets are looked at."""
        end = time.monotonic() + self.random.uniform(0, most_s)
        self.world.wait(lambda: time.monotonic() >= end, most_s + 1)

    def _victim(self, find, what):
        return self.world.expect(find, "victim", f"no {what} appears that could be killed").pid

    def _kill(self, outcome, node):
        """Kills, and starts again what a service manager would start. Returns when it was."""
        other = self.world.other(node)
        if outcome.kind == "engine":
            return self._kill_engine(node)
        if outcome.kind == "session":
            at_ns = self._kill_all(self._victim(lambda: self._session(other), "session"))
        elif outcome.kind == "backup-listener":
            at_ns = self._kill_all(other.listener)
            self._wait(_RESTART_S)
            other.start_listener()
        else:
            victims = [self._victim(node.driver, "guard")]
            if outcome.kind == "both":
                victims.append(self._victim(node.engine, "engine"))
                self.random.shuffle(victims)
            at_ns = self._kill_all(*victims)
            self._wait(_RESTART_S)
            self._restart_guard(node, victims)
        return at_ns

    @staticmethod
    def _kill_all(*pids):
        at_ns = time.monotonic_ns()
        for pid in pids:
            kill_processes.kill_now(pid)
        return at_ns

    @staticmethod
    def _session(node):
        driver = node.driver()
        return driver if driver is not None and driver.command == "session" and not node.has_record() else None

    def _kill_engine(self, node):
        guard = self._victim(node.driver, "guard")
        engine = self._victim(node.engine, "engine")
        if self.random.random() >= _STALLED_SHARE:
            return self._kill_all(engine)
        # The guard is slow to see it, so that guard and backup both ask the arbiter.
        kill_processes.kill_now(guard, signal.SIGSTOP)
        try:
            at_ns = self._kill_all(engine)
            self._wait(_RESTART_S)
        finally:
            kill_processes.kill_now(guard, signal.SIGCONT)
        return at_ns

    def _restart_guard(self, node, victims):
        """As a service manager does. A guard that finds the group taken up already, or gone, ends by itself."""
        self.world.expect(lambda: not any(kill_processes.find_process(pid) for pid in victims), "victim",
                          "what was killed does not die")
        self.world.children.start(node.words("guard", kill_world.GROUP), node.log("guard"))

    def _settle(self, outcome, before, at_ns):
        """Waits until one copy runs alone with its output flowing, and no trace of the other is left."""
        world = self.world
        since_ns = time.monotonic_ns()

        def settled():
            owner = world.owner()
            if owner is None or not owner.has_record():
                return None
            # A deposed copy is destroyed and its guard has ended.
            if owner is not before.node and before.node.has_record():
                return None
            guest = world.sender(owner, since_ns)
            return (owner, guest) if guest is not None and world.owner() is owner else None

        owner, guest = world.expect(settled, "output-flow", "it does not come to one owner whose new output flows")
        outcome.promoted = owner is not before.node
        if outcome.promoted:
            self._check_promoted(outcome, before, owner, at_ns)
        elif guest != before.guest:
            raise Violation("unharmed", f"the guest on node {owner.name} was process {before.guest} and is now {guest}")
        self._owner = owner
        self._expect_alone(owner, guest)

    def _expect_alone(self, owner, guest):
        """The other node has at most a copy that waits: one, that of the session there."""
        world = self.world
        other = world.other(owner)

        def alone():
            if [process.pid for process in owner.guests()] != [guest]:
                return False
            waiting = other.guests()
            return len(waiting) <= 1 and all(process.option("waiting") == "1" for process in waiting)

        world.expect(alone, "one-copy", f"beside guest {guest} on node {owner.name} there is more than one that waits")

    def _check_promoted(self, outcome, before, owner, at_ns):
        if outcome.kind in ("session", "backup-listener"):
            outcome.unprovoked = True
        register = self.world.register()
        if register.term <= before.term:
            raise Violation("promotion", f"term {register.term} after a promotion from term {before.term}")
        event = next((e for e in reversed(owner.events()) if e["to"] == "promoted"), None)
        if event is None or event["term"] != register.term:
            raise Violation("promotion", f"node {owner.name} has no event of its promotion to term {register.term}")
        committed = before.committed(int(event["session"], 16))
        if event["epoch"] < committed:
            raise Violation("promotion", f"epoch {event['epoch']} was promoted, {committed} had been acknowledged")
        generation = max(self.world.first_release_ns)
        if generation != before.generation + 1:
            raise Violation("promotion", f"incarnation {generation} follows incarnation {before.generation}")
        if outcome.unprovoked:
            return
        outcome.running_ms = (self.world.wall_to_monotonic_ns(event["time"]) - at_ns) / 1e6
        outcome.output_ms = (self.world.first_release_ns[generation] - at_ns) / 1e6
        if outcome.output_ms > _PROMOTION_LIMIT_S * 1e3:
            raise Violation("promotion", f"the first packet left {outcome.output_ms:.0f} ms after the kill")


class _Before:
    """What was true just before the kill."""

    def __init__(self, world, node):
        world.read_packets()
        self.node = node
        self.term = world.register().term
        self.guest = world.expect_flow(node, 0)
        self.generation = world.last_packet.generation

    def committed(self, session):
        """The last epoch that the primary knew to be acknowledged, if it was in that session."""
        status = self.node.status()
        if status.get("role") != "primary" or int(status["session"], 16) != session:
            return 0
        return status["epoch"]["committed"]
