# SPDX-License-Identifier: Apache-2.0
"""haven-engine on the lab's hosts: two nodes, a register in etcd on a third, a protected guest, and what it shows outside."""

import base64
import concurrent.futures
import dataclasses
import datetime
import json
import os
import re
import signal as signals
import time

from haven_lab import outside
from haven_lab.outside import kill_checks
from haven_lab.wait import wait_until

GROUP = "g1"
PORT = 7000
# On the disk, so that it outlives a power cut; elsewhere on hosts that do other work, too (bench/cluster).
DIRECTORY = os.environ.get("HAVEN_LAB_DIRECTORY", "/var/lib/haven-engine")
PSK = f"{DIRECTORY}.psk"
ENGINE = "haven-engine"
# Copying a guest's memory between emulated hosts that share the machine with other work.
SYNC_TIMEOUT_S = 400
WAIT_S = 180


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a protection. Emulated processors are late for the engine's usual times."""

    guest: str = "mem=24M,dirty=400,output=20,vcpus=2"  # The one that talks to the world.
    others: tuple = ()  # More guests of the group.
    detect: str = "3s"
    rearm: str = "4s"
    pause_budget: str = "4s"
    interval: str = "100ms"
    epoch_bytes: str = "8M"
    two_rails: bool = True
    credentials: tuple = (f"--psk={PSK}",)

    def policy(self):
        return [f"--rearm={self.rearm}", f"--pause-budget={self.pause_budget}", "--arbiter-timeout=10s", "--copy-threads=0"]


class Node:
    """A host with haven-engine."""

    def __init__(self, pair, name):
        self.name = name
        self.listener = None
        self.guard = None
        self._pair = pair

    @property
    def host(self):
        return self._pair.lab.host(self.name)

    @property
    def other(self):
        return self._pair.node("b" if self.name == "a" else "a")

    def address(self, user=None):
        """Where its listener is, with what `user` (itself, if not given) has for RDMA."""
        rail = f",rail={(user or self).host.address('rail1')}" if self._pair.settings.two_rails else ""
        return f"rdma:{self.host.address()}:{PORT},dev={(user or self).host.device('rail0')}{rail}"

    def prepare(self):
        """The folder, the key and the ears that a node needs; again after it was switched on as a new one."""
        self.host.run(["mkdir", "-p", DIRECTORY])
        self.host.put(PSK, self._pair.psk, mode=0o600)
        self._pair.outside.listen(self.host)

    def start_listener(self):
        words = [ENGINE, "backup", f"--directory={DIRECTORY}", f"--node={self.name}", f"--listen={self.address()}"]
        words += [f"--arbiter={self._pair.arbiter}", *self._pair.settings.credentials, *self._pair.settings.policy()]
        self.listener = self.host.start([*words, "--apply-threads=0"])
        self.listener.wait_for_output("listens at", WAIT_S)

    def begin(self):
        self.prepare()
        self.start_listener()

    def start_protection(self):
        chosen = self._pair.settings
        words = [ENGINE, "protect", f"synthetic:name={GROUP},{chosen.guest},log=unix:{outside.SOCKET}"]
        words += [*(f"synthetic:{guest}" for guest in chosen.others), f"--group={GROUP}", f"--directory={DIRECTORY}", f"--node={self.name}", f"--backup={self.other.address(self)}"]
        words += [f"--return-address={self.address(self.other)}", f"--arbiter={self._pair.arbiter}"]
        words += [f"--interval={chosen.interval}", f"--detect={chosen.detect}", f"--epoch-bytes={chosen.epoch_bytes}"]
        self.guard = self.host.start([*words, *chosen.credentials, *chosen.policy()])

    def start_guard(self):
        """What a service manager does after guard and engine are gone."""
        self.guard = self.host.start([ENGINE, "guard", f"--directory={DIRECTORY}", GROUP])

    def ask(self, *words, check=True, timeout_s=WAIT_S):
        """A command of an operator: ask("unprotect", GROUP)."""
        return self.host.run([ENGINE, words[0], f"--directory={DIRECTORY}", *words[1:]], check=check, timeout_s=timeout_s)

    def file(self, name):
        """The text of a file of the node; empty if it is not there."""
        try:
            return self.host.get(f"{DIRECTORY}/{name}").decode()
        except OSError:
            return ""

    def status(self):
        text = self.file(f"{GROUP}.status")
        return json.loads(text) if text else {}

    def events(self):
        return [json.loads(line) for line in self.file(f"{GROUP}.events").splitlines()]

    def report(self, guest=GROUP):
        """What the copy of a guest that was promoted here has found out about itself."""
        text = self.file(f"guests/synthetic-{guest}.report")
        return kill_checks.parse_report(text) if text else None

    def has_record(self):
        return bool(self.file(f"{GROUP}.group"))

    def kill(self, *parts, signal="KILL"):
        """Sends a signal to the node's "guard" or "engine", as many as are named, in one breath."""
        find = {"guard": f"$(cat {DIRECTORY}/{GROUP}.lock)", "engine": f"$(pgrep -P $(cat {DIRECTORY}/{GROUP}.lock) -f ' engine ')"}
        self.host.run(f"kill -{signal} {' '.join(find[part] for part in parts)}")

    def processes(self):
        """The command lines of all processes of haven-engine here, guests too."""
        return self.host.run(["pgrep", "-a", "-f", DIRECTORY], check=False).out.splitlines()


