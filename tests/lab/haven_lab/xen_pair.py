# SPDX-License-Identifier: Apache-2.0
"""Two Xen hosts with haven-engine, a and b, and a register in etcd on c; guests are protected from one to the other."""

import dataclasses
import datetime
import json
import re

from haven_lab.agent_client import CommandFailed
from haven_lab.machine import HostSpec
from haven_lab.wait import DeadlineExceeded, wait_until

# Hosts with guests, and one outside them for the arbiter and for clients.
_NETWORKS = ("lan", "rail0", "rail1", "guests")
XEN_PAIR = (
    HostSpec("a", networks=_NETWORKS, kind="xen", memory_mb=2048),
    HostSpec("b", networks=_NETWORKS, kind="xen", memory_mb=2048),
    HostSpec("c", networks=("lan", "guests"), memory_mb=512),
)
# The first domain has a processor of its own, as it should have where guests are protected: what is sent while a guest goes on takes
# no time from it, nor does the guest wait for its emulated hardware longer than that takes.
XEN_PAIR_TWO_PROCESSORS = tuple(dataclasses.replace(spec, cpus=2) if spec.kind == "xen" else spec for spec in XEN_PAIR)

ENGINE = "haven-engine"
_PORT = 7000
# Not found: the shell that looks for it.
_TOOLSTACK = "pgrep -f '[x]l migrate-receive'"
# Takes the file with the session's process, and whom to kill. By itself in the host, as the build is over within seconds.
_KILL_WHILE_BUILDING = f"""
old=$(xl domid g1--incoming)
last=$({_TOOLSTACK} | tail -n 1)
kill -KILL $(cat $1)
until new=$(xl domid g1--incoming 2>/dev/null) && [[ $new != $old ]]; do sleep 0.05; done
if [[ $2 == session ]]; then kill -KILL $(cat $1); else kill -KILL $({_TOOLSTACK} | awk -v last=$last '$1 > last' | head -n 1); fi
"""
# On the disk, so that it outlives a power cut.
DIRECTORY = "/var/lib/haven-engine"
# What a service manager runs on a host that has a record of the guest.
GUARD = [ENGINE, "guard", f"--directory={DIRECTORY}", "g1"]
_PSK = f"{DIRECTORY}.psk"
_WAIT_S = 180
# Building a copy by the toolstack, and copying a guest's memory, on emulated processors.
SYNC_TIMEOUT_S = 240
# Emulated processors are late for the engine's usual times.
# A copy that is promoted goes on with the policy of its host's listener: it is the same for both.
_POLICY = ("--rearm=20s", "--pause-budget=20s", "--arbiter-timeout=10s", "--copy-threads=0")


