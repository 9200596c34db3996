# SPDX-License-Identifier: Apache-2.0
"""The virtual network between the hosts: starts the hub (hub/) and tells it what to do to the traffic."""

import json
import socket
import subprocess
import threading
import time

from haven_lab.wait import wait_until

START_TIMEOUT_S = 30


class Hub:
    """A running hub. Ports are called HOST.NETWORK; patterns may hold the wildcards of a shell."""

    def __init__(self, program, work, specs, seed=1):
        ports = [f"{spec.name}.{net}:{net}:{work}/{spec.name}.{net}" for spec in specs for net in spec.networks]
        self._log = open(work / "hub.log", "ab")
        # A hypervisor in emulation has to be stirred (docs/lab.md, traps).
        stir = ",".join(f"{spec.name}.{spec.networks[0]}" for spec in specs if spec.kind == "xen")
        command = ["setpriv", "--pdeathsig", "KILL", str(program), f"--control={work}/hub", f"--seed={seed}", f"--stir={stir}", *ports]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, bufsize=0
        )
        # It says one line when all its sockets are there, or nothing at all and ends.
        if self._process.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError(f"the hub did not start: {(work / 'hub.log').read_text()}")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(START_TIMEOUT_S)
        self._socket.connect(str(work / "hub"))
        self._file = self._socket.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()

    def ask(self, op, **fields):
        """One command; its answer, or ValueError with the reason."""
        with self._lock:
            self._socket.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            answer = json.loads(self._file.readline())
        if "error" in answer:
            raise ValueError(f"hub: {answer['error']}")
        return answer

    def one_way(self, source, target, **rule):
        """From now on frames from `source` to `target` suffer this; without a rule nothing. See hub/link.h for the rules."""
        self.ask("link", **{"from": source, "to": target, "rule": rule})

    def both_ways(self, one, other, **rule):
        self.one_way(one, other, **rule)
        self.one_way(other, one, **rule)

    def cut(self, one, other="*"):
        """Nothing passes between these ports, in either direction, until heal()."""
        self.both_ways(one, other, cut=True)

    def heal(self):
        """Every link is perfect again."""
        self.ask("clear")

    def counters(self, source, target):
        """What has happened to the frames from one port to another since the start."""
        for link in self.ask("stats")["links"]:
            if (link["from"], link["to"]) == (source, target):
                return link
        raise ValueError(f"no link goes from {source} to {target}")

    def source(self, port, address):
        """What has come in at a port from a station, by its hardware address: `frames`, of these `reverse_arps`, and when the
        last one came, `last_s`, by time.time(). Zeros if nothing has."""
        for source in self.ask("sources")["sources"]:
            if (source["port"], source["address"]) == (port, address):
                # The hub has the same monotonic clock.
                return {**source, "last_s": time.time() - (time.monotonic() - source["last_ns"] / 1e9)}
        return {"frames": 0, "reverse_arps": 0, "last_s": 0.0}

    def wait_for_count(self, source, target, counter, more_than, timeout_s):
        """Until a counter is above a number: something has visibly happened to the traffic."""
        wait_until(
            lambda: self.counters(source, target)[counter] > more_than,
            timeout_s,
            f"more than {more_than} frames {counter} from {source} to {target}",
        )

    def close(self):
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()
