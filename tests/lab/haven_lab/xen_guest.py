# SPDX-License-Identifier: Apache-2.0
"""Guests of a Xen host: Debian's kernel and the workload of image/guest-init."""

import json
import os
import re

from haven_lab.wait import wait_until

# A copy's console is called by the name that it has while it waits, NAME--incoming.
_CONSOLE = "/var/log/xen/console/guest-{}*.log"
# In the guests' network, behind the bridge that hosts have there.
ADDRESS = "10.9.3.100"
MAC = "00:16:3e:00:00:64"
_NIC = f"mac={MAC},bridge=xenbr0"
_SHELL_PORT = 2323
_FILE_PORT = 8765
# A host's processor is emulated, and shared with whatever else the machine does.
_CREATE_TIMEOUT_S = 600
# What makes a guest one of its kind. The kernel of an HVM guest is given to its BIOS by QEMU, byte by byte: that takes minutes here.
_KINDS = {
    "pvh": ['type="pvh"'],
    "hvm": ['type="hvm"', 'vga="none"', "vnc=0", "usb=0", "vkb_device=0"],
    "hvm with a screen": ['type="hvm"', 'vga="stdvga"', "vnc=0", "usb=0", "vkb_device=0"],
}
# Its kernel's word for an interrupt that was delivered once more at the first instruction of its handler, with interrupts off.
_DELIVERED_TWICE = re.compile(r"asm_sysvec_xen_hvm_callback\+0x[1-9a-f].*\n.*RIP: 0010:asm_sysvec_xen_hvm_callback\+0x0/")
_BOOT_TIMEOUT_S = 300
_HVM_BOOT_TIMEOUT_S = 900
# Each of a protected guest's answers waits for an epoch, the acknowledgements of TCP among them.
_GIVE_TIMEOUT_S = 180


def tells_of_broken_emulation(console):
    """Whether a guest's last words are of what the emulator does to it now and then, and no software can (docs/lab.md, Traps)."""
    return _DELIVERED_TWICE.search(console) is not None


class XenGuest:
    """One guest, wherever it runs."""

    def __init__(self, name="g1", memory_mb=128, vcpus=2, pace_s=1.0, turn_kb=16, address=None, nics=(), more=(), kind="pvh"):
        """A turn of its workload rewrites `turn_kb` KiB; `pace_s` seconds lie between two. With an `address` it has a NIC.

        `nics` are hardware addresses of further NICs; `more` are further lines of its file. Its `kind` is "pvh", or "hvm": it has
        emulated hardware as well, of which its kernel unplugs what it has better drivers for, or "hvm with a screen".
        """
        self.name = name
        self.address = address
        self.kind = kind
        line = f"console=hvc0 quiet lab.pace={pace_s} lab.kb={turn_kb}"
        cards = ([_NIC] if address else []) + [f"mac={mac},bridge=xenbr0" for mac in nics]
        lines = [
            f'name="{name}"',
            *_KINDS[kind],
            'kernel="/guest/vmlinuz"',
            'ramdisk="/guest/initrd.gz"',
            f'cmdline="{line}{f" lab.address={address}/24" if address else ""}"',
            f"memory={memory_mb}",
            f"vcpus={vcpus}",
            *([f"vif={json.dumps(cards)}"] if cards else []),
            *more,
            "",
        ]
        self._config = "\n".join(lines)

    def create(self, host):
        """Starts it on a host."""
        path = f"/tmp/{self.name}.cfg"
        cpus = host.spec.cpus
        # The first one is the first domain's alone: emulated processors between which a guest wanders break it (docs/lab.md).
        apart = f'cpus="1-{cpus - 1}"\n' if cpus > 1 else ""
        host.put(path, (self._config + apart).encode())
        # What an earlier one of its name has said is not its word.
        host.run(f"rm -f {_CONSOLE.format(self.name)}")
        host.run(["xl", "create", path], timeout_s=_CREATE_TIMEOUT_S)

    def console(self, host):
        """What it has said on this host."""
        return host.run(f"cat {_CONSOLE.format(self.name)} 2>/dev/null", check=False).out

    def turns(self, host):
        """The number of the last turn that it has told of there, 0 if it has told of none."""
        found = re.findall(r"tick (\d+).*\n", self.console(host))
        return int(found[-1]) if found else 0

    def first_turn(self, host):
        """The number of the first turn that it has told of there, 0 if it has told of none."""
        found = re.search(r"tick (\d+).*\n", self.console(host))
        return int(found.group(1)) if found else 0

    def damage(self, host):
        """The turns in which it found a file damaged."""
        return re.findall(r"tick \d+ damaged \S+", self.console(host))

    def wait_for_turn(self, host, turn, timeout_s=None):
        """Until it has told of this turn."""
        timeout_s = timeout_s or (_BOOT_TIMEOUT_S if self.kind == "pvh" else _HVM_BOOT_TIMEOUT_S)
        wait_until(lambda: self.turns(host) >= turn, timeout_s, f"turn {turn} of guest {self.name}", interval_s=1)

    def shell(self, client, line, check=True, timeout_s=60):
        """Carries out a line in the guest, asked for by a host of its network; what it prints."""
        words = f"timeout {timeout_s} busybox nc {self.address} {_SHELL_PORT}"
        return client.run(["bash", "-c", words], stdin=f"{line}\nexit\n", check=check, timeout_s=timeout_s + 30).out

    def memory_left_mib(self, client):
        """What its kernel could still give to programs, as a host of its network hears."""
        told = self.shell(client, "cat /proc/meminfo")
        return int(re.search(r"^MemAvailable:\s+(\d+) kB", told, re.M).group(1)) / 1024

    def give(self, client, path, to):
        """Copies a file of a host of its network into the guest."""
        size = int(client.run(["stat", "-c", "%s", path]).out)
        server = client.start(["busybox", "httpd", "-f", "-p", str(_FILE_PORT), "-h", os.path.dirname(path)])
        url = f"http://{client.address('guests')}:{_FILE_PORT}/{os.path.basename(path)}"
        said = self.shell(client, f"until wget -q -O {to} {url}; do sleep 0.2; done; wc -c <{to}", timeout_s=_GIVE_TIMEOUT_S)
        server.kill()
        if said.split() != [str(size)]:
            raise AssertionError(f"{path} has {size} bytes; in guest {self.name}: {said}")

    def is_there(self, host):
        """Whether there is a domain of this name."""
        return host.run(["xl", "domid", self.name], check=False).code == 0
