# SPDX-License-Identifier: Apache-2.0
"""One host of the lab: a QEMU process, its disk, its power switch and the channel to its agent."""

import dataclasses
import shutil
import subprocess
import time

from haven_lab import settings
from haven_lab.agent_client import AgentClient, HostGone
from haven_lab.qmp import Monitor, connect_unix

BOOT_TIMEOUT_S = 400


@dataclasses.dataclass(frozen=True)
class HostSpec:
    """What a host is made of. `kind` is "linux", or "xen" for one whose Linux is the first domain of a hypervisor."""

    name: str
    networks: tuple = ("lan", "rail0", "rail1")
    cpus: int = 1
    memory_mb: int = 1024
    kind: str = "linux"


# A machine that others keep busy gives an emulated processor nothing for seconds: the kernel must not conclude that its
# timer, its clock or a processor is broken, nor measure its clock (tsc/). Flaws that this hardware has not are not worked
# around.
KERNEL_OPTIONS = "quiet panic=-1 net.ifnames=0 no_timer_check tsc=reliable nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
KERNEL_OPTIONS += " mitigations=off"

# Xen needs more for itself and its guests; the flags that its Linux and its guests do not survive under emulation are off.
# Among them XSAVE: with it, emulated, programs of one domain find the floating-point registers of another in theirs.
XEN_DOM0_MB = 1024
XEN_CPU = "max,-rdtscp,-smap,-smep,-xsave"
XEN_OPTIONS = "spec-ctrl=eager-fpu"


