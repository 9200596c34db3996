# SPDX-License-Identifier: Apache-2.0
"""Two Xen hosts with haven-engine, a and b, and a register in etcd on c; guests are protected from a to b."""

import json

from haven_lab.wait import wait_until

_ENGINE = "haven-engine"
_PORT = 7000
# On the disk, so that it outlives a power cut.
_DIRECTORY = "/var/lib/haven-engine"
_PSK = f"{_DIRECTORY}.psk"
_WAIT_S = 180
# Building a copy by the toolstack, and copying a guest's memory, on emulated processors.
_SYNC_TIMEOUT_S = 900
# Emulated processors are late for the engine's usual times.
_POLICY = ("--rearm=20s", "--pause-budget=20s", "--arbiter-timeout=10s", "--copy-threads=0")


class XenPair:
    """A context is not needed: everything ends with the hosts."""

    def __init__(self, lab):
        self._lab = lab
        self._arbiter = f"etcd:{lab.host('c').address()}:2379"
        lab.files += [f"{_DIRECTORY}/*.{suffix}" for suffix in ("status", "events")]

    @property
    def a(self):
        return self._lab.host("a")

    @property
    def b(self):
        return self._lab.host("b")

    def start(self):
        """The arbiter, a key that both hosts have, and a listener on b."""
        url = f"http://{self._lab.host('c').address()}:2379"
        etcd = ["etcd", "--data-dir", "/run/etcd", "--listen-client-urls", url, "--advertise-client-urls", url]
        self._lab.host("c").start(etcd).wait_for_output("ready to serve client requests|serving", _WAIT_S)
        for host in (self.a, self.b):
            host.run(["mkdir", "-p", _DIRECTORY])
        self.a.run([_ENGINE, "keygen", "psk", _PSK])
        self.b.put(_PSK, self.a.get(_PSK), mode=0o600)
        words = [_ENGINE, "backup", f"--directory={_DIRECTORY}", "--node=b", f"--listen={self._address()}"]
        words += [f"--arbiter={self._arbiter}", f"--psk={_PSK}", *_POLICY, "--apply-threads=0"]
        self.b.start(words).wait_for_output("listens at", _WAIT_S)

    def protect(self, guest, *words):
        """Starts the protection of a guest that runs on a; its guard's command."""
        command = [_ENGINE, "protect", f"xen:{guest.name}", f"--directory={_DIRECTORY}", "--node=a"]
        command += [f"--backup={self._address()}", f"--arbiter={self._arbiter}", f"--psk={_PSK}"]
        command += ["--interval=500ms", "--detect=10s", "--epoch-bytes=32M", "--codec=off", *_POLICY, *words]
        return self.a.start(command)

    def status(self, host, group="g1"):
        try:
            return json.loads(host.get(f"{_DIRECTORY}/{group}.status").decode())
        except (OSError, ValueError):
            return {}

    def events(self, host, group="g1"):
        try:
            return [json.loads(line) for line in host.get(f"{_DIRECTORY}/{group}.events").decode().splitlines()]
        except OSError:
            return []

    def wait_until_protected(self, epochs):
        """Until so many epochs are committed, and the register lets b be promoted. The status."""

        def look():
            status = self.status(self.a)
            protected = status.get("state") == "protected" and status["register"]["mode"] == "promotable"
            return status if protected and status["epoch"]["committed"] >= epochs else None

        return wait_until(look, _SYNC_TIMEOUT_S, "the guest on a to be protected", interval_s=1)

    def _address(self):
        return f"rdma:{self.b.address()}:{_PORT},dev=rxe_rail0"