class Pair:
    """Nodes a and b, etcd on c, and a guest of which one copy runs and one waits."""

    def __init__(self, lab, report, settings=Settings()):
        self.lab = lab
        self.report = report
        self.settings = settings
        self.outside = outside.Outside(lambda name: self.node(name).report())
        self.nodes = {name: Node(self, name) for name in ("a", "b")}
        self.arbiter = f"etcd:{lab.host('c').address()}:2379"
        self.psk = None
        self._etcd = None
        lab.files += [f"{DIRECTORY}/*.{suffix}" for suffix in ("status", "events")] + [f"{DIRECTORY}/guests/*.report"]

    def node(self, name):
        return self.nodes[name]

    def start(self, first=None):
        """Everything up to a guest that is protected, from `first` (a, if not given) to the other node. On hosts where
        another pair has ended: with that one's `psk`."""
        first = first or self.node("a")
        # Each host works for itself meanwhile.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            under_way = []
            if self.psk is None:
                under_way.append(pool.submit(self.start_arbiter))
                first.host.run(["mkdir", "-p", DIRECTORY])
                first.host.run([ENGINE, "keygen", "psk", PSK])
                self.psk = first.host.get(PSK)
            under_way += [pool.submit(node.begin) for node in self.nodes.values()]
            for one in under_way:
                one.result()
        first.start_protection()
        self.expect_protected(first, SYNC_TIMEOUT_S)

    def start_arbiter(self):
        url = f"http://{self.lab.host('c').address()}:2379"
        words = ["etcd", "--data-dir", "/run/etcd", "--listen-client-urls", url, "--advertise-client-urls", url]
        self._etcd = self.lab.host("c").start(words)
        wait_until(lambda: "200 OK" in self._ask_etcd("GET", "/health"), WAIT_S, "etcd on host c")

    def _ask_etcd(self, method, path, body=""):
        """What etcd answers on its own host, whatever the network does; bash alone, for a client of its own is a heavy program."""
        request = f"{method} {path} HTTP/1.0\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
        host = self.lab.host("c")
        line = f"exec 3<>/dev/tcp/{host.address()}/2379 && printf '{request}' >&3 && printf '%s' '{body}' >&3 && cat <&3"
        return host.run(line, check=False, timeout_s=WAIT_S).out

    def hold_arbiter(self):
        """It takes requests and answers none, until release_arbiter()."""
        self._etcd.kill(signals.SIGSTOP)

    def release_arbiter(self):
        self._etcd.kill(signals.SIGCONT)

    def register(self):
        """The register's word: {"term": ..., "owner": ..., "mode": ..., "session": ..., "running": ...}."""
        key = base64.b64encode(f"/haven/{GROUP}".encode()).decode()
        answer = self._ask_etcd("POST", "/v3/kv/range", json.dumps({"key": key}))
        value = re.search(r'"value":"([^"]*)"', answer)
        if value is None:
            raise RuntimeError(f"etcd knows no register of {GROUP}: {answer}")
        return dict(re.findall(r"(\w+)=(\S+)", base64.b64decode(value.group(1)).decode()))

    def wait(self, condition, timeout_s, what, interval_s=0.1):
        """The first true value of condition(); what leaves the guests meanwhile is checked."""

        def look():
            self.outside.look()
            return condition()

        return wait_until(look, timeout_s, what, interval_s)

    def expect_held(self, seconds=0, until=lambda: True):
        """No packet leaves for a time, and then until a condition holds, once what is on its way is through."""
        self.watch(0.5)
        count, began_s = self.outside.count, time.monotonic()
        self.watch(seconds)
        self.wait(until, WAIT_S, "the end of the time in which output is held", interval_s=0.2)
        self.report.check(f"no output for {time.monotonic() - began_s:.1f} s", self.outside.count == count, f"{self.outside.count - count} packets")

    def expect_state(self, node, *states, timeout_s=WAIT_S):
        """Until the status on `node` says one of these. The status."""

        def look():
            status = node.status()
            return status if status.get("state") in states else None

        return self.wait(look, timeout_s, f"the status on {node.name} to say {' or '.join(states)}", interval_s=0.2)

    def watch(self, seconds):
        """Checks what leaves the guests for a time."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= end, seconds + WAIT_S, "the time")

    def expect_protected(self, node, timeout_s=WAIT_S):
        """Until an epoch that began after this call is committed, and the engine on `node` says protected. Its status."""
        first = None

        def look():
            nonlocal first
            status = node.status()
            if status.get("role") != "primary" or status["state"] != "protected":
                return None
            first = first or (status["pid"], status["epoch"]["committed"])
            more = status["pid"] != first[0] or status["epoch"]["committed"] > first[1] + 1
            return status if more and status["register"]["mode"] == "promotable" else None

        return self.wait(look, timeout_s, f"the guest on {node.name} to be protected", interval_s=0.3)

    def expect_flow(self, node, timeout_s=WAIT_S):
        """Until output of the copy on `node` leaves. Returns when it did, by time.monotonic()."""
        count = self.outside.count

        def look():
            new = self.outside.count > count and self.outside.last_node == node.name
            return self.outside.last_s if new else None

        return self.wait(look, timeout_s, f"output of the copy on {node.name}")

    def expect_promoted(self, node, timeout_s=WAIT_S):
        """Until the copy on `node` runs, has proved itself equal to a committed epoch, and its output flows."""
        generation = max(self.outside.first_s, default=0)
        self.wait(lambda: self.outside.last_node == node.name, timeout_s, f"output of a copy promoted on {node.name}", 0.02)
        now = max(self.outside.first_s)
        found = node.report()
        self.report.check(f"the copy on {node.name} is equal to a committed epoch", found.verdict == "equal", found.finding)
        if now != generation + 1:
            raise kill_checks.Violation("promotion", f"incarnation {now} follows incarnation {generation}")
        return self.outside.first_s[now]

    def promotion_of(self, node):
        """The last promotion on a node: the events of its beginning and its end."""
        events = node.events()
        end = max(at for at, event in enumerate(events) if event["to"] == "promoted")
        begin = max(at for at in range(end) if events[at]["to"] == "promoting" and events[at]["from"] != "promoting")
        return events[begin], events[end]

    def owner(self):
        """The node whose copy runs by the register's word; None while none may."""
        register = self.register()
        return self.node(kill_checks.node_of(register["owner"])) if register["running"] == "yes" else None

    def expect_owner(self, timeout_s=WAIT_S):
        """Until the copy that the register names is the one whose output flows. Its node."""
        count = self.outside.count

        def look():
            node = self.owner() if self.outside.count > count else None
            return node if node is not None and self.outside.last_node == node.name else None

        return self.wait(look, timeout_s, "one owner whose output flows", interval_s=0.3)

    def expect_gone(self, node, says="was promoted elsewhere; the copy here is destroyed", code=6, timeout_s=WAIT_S):
        """Until nothing of the group is left on a node whose copy was deposed, and its guard has said so and ended."""
        self.wait(lambda: not node.has_record(), timeout_s, f"the deposed copy on {node.name} to be destroyed")
        if node.guard is not None:
            found = node.guard.wait(WAIT_S)
            told = says in found.err and found.code == code
            self.report.check(f"the guard on {node.name} ends and says: {says}", told, f"exit code {found.code}")
            node.guard = None

    def stop(self):
        """Ends the protection in good order; nothing must be left of it."""
        node = self.expect_owner()
        node.ask("unprotect", f"--timeout={SYNC_TIMEOUT_S}s", GROUP, timeout_s=SYNC_TIMEOUT_S)
        self.expect_flow(node)
        for guest in (GROUP, *(re.match(r"name=([^,]+)", other).group(1) for other in self.settings.others)):
            node.ask("synthetic", "shutdown", guest)
        for each in self.nodes.values():
            each.listener.kill(signals.SIGTERM)
            self.report.check(f"the listener on {each.name} ends as it was told", each.listener.wait().code == 0)
            self.wait(lambda each=each: not each.processes(), WAIT_S, f"processes of {ENGINE} on {each.name} to end")
        self.outside.look()
        self.report.check("nothing is left of it", not any(node.has_record() for node in self.nodes.values()), f"{self.outside.count} packets")

    def replace_host(self, name):
        """A blank host in the place of one whose power was cut, with a listener."""
        self.lab.restore(name)
        self.node(name).begin()

    def cut(self, *networks):
        """Nothing passes between the nodes on these networks, until heal()."""
        for network in networks or ("lan", "rail0", "rail1"):
            self.lab.hub.both_ways(f"a.{network}", f"b.{network}", cut=True)

    def heal(self):
        self.lab.hub.heal()

    @staticmethod
    def event_s(event):
        """When an event was, by time.monotonic() of this machine: the hosts' clocks are set from it."""
        moment = datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00"))
        return time.monotonic() - (time.time() - moment.timestamp())