class Machine:
    """A host. Its commands run by start(), run(), put() and get() as those of AgentClient."""

    def __init__(self, spec, work, parts):
        """`work` is a folder for sockets and the disk; `parts` what it is built from (parts.py)."""
        self.spec = spec
        self.name = spec.name
        self.agent = None
        self.boot_s = None
        self._work = work
        self._parts = parts
        self._process = None
        self._started = None
        self._saved = False
        self._log = open(work / f"{self.name}.commands.log", "a", encoding="utf-8")

    def path(self, suffix):
        return self._work / f"{self.name}.{suffix}"

    def address(self, network="lan"):
        return settings.address(self.name, network)

    @staticmethod
    def device(network):
        """The RDMA device there."""
        return f"rxe_{network}"

    def start(self, *arguments, **options):
        return self.agent.start(*arguments, **options)

    def run(self, *arguments, **options):
        return self.agent.run(*arguments, **options)

    def put(self, *arguments, **options):
        self.agent.put(*arguments, **options)

    def get(self, path):
        return self.agent.get(path)

    def clock_ahead(self):
        """Emulated hosts set their clocks when they wake, and then count for themselves."""
        return self.agent.clock_ahead()

    def create_disk(self, backing=None):
        """A disk that starts with the contents of another and keeps its own changes."""
        backing = backing or self._parts.image.root
        form = "raw" if backing == self._parts.image.root else "qcow2"
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", form, str(self.path("qcow2"))]
        subprocess.run(create, check=True)

    def power_on(self, saved=None):
        """Switches the host on; with the file of a saved memory it goes on from there. connect() must follow."""
        self.path("agent").unlink(missing_ok=True)
        self.path("qmp").unlink(missing_ok=True)
        console = f"file,id=console,path={self.path('console')},append=on"
        arguments = [*self.arguments(), "-chardev", console, "-serial", "chardev:console"]
        self._saved = saved is not None
        if self._saved:
            arguments += ["-incoming", f"exec:cat {saved}"]
        self._started = time.monotonic()
        with open(self.path("qemu.log"), "ab") as log:
            # Dies with us, even if we are killed.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def connect(self, timeout_s=BOOT_TIMEOUT_S):
        """Waits until the host is up and its programs are there."""
        channel = connect_unix(self.path("agent"), self._check_alive)
        if self._saved:
            with Monitor(self.path("qmp"), self._check_alive) as monitor:
                monitor.go_on(timeout_s)
        self.agent = AgentClient(channel, self._log)
        try:
            self.agent.ping(timeout_s)
        except HostGone:
            self._check_alive()
            raise
        self.agent.wake()
        self.boot_s = time.monotonic() - self._started
        self.run("mount -t ext4 -o ro /dev/vdb /lab")

    def _check_alive(self):
        """RuntimeError with its last words if QEMU has ended, for example because its kernel panicked."""
        if self._process.poll() is not None:
            said = self.path("qemu.log").read_text() + self.path("console").read_text(errors="replace")
            raise RuntimeError(f"QEMU of host {self.name} ended with {self._process.returncode}:\n{said[-4000:]}")

    def power_cut(self):
        """Takes the power away: nothing in the host gets to do anything any more. What it had synced stays on its disk."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self.agent is not None:
            self.agent.close("its power was cut")

    def freeze(self):
        """Stops the whole host, which does not notice: neither its programs nor its clock go on until thaw()."""
        with Monitor(self.path("qmp"), self._check_alive) as monitor:
            monitor.execute("stop")

    def thaw(self):
        with Monitor(self.path("qmp"), self._check_alive) as monitor:
            monitor.execute("cont")

    def close(self):
        self.power_cut()
        self._log.close()

    def save(self, memory, disk):
        """Keeps the memory and disk of the host in two files, from which any number of hosts can go on, and ends this one."""
        with Monitor(self.path("qmp"), self._check_alive) as monitor:
            # Of a running host QEMU's emulation saves a memory that is not of one moment.
            monitor.execute("stop")
            monitor.save(memory)
            monitor.execute("quit")
        self._process.wait()
        self.power_cut()
        shutil.move(self.path("qcow2"), disk)

    def arguments(self):
        """QEMU's, without those that differ between two starts of the same host."""
        spec = self.spec
        cards = [
            f"{settings.mac(spec.name, net)}/{net}/{settings.address(spec.name, net)}/{settings.NETWORKS[net][1]}"
            for net in spec.networks
        ]
        line = f"{KERNEL_OPTIONS} tsc_early_khz={self._parts.tsc_khz} lab.name={spec.name} lab.nics={'+'.join(cards)}"
        image = self._parts.image
        if spec.kind == "xen":
            xen = f"console=com1 com1=115200,8n1 dom0_mem={XEN_DOM0_MB}M,max:{XEN_DOM0_MB}M {XEN_OPTIONS}"
            if spec.cpus > 1:
                xen += " dom0_max_vcpus=1 dom0_vcpus_pin"
            modules = f"{image.kernel} console=hvc0 {line},{image.initrd}"
            boot = ["-cpu", XEN_CPU, "-kernel", str(image.xen), "-append", xen, "-initrd", modules]
        else:
            boot = ["-cpu", "max", "-kernel", str(image.kernel), "-append", f"console=ttyS0 {line}"]
            boot += ["-initrd", str(image.initrd)]
        arguments = ["-accel", "tcg,thread=multi", "-smp", str(spec.cpus), "-m", str(spec.memory_mb), *boot]
        arguments += ["-nodefaults", "-display", "none", "-no-reboot"]
        arguments += ["-qmp", f"unix:{self.path('qmp')},server=on,wait=off"]
        arguments += ["-drive", f"file={self.path('qcow2')},if=virtio,format=qcow2"]
        arguments += ["-drive", f"file={self._parts.disk},if=virtio,format=raw,readonly=on"]
        arguments += ["-device", "virtio-serial-pci", "-chardev"]
        arguments += [f"socket,id=agent,path={self.path('agent')},server=on,wait=off"]
        arguments += ["-device", "virtserialport,chardev=agent,name=haven.agent", "-device", "virtio-rng-pci"]
        for net in spec.networks:
            arguments += ["-netdev", f"stream,id={net},server=off,addr.type=unix,addr.path={self.path(net)}"]
            arguments += ["-device", f"virtio-net-pci,netdev={net},mac={settings.mac(spec.name, net)},romfile="]
        return arguments
