# SPDX-License-Identifier: Apache-2.0
"""Hosts and the network between them, from power-on to the last trace removed."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from haven_lab import image as images
from haven_lab import settings
from haven_lab.hub import Hub
from haven_lab.machine import Machine

# A path in it is the name of a socket: 108 bytes at most.
_WORK_PATH_MAX = 80
# Which threads have had the processor, in all and in the last second; and on a Xen host which domains.
_TOP = "top -bH -n 2 -d 1 -w 200 | grep -v '^$'; if [ -e /dev/xen/privcmd ]; then xl vcpu-list; " + (
    # Where each guest's processors are: registers and stacks, of which the guest's own symbols make words.
    "for id in $(xl list | awk 'NR > 2 { print $2 }'); do for _ in 1 2; do /usr/lib/xen-4.17/bin/xenctx -C $id; done; done; fi"
)
_COLLECT_S = 30
# Programs of most scenarios, on hosts of any kind: what they have read stays in the saved memory, and need not come from an
# emulated disk after each start. The kernel does not clear what it frees, so without it the saved memory would not be smaller.
_WARM_UP = "{ haven-engine --help; xl list; etcd --version; python3 -c 'import asyncio, hashlib, json'; } >/dev/null 2>&1"


class Lab:
    """A context: `with Lab(specs, parts) as lab: lab.host("a").run(...)`.

    Hosts do not boot each time: the first time they are saved once they are up, and from then on they continue from
    there. With `cold` they boot. If they do not come up, what they said is in the folder `logs`. `seed` is of what the
    network loses, damages and delays, and of what a scenario chooses.
    """

    def __init__(self, specs, parts, logs=None, cold=False, seed=1):
        self._logs = logs
        self._specs = specs
        self._parts = parts
        self._cold = cold
        self.seed = seed
        self._machines = {}
        self.hub = None
        self.work = None
        self.start_s = None
        self.files = []  # Shell patterns of files in the hosts that tell what happened; collect() takes them along.

    def __enter__(self):
        started = time.monotonic()
        self.work = settings.temporary_folder()
        if len(str(self.work)) > _WORK_PATH_MAX:
            shutil.rmtree(self.work)
            raise RuntimeError(f"{self.work} is too long for sockets: set TMPDIR to a shorter path")
        try:
            self.hub = Hub(self._parts.hub, self.work, self._specs, self.seed)
            self._start()
        except BaseException:
            if self._logs is not None:
                self.collect(self._logs)
            self.__exit__()
            raise
        self.start_s = time.monotonic() - started
        return self

    def __exit__(self, *_):
        for machine in self._machines.values():
            machine.close()
        if self.hub is not None:
            self.hub.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def host(self, name):
        return self._machines[name]

    @property
    def hosts(self):
        return list(self._machines.values())

    def restore(self, name):
        """A host whose power was cut goes on from the saved one: as new, within seconds. Nothing is left of the old."""
        machine = self.host(name)
        machine.create_disk(self._saved(machine) / "disk.qcow2")
        machine.power_on(self._saved(machine) / "memory")
        machine.connect()

    def _start(self):
        self._machines = {spec.name: self._machine(spec) for spec in self._specs}
        if self._cold:
            for machine in self.hosts:
                machine.create_disk()
                machine.power_on()
        else:
            self._save_missing()
            for machine in self.hosts:
                saved = self._saved(machine)
                machine.create_disk(saved / "disk.qcow2")
                machine.power_on(saved / "memory")
        for machine in self.hosts:
            machine.connect()

    def _machine(self, spec):
        return Machine(spec, self.work, self._parts)

    def _saved(self, machine):
        """Where the memory and disk of this host, once up, are kept."""
        version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
        differs = (str(self.work), str(self._parts.disk))
        arguments = [word.replace(differs[0], "").replace(differs[1], "") for word in machine.arguments()]
        key = hashlib.sha256("\0".join([version, *arguments]).encode()).hexdigest()[:16]
        return self._parts.image.folder / "booted" / f"{machine.name}-{key}"

    def _save_missing(self):
        with images.exclusive("booted"):
            missing = [machine for machine in self.hosts if not self._saved(machine).exists()]
            for machine in missing:
                machine.create_disk()
                machine.power_on()
            for machine in missing:
                machine.connect()
                # Nothing of this run may be in what later runs go on from: their programs lie on another disk.
                machine.run(f"{_WARM_UP}; umount /lab && blockdev --flushbufs /dev/vdb && sync")
                machine.agent.close("it is saved")
                folder = self._saved(machine)
                folder.parent.mkdir(exist_ok=True)
                unfinished = pathlib.Path(tempfile.mkdtemp(dir=folder.parent))
                machine.save(unfinished / "memory", unfinished / "disk.qcow2")
                os.rename(unfinished, folder)

    def collect(self, folder):
        """Copies what tells what happened: consoles, commands, kernel messages of the hosts that still answer."""
        for machine in self.hosts:
            if machine.agent is not None and machine.agent.lost is None:
                (folder / f"{machine.name}.running.log").write_text(machine.agent.running_commands())
                wanted = {"dmesg": "dmesg", "files": f"tail -n +1 {' '.join(self.files)} 2>/dev/null || true", "top": _TOP}
                for suffix, command in wanted.items():
                    path = folder / f"{machine.name}.{suffix}"
                    try:
                        path.write_text(machine.run(command, timeout_s=_COLLECT_S).out)
                    except Exception as error:  # pylint: disable=broad-except
                        path.write_text(f"host {machine.name} did not answer: {error}\n")
        for name in ("*.console", "*.log"):
            for path in self.work.glob(name):
                shutil.copy(path, folder)
