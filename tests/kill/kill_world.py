# SPDX-License-Identifier: Apache-2.0
"""Two nodes of one host, a group of one synthetic guest between them, and what can be seen of it from outside."""

import datetime
import json
import os
import signal
import time

import kill_checks
import kill_processes
from kill_checks import Violation
from kill_processes import wait_until

GROUP = "g1"
WAIT_S = 60
GUEST = f"synthetic:name={GROUP},mem=8M,vcpus=2,dirty=2000,output=500"
# On a machine with fewer cores than processes a healthy engine may be late by more than the default of 100 ms.
DETECT_MS = 400
TIMES = ["--interval", "20ms", "--detect", f"{DETECT_MS}ms", "--epoch-bytes", "16M", "--copy-threads", "0"]


class Node:
    """One host: its directory, its listener, and what its files say."""

    def __init__(self, world, name):
        self.name = name
        self.directory = os.path.join(world.directory, name)
        self.address = f"unix:{self.directory}/listen.sock"
        self.listener = None
        self._world = world

    def _file(self, name):
        try:
            with open(os.path.join(self.directory, name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def status(self):
        text = self._file(f"{GROUP}.status")
        return json.loads(text) if text else {}

    def events(self):
        return [json.loads(line) for line in self._file(f"{GROUP}.events").splitlines()]

    def report(self):
        text = self._file(f"guests/synthetic-{GROUP}.report")
        return kill_checks.parse_report(text) if text else None

    def has_record(self):
        """A copy that is or was protected is on this node."""
        return bool(self._file(f"{GROUP}.group"))

    def processes(self):
        return kill_processes.processes_under(self.directory)

    def driver(self):
        """The process that drives the group here: a guard, or the session that has the replica."""
        pid = self._file(f"{GROUP}.lock")
        process = kill_processes.find_process(int(pid)) if pid else None
        mine = process is not None and process.option("directory") == self.directory
        return process if mine and process.command in ("protect", "guard", "session") else None

    def engine(self):
        driver = self.driver()
        if driver is None:
            return None
        return next((p for p in self.processes() if p.command == "engine" and p.parent == driver.pid), None)

    def guests(self):
        """Running copies and waiting ones; the process that only forks a guest is not one."""
        return [p for p in self.processes() if p.command == "synthetic-guest" and p.parent == os.getpid()]

    def words(self, *words):
        return [self._world.program, *words, "--directory", self.directory]

    def start_listener(self):
        self.listener = self._world.children.start(
            self.words("backup", "--node", self.name, "--listen", self.address, "--arbiter", self._world.arbiter),
            self.log("listener"))

    def log(self, name):
        return os.path.join(self._world.directory, f"{self.name}.{name}.log")


class World:
    """`directory` is the scratch directory of this pair and does not exist yet."""

    def __init__(self, program, directory, mark):
        self.program = program
        self.directory = directory
        self.children = kill_processes.Children(mark)
        self.arbiter = f"file:{directory}/arbiter"
        self.nodes = [Node(self, "a"), Node(self, "b")]
        self.history = kill_checks.History()
        self.last_packet = None
        self._shared_memory = set(os.listdir("/dev/shm"))
        self._packet_file = None
        self._unparsed = b""
        self.first_release_ns = {}

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def other(self, node):
        return next(other for other in self.nodes if other is not node)

    def start(self):
        for name in ("", "arbiter", "a", "b"):
            os.mkdir(os.path.join(self.directory, name) if name else self.directory, 0o700)
        for path in ("arbiter/haven-arbiter", "packets"):
            with open(os.path.join(self.directory, path), "w", encoding="ascii"):
                pass
        self._packet_file = open(os.path.join(self.directory, "packets"), "rb")
        for node in self.nodes:
            node.start_listener()
        for node in self.nodes:
            self.expect(lambda node=node: os.path.exists(f"{node.directory}/listen.sock"), "start",
                        f"the listener of node {node.name} does not listen")
        first, second = self.nodes
        self.children.start(
            first.words("protect", f"{GUEST},log={self.directory}/packets", "--node", first.name, "--backup",
                        second.address, "--return-address", first.address, "--arbiter", self.arbiter, *TIMES),
            first.log("guard"))

    def expect(self, condition, check, message, timeout_s=WAIT_S):
        """The true value that condition() has within the time; packets that leave meanwhile are checked."""

        value = self.wait(condition, timeout_s)
        if not value:
            raise Violation(check, f"{message} within {timeout_s} s")
        return value

    def wait(self, condition, timeout_s):
        """As kill_processes.wait_until."""

        def look():
            self.read_packets()
            return condition()

        return wait_until(look, timeout_s)

    def read_packets(self):
        data = self._unparsed + self._packet_file.read()
        packets, used = kill_checks.parse_packets(data)
        self._unparsed = data[used:]
        for packet in packets:
            if packet.generation not in self.first_release_ns:
                self.first_release_ns[packet.generation] = packet.released_ns
                if packet.generation > 1:
                    self._note_promotion(packet.generation - 1)
            self.history.add(packet)
            self.last_packet = packet

    def _note_promotion(self, generation):
        """A copy of incarnation `generation` sends: there must be a report of what it is."""
        reports = [report for report in (node.report() for node in self.nodes) if report is not None]
        mine = [report for report in reports if report.generation == generation]
        if not mine:
            raise Violation("report", f"a copy of incarnation {generation} runs, and no node has a report of it")
        if generation not in self.history.promotions:
            self.history.promoted(mine[0])

    def check_reports(self):
        for node in self.nodes:
            report = node.report()
            if report is not None and report.verdict != "equal":
                raise Violation("report", f"the copy on node {node.name} says {report.verdict}: {report.finding}")

    def register(self):
        try:
            with open(os.path.join(self.directory, "arbiter", f"{GROUP}.register"), "rb") as file:
                return kill_checks.parse_register(file.read())
        except FileNotFoundError:
            return None

    def owner(self):
        """The node whose copy runs by the register's word; None while none may."""
        register = self.register()
        return self.node(kill_checks.node_of(register.owner)) if register and register.running else None

    def is_protected(self, node, since_ns):
        """The engine there says so, later than `since_ns`; the register names the replica, and its process lives."""
        status = node.status()
        register = self.register()
        return (status.get("role") == "primary" and status["state"] == "protected" and status["written_ns"] > since_ns
                and register.mode == "promotable" and int(register.session, 16) == int(status["session"], 16)
                and self.owner() is node and self.other(node).driver() is not None)

    def expect_protected(self, since_ns):
        """The node whose copy is protected at last."""

        def look():
            node = self.owner()
            return node if node is not None and self.is_protected(node, since_ns) else None

        return self.expect(look, "re-protection", "the group is not protected")

    def expect_flow(self, node, since_ns):
        """Waits until output that the copy on `node` made after `since_ns` has left. Returns its guest's pid."""
        return self.expect(lambda: self.sender(node, since_ns), "output-flow",
                           f"no new output of the copy on node {node.name}")

    def sender(self, node, since_ns):
        """The pid of the guest that sent the last packet, if it is on `node` and made it after `since_ns`."""
        packet = self.last_packet
        if packet is None or packet.emitted_ns <= since_ns:
            return None
        guest = kill_processes.find_process(packet.pid)
        return packet.pid if guest is not None and guest.option("runtime-dir") == f"{node.directory}/guests" else None

    def stop(self, left_timeout_s=WAIT_S):
        """Ends everything in good order and checks that nothing is left of it but records and logs."""
        node = self._expect_unprotected()
        self.expect_flow(node, time.monotonic_ns())
        self._expect_done(node, "synthetic", "shutdown", GROUP)
        for each in self.nodes:
            kill_processes.kill_now(each.listener, signal.SIGTERM)
        self.expect(lambda: all(self.children.code(node.listener) == 0 for node in self.nodes), "listener-exit",
                    "the listeners do not end with code 0")
        self.check_left(left_timeout_s)

    def _expect_unprotected(self):
        """Asks whoever owns the group, until the register says that nobody protects it. Returns the node."""
        self.expect_protected(0)

        def unprotected():
            node = self.owner()
            if node is None or self.children.run(node.words("unprotect", GROUP), node.log("operator")) != 0:
                return None
            return node if self.register().mode == "none" and self.owner() is node else None

        return self.expect(unprotected, "unprotect", "the group can not be unprotected")

    def _expect_done(self, node, *words):
        self.expect(lambda: self.children.run(node.words(*words), node.log("operator")) == 0, words[0],
                    f"node {node.name} does not carry out \"{' '.join(words)}\"")

    def check_left(self, timeout_s):
        def processes():
            self.children.reap()
            return kill_processes.processes_under(self.directory)

        if not wait_until(lambda: not processes(), timeout_s):
            lines = ", ".join(f"{p.pid} ({p.command})" for p in processes())
            raise Violation("left-behind", f"processes {lines}")
        self.read_packets()
        left = [name for name in os.listdir("/dev/shm") if name not in self._shared_memory and "haven" in name]
        if left:
            raise Violation("left-behind", f"in /dev/shm: {', '.join(left)}")
        wanted = (".log", ".events", ".status", ".lock", ".report", ".stderr", ".register", "packets", "haven-arbiter")
        for folder, _, files in os.walk(self.directory):
            for name in files:
                if not name.endswith(wanted):
                    raise Violation("left-behind", f"file {os.path.join(folder, name)}")

    @staticmethod
    def wall_to_monotonic_ns(text):
        """The time of an event, as 2026-01-31T12:00:00.123456Z, on the clock of the packets."""
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        return time.monotonic_ns() - (time.time_ns() - int(moment.timestamp() * 1e6) * 1000)

    def close(self):
        if self._packet_file is not None:
            self._packet_file.close()