class XenPair:
    """A context is not needed: everything ends with the hosts."""

    def __init__(self, lab, interval="500ms", detect="6s"):
        self.lab = lab
        self._interval = interval
        self._detect = detect
        self._arbiter = f"etcd:{lab.host('c').address()}:2379"
        self._psk = None
        self.listeners = {}
        self._guards = {}
        self.etcd = None
        lab.files += [f"{DIRECTORY}/*.{suffix}" for suffix in ("status", "events")]
        lab.files += ["/var/log/xen/*.log", "/var/log/xen/console/*.log"]

    @property
    def a(self):
        return self.lab.host("a")

    @property
    def b(self):
        return self.lab.host("b")

    @property
    def c(self):
        return self.lab.host("c")

    def other(self, host):
        return self.b if host is self.a else self.a

    def start(self):
        """The arbiter, a key that both hosts have, and a listener on each."""
        url = f"http://{self.c.address()}:2379"
        etcd = ["etcd", "--data-dir", "/run/etcd", "--listen-client-urls", url, "--advertise-client-urls", url]
        self.etcd = self.c.start(etcd)
        self.etcd.wait_for_output("ready to serve client requests|serving", _WAIT_S)
        # A client that is not answered asks again in even intervals, and not each time after twice the time.
        self.c.run("sysctl -qw net.ipv4.tcp_thin_linear_timeouts=1")
        self.a.run([ENGINE, "keygen", "psk", _PSK])
        self._psk = self.a.get(_PSK)
        for host in (self.a, self.b):
            self.listen(host)

    def listen(self, host, *words):
        """Makes a host one that takes copies. Of a guard that its power cut ended nobody will know how."""
        self._guards.pop(host.name, None)
        host.run(["mkdir", "-p", DIRECTORY])
        host.put(_PSK, self._psk, mode=0o600)
        command = [ENGINE, "backup", f"--directory={DIRECTORY}", f"--node={host.name}", f"--listen={self._address(host)}"]
        command += [f"--arbiter={self._arbiter}", f"--psk={_PSK}", *_POLICY, "--apply-threads=0", *words]
        self.listeners[host.name] = host.start(command)
        self.listeners[host.name].wait_for_output("listens at", _WAIT_S)

    def protect(self, guest, *words, on=None):
        """Starts the protection of a guest that runs on a, or on another host; its guard's command."""
        host = on or self.a
        command = [ENGINE, "protect", f"xen:{guest.name}", f"--directory={DIRECTORY}", f"--node={host.name}"]
        command += [f"--backup={self._address(self.other(host))}", f"--return-address={self._address(host)}"]
        command += [f"--arbiter={self._arbiter}", f"--psk={_PSK}", f"--interval={self._interval}"]
        command += [f"--detect={self._detect}", "--epoch-bytes=32M", *_POLICY, *words]
        self._guards[host.name] = host.start(command)
        return self._guards[host.name]

    def ask(self, host, *words, check=True, timeout_s=_WAIT_S):
        """A command of an operator: ask(pair.a, "unprotect", "g1")."""
        return host.run([ENGINE, words[0], f"--directory={DIRECTORY}", *words[1:]], check=check, timeout_s=timeout_s)

    def kill(self, host, *parts, signal="KILL", group="g1"):
        """Sends a signal to the "guard", the "engine" or the "session" of a host, as many as are named, in one breath."""
        holder = f"$(cat {DIRECTORY}/{group}.lock)"
        find = {"guard": holder, "engine": f"$(pgrep -P {holder} -f ' engine ')", "session": holder}
        find["toolstack"] = f"$({_TOOLSTACK} | head -n 1)"
        host.run(f"kill -{signal} {' '.join(find[part] for part in parts)}")

    def kill_while_building(self, host, part):
        """Kills the session of a host, and the "session" or the "toolstack" that follows once it has begun to build its copy."""
        host.run(["bash", "-c", _KILL_WHILE_BUILDING, "kill", f"{DIRECTORY}/g1.lock", part], timeout_s=_WAIT_S)

    def guard(self, host):
        """What a service manager does after guard and engine are gone."""
        self._guards[host.name] = host.start(GUARD)
        return self._guards[host.name]

    def domains(self, host):
        """The names of the domains there, without the first."""
        rows = host.run("xl list", timeout_s=_WAIT_S).out.splitlines()[2:]
        return [row.split()[0] for row in rows]

    def left(self, host, *prefixes):
        """What there is of protected guests on a host: domains, records, devices of NICs and of held output.

        With `prefixes` only devices whose names begin so.
        """
        devices = [line.split()[0].split("@")[0] for line in host.run("ip -br link").out.splitlines()]
        found = [name for name in devices if name.startswith(prefixes or ("vif", "hvn"))]
        if prefixes:
            return found
        records = host.run(f"ls {DIRECTORY} 2>/dev/null | grep '[.]group$' || true").out.split()
        return self.domains(host) + records + found

    def register(self, group="g1"):
        """The register's word: {"term": ..., "owner": ..., "mode": ..., "session": ..., "running": ...}."""
        asked = ["etcdctl", f"--endpoints=http://{self.c.address()}:2379", "get", "--print-value-only", f"/haven/{group}"]
        return dict(re.findall(r"(\w+)=(\S+)", self.c.run(asked, timeout_s=_WAIT_S, env={"ETCDCTL_API": "3"}).out))

    def wait_for(self, condition, what, timeout_s=_WAIT_S):
        """wait_until(), at a pace that leaves the hosts' processors alone."""
        return wait_until(condition, timeout_s, what, interval_s=0.5)

    def ear(self, host):
        """Hears what a host says from now on: ear(text) waits until its status or an event has this text; the whole sentence."""
        known = self._sentences(host)
        heard = len(self.events(host))

        def wait(text, timeout_s=_WAIT_S):
            def look():
                said = [each for each in self._sentences(host) if each not in known]
                said += [f"{event['cause']} {event.get('detail', '')}" for event in self.events(host)[heard:]]
                return next((each for each in said if text in each), None)

            return self.wait_for(look, f"{host.name} to say {text!r}", timeout_s)

        return wait

    def _sentences(self, host):
        status = self.status(host)
        return [status.get("last_error", ""), status.get("reason", "")]

    def status(self, host, group="g1"):
        try:
            return json.loads(host.get(f"{DIRECTORY}/{group}.status").decode())
        except (OSError, ValueError):
            return {}

    def events(self, host, group="g1"):
        try:
            said = host.get(f"{DIRECTORY}/{group}.events").decode()
            # The last line may be on its way.
            return [json.loads(line) for line in said[: said.rfind("\n") + 1].splitlines()]
        except OSError:
            return []

    def wait_until_protected(self, epochs, host=None, timeout_s=SYNC_TIMEOUT_S):
        """Until so many epochs more are committed, and the register lets the other host be promoted. The status."""
        host = host or self.a
        first = None

        def look():
            nonlocal first
            self._expect_not_refused(host)
            status = self.status(host)
            if status.get("role") != "primary" or status["state"] != "protected" or status["register"]["mode"] != "promotable":
                first = None
                return None
            committed = status["epoch"]["committed"]
            first = committed if first is None else first
            return status if committed >= first + epochs else None

        try:
            return wait_until(look, timeout_s, f"the guest on {host.name} to be protected", interval_s=0.5)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"{error}: {self.status(host)}") from error

    def _expect_not_refused(self, host):
        guard = self._guards.get(host.name)
        if guard is not None and not guard.running and host.agent.lost is None and guard.wait().code in (1, 2, 4):
            raise CommandFailed(f"protect on {host.name} ended: {guard.err}")

    def replace(self, host):
        """A blank host in the place of one whose power was cut, with a listener."""
        self.lab.restore(host.name)
        self.listen(host)

    def promotions(self, host):
        """How many there have been on a host."""
        return sum(event["to"] == "promoted" for event in self.events(host))

    def wait_for_promotion(self, host, already=0, timeout_s=_WAIT_S):
        """The events of the next promotion there after so many, from the suspicion to its end, once it has ended."""

        def look():
            events = self.events(host)
            ends = [at for at, event in enumerate(events) if event["to"] == "promoted"]
            if len(ends) <= already:
                return None
            begin = max(at for at in range(ends[-1]) if events[at]["to"] == "promoting" and events[at]["from"] != "promoting")
            return events[begin : ends[-1] + 1]

        # When it was stands in the events.
        return self.wait_for(look, f"a promotion on {host.name}", timeout_s)

    @staticmethod
    def own_times(events):
        """When events were, by the clock of their host."""
        return [datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp() for event in events]

    def event_times(self, host, events):
        """When events of a host were, by time.time() of this machine."""
        ahead = host.clock_ahead()
        return [time_s - ahead for time_s in self.own_times(events)]

    def _address(self, host):
        return f"rdma:{host.address()}:{_PORT},dev=rxe_rail0"
