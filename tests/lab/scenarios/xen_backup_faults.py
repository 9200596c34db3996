# SPDX-License-Identifier: Apache-2.0
"""What a backup on Xen may suffer or lack while a guest is protected: the guest and its client go on."""

from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR, XenPair

_EPOCHS = 2
_STORE = "$(cat /run/xenstored.pid)"
_FILLER = """name="filler"
type="pvh"
kernel="/guest/vmlinuz"
ramdisk="/guest/initrd.gz"
memory={memory}
vcpus=1
"""


class Faults:
    """Each leaves the guest protected from a to b, and its client content."""

    def __init__(self, lab, report):
        self._report = report
        self._pair = XenPair(lab, detect="5s")
        self._guest = XenGuest(address=ADDRESS)
        self._client = None
        self._guard = None

    def start(self):
        self._pair.start()
        self._guest.create(self._pair.a)
        self._guest.wait_for_turn(self._pair.a, 1)
        self._client = GuestClient(self._pair.c, ADDRESS, 4, 2)

    def end(self):
        self._client.check_end(self._report)

    def goes_on(self, what):
        self._client.wait_for_answers(self._client.answers())
        self._report.check(f"{what}: the guest and its client go on", True)

    def protected(self, what):
        self._pair.wait_until_protected(_EPOCHS)
        self.goes_on(what)

    def no_bridge(self):
        pair = self._pair
        pair.b.run("ip link set guests nomaster && ip link del xenbr0")
        self._guard = pair.protect(self._guest)
        told = pair.complaint(pair.a, "no bridge xenbr0")
        self._report.check("a bridge that is missing on the backup is named, with the remedy", "bridge:xenbr0=NAME" in told, told)
        self.goes_on("no bridge there")
        pair.b.run("ip link add xenbr0 type bridge mcast_snooping 0 && ip link set guests master xenbr0 && ip link set xenbr0 up")
        self.protected("the bridge is there")

    def session_dies(self):
        pair = self._pair
        pair.kill(pair.b, "session")
        pair.wait_for(lambda: pair.status(pair.a)["state"] != "protected", "the loss to be noticed")
        pair.wait_for(lambda: len(pair.domains(pair.b)) < 2, "no second copy")
        self.protected("the backup's session is killed")

    def session_dies_while_syncing(self):
        pair = self._pair
        pair.kill(pair.b, "session")
        pair.wait_for(lambda: pair.status(pair.a)["state"] == "syncing", "a new session to copy memory")
        pair.kill(pair.b, "session")
        self.protected("the session is killed while the memory is copied")

    def toolstack_dies(self):
        pair = self._pair
        pair.kill(pair.b, "toolstack")
        told = pair.complaint(pair.b, "has ended")
        self._report.check("a copy whose toolstack process was killed takes no epoch", "toolstack's process" in told, told)
        self.protected("the waiting copy's toolstack process is killed")

    def both_die(self):
        pair = self._pair
        pair.kill(pair.b, "toolstack", "session")
        told = pair.complaint(pair.a, "xl destroy")
        self._report.check("what is left of a copy is named, with the remedy", "g1--incoming" in told, told)
        self._report.check("and does not run", pair.b.run("xl list g1--incoming | awk 'END { print $5 }'").out.count("p") == 1)
        pair.b.run("xl destroy g1--incoming")
        self.protected("session and toolstack process are killed")

    def no_memory(self):
        pair = self._pair
        pair.kill(pair.b, "session")
        pair.wait_for(lambda: not pair.domains(pair.b), "the copy to go")
        free = int(pair.b.run("xl info free_memory").out)
        pair.b.put("/tmp/filler.cfg", _FILLER.format(memory=free - 60).encode())
        pair.b.run("xl create -p -q /tmp/filler.cfg", timeout_s=300)
        told = pair.complaint(pair.a, "MiB free")
        self._report.check("too little memory on the backup is told as such", "MiB of memory" in told, told)
        self.goes_on("no memory there")
        pair.b.run("xl destroy filler")
        self.protected("the memory is there")

    def store_is_slow(self):
        """The store's daemon on the guest's host stands still, first under an engine and then under a guard without one."""
        pair = self._pair
        pair.a.run(f"kill -STOP {_STORE}")
        told = pair.complaint(pair.a, "(xenstored) has not answered")
        pair.a.run(f"kill -CONT {_STORE}")
        self._report.check("a store that does not answer is told of by the engine, which goes on", True, told)
        self.protected("the store answers again")
        pair.a.run(f"kill -STOP {_STORE}")
        pair.kill(pair.a, "engine")
        pair.wait_for(lambda: "(xenstored) has not answered" in self._guard.err, "the guard to name the store")
        pair.a.run(f"kill -CONT {_STORE}")
        self.protected("the store stands still while there is no engine")

    def refuses_to_suspend(self):
        pair = self._pair
        pair.a.run("xl pause g1")
        told = pair.complaint(pair.a, "does not suspend")
        self._report.check("a guest that does not let itself be suspended is told of, and runs on without protection", True, told)
        pair.a.run("xl unpause g1")
        self.protected("the guest lets itself be suspended again")


@scenario("xen-backup-faults", "no bridge, no memory, killed sessions and toolstacks, a slow store, a guest that does not stop", hosts=XEN_PAIR, in_tests_run=False)
def faults(lab, report):
    world = Faults(lab, report)
    world.start()
    for fault in (
        world.no_bridge,
        world.session_dies,
        world.session_dies_while_syncing,
        world.toolstack_dies,
        world.both_die,
        world.no_memory,
        world.store_is_slow,
        world.refuses_to_suspend,
    ):
        report.step(fault.__name__.replace("_", " "))
        fault()
    world.end()
