# SPDX-License-Identifier: Apache-2.0
"""What a backup on Xen may suffer or lack while a guest is protected, and while it takes over: the guest and its client go on."""

import signal

from haven_lab import settings
from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.visible import Visible
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR, XenPair

_EPOCHS = 2
_STORE = "$(cat /run/xenstored.pid)"
_SLOW = settings.LAB / "scenarios" / "in_host" / "slow_process.py"
# The store's daemon works half of the time, and each wait for it is shorter than the engine's patience on the way of an epoch.
_SLOW_MS = 200
_SLOW_EPOCHS = 8
_DESTROYED_WITHIN_S = 60
_FILLER = """name="filler"
type="pvh"
kernel="/guest/vmlinuz"
ramdisk="/guest/initrd.gz"
memory={memory}
vcpus=1
"""
_MODULES = "/run/modules.tar.gz"
# On a host with the guest's kernel: what the guest has not, to have a file system that can be frozen.
_PACK_MODULES = f"""
mkdir -p /run/modules && cd /run/modules
for name in crc32c_generic loop ext4; do modprobe --show-depends $name; done |
  awk '$1 == "insmod" && !seen[$2]++ {{ print $2 }}' | while read -r file; do cp $file . && basename $file >>order; done
tar -czf {_MODULES} .
"""
# Modules are linked by an emulated processor that the guest does not have for itself.
_PREPARE_TIMEOUT_S = 240
_PREPARE = """
mkdir -p /data/stuck/mnt && cd /data/stuck && tar -xzf ../modules.tar.gz
while read -r module; do insmod $module; done <order
truncate -s 4M disk && mke2fs -F disk && mount -t ext4 -o loop disk mnt
echo 1000 >/sys/power/pm_freeze_timeout && touch mnt/file && echo ready
"""
# A process that writes to a frozen file system waits in the kernel, and can not be frozen itself. So the guest takes a request to suspend,
# fails to freeze, and runs on: by default after 20 s in which no other process runs either, here after one.
_STICK = """
(while :; do echo x >/data/stuck/mnt/file; sleep 0.1; done) >/dev/null 2>&1 &
fsfreeze --freeze /data/stuck/mnt
"""
_UNSTICK = "fsfreeze --unfreeze /data/stuck/mnt"


class Faults:
    """Each leaves the guest protected from a to b, and its client content."""

    def __init__(self, lab, report):
        self._report = report
        self._pair = XenPair(lab, detect="5s")
        self._guest = XenGuest(address=ADDRESS)
        self._visible = Visible(self._pair, report)
        self._client = None
        self._guard = None

    def start(self):
        self._pair.start()
        self._guest.create(self._pair.a)
        self._guest.wait_for_turn(self._pair.a, 1)
        self._client = GuestClient(self._pair.c, ADDRESS, 4, 2)

    def protect(self):
        self._guard = self._pair.protect(self._guest)
        self.protected("at first")

    def end(self):
        self._client.check_end(self._report)
        self._visible.check("in the end")

    def goes_on(self, what):
        self._client.goes_on(self._report, f"{what}: the guest and its client go on")
        self._visible.check(what)

    def protected(self, what, host=None):
        self._pair.wait_until_protected(_EPOCHS, host)
        self.goes_on(what)

    def no_bridge(self):
        pair, hear = self._pair, self._pair.ear(self._pair.a)
        pair.b.run("ip link set guests nomaster && ip link del xenbr0")
        self._guard = pair.protect(self._guest)
        told = hear("no bridge xenbr0")
        self._report.check("a bridge that is missing on the backup is named, with the remedy", "bridge:xenbr0=NAME" in told, told)
        self.goes_on("no bridge there")
        pair.b.run("ip link add xenbr0 type bridge mcast_snooping 0 && ip link set guests master xenbr0 && ip link set xenbr0 up")
        self.protected("the bridge is there")

    def session_dies(self):
        pair = self._pair
        copy = self._copy()
        pair.kill(pair.b, "session")
        pair.wait_for(lambda: self._copy() != copy, "the copy of the killed session to go")
        self.protected("the backup's session is killed")

    def session_dies_while_building(self):
        self._dies_while_building("session", "while it builds its copy")

    def toolstack_dies_while_building(self):
        self._dies_while_building("toolstack", "while it builds the copy")

    def _dies_while_building(self, part, when):
        pair = self._pair
        before = self._syncs()
        pair.kill_while_building(pair.b, part)
        self._report.check(f"the {part} is killed {when}: no memory has been copied to it", self._syncs() == before, f"{before} copies begun before")
        self.protected(f"the {part} is killed {when}")

    def _syncs(self):
        """How often the memory has begun to be copied."""
        return sum(event["to"] == "syncing" != event["from"] for event in self._pair.events(self._pair.a))

    def _copy(self):
        """The number of the domain that waits on b; nothing if there is none."""
        return self._pair.b.run(["xl", "domid", "g1--incoming"], check=False).out.strip()

    def session_dies_while_syncing(self):
        pair = self._pair
        pair.kill(pair.b, "session")
        pair.wait_for(lambda: pair.status(pair.a).get("state") == "syncing", "a new session to copy memory")
        pair.kill(pair.b, "session")
        self.protected("the session is killed while the memory is copied")

    def toolstack_dies(self):
        pair, hear = self._pair, self._pair.ear(self._pair.b)
        pair.kill(pair.b, "toolstack")
        # A link may have "ended", too.
        told = hear("the toolstack's process")
        self._report.check("a copy whose toolstack process was killed takes no epoch", "has ended" in told, told)
        self.protected("the waiting copy's toolstack process is killed")

    def both_die(self):
        pair, hear = self._pair, self._pair.ear(self._pair.a)
        pair.kill(pair.b, "toolstack", "session")
        told = hear("xl destroy")
        self._report.check("what is left of a copy is named, with the remedy", "g1--incoming" in told, told)
        self._report.check("and does not run", pair.b.run("xl list g1--incoming | awk 'END { print $5 }'").out.count("p") == 1)
        pair.b.run("xl destroy g1--incoming")
        self.protected("session and toolstack process are killed")

    def no_memory(self):
        pair = self._pair
        # Else a new copy is there before the memory is gone.
        pair.listeners["b"].kill(signal.SIGSTOP)
        pair.kill(pair.b, "session")
        pair.wait_for(lambda: not pair.domains(pair.b), "the copy to go")
        free = int(pair.b.run("xl info free_memory").out)
        pair.b.put("/tmp/filler.cfg", _FILLER.format(memory=free - 60).encode())
        hear = pair.ear(pair.a)
        pair.b.run("xl create -p -q /tmp/filler.cfg", timeout_s=300)
        pair.listeners["b"].kill(signal.SIGCONT)
        told = hear("MiB free")
        self._report.check("too little memory on the backup is told as such", "MiB of memory" in told, told)
        self.goes_on("no memory there")
        pair.b.run("xl destroy filler")
        self.protected("the memory is there")

    def store_stands_still(self):
        """The store's daemon on the guest's host, first under an engine and then under a guard without one."""
        pair, hear = self._pair, self._pair.ear(self._pair.a)
        pair.a.run(f"kill -STOP {_STORE}")
        told = hear("(xenstored) has not answered")
        pair.a.run(f"kill -CONT {_STORE}")
        self._report.step(f"a store that does not answer is told of by the engine: {told}")
        self.protected("the store answers again")
        said = len(self._guard.err)
        # A guard that waits for the store for 3 s, on emulated processors, has hardly more time than b needs to take over.
        pair.lab.hub.cut("b.lan", "c.lan")
        pair.a.run(f"kill -STOP {_STORE}")
        pair.kill(pair.a, "engine")
        pair.wait_for(lambda: "(xenstored) has not answered" in self._guard.err[said:], "the guard to name the store")
        pair.a.run(f"kill -CONT {_STORE}")
        pair.wait_for(lambda: pair.register()["mode"] != "promotable", "the guest on a to be alone by the register's word")
        pair.lab.hub.heal()
        self.protected("the store stands still while there is no engine")

    def store_is_slow(self):
        """It answers everything, but late: that costs an epoch time, and the protection nothing."""
        pair = self._pair
        session = pair.wait_until_protected(1)["session"]
        pair.a.put("/tmp/slow_process.py", _SLOW.read_bytes())
        slow = pair.a.start(f"exec python3 -u /tmp/slow_process.py {_STORE} {_SLOW_MS} {_SLOW_MS}")
        slow.wait_for_output("begins")
        after = pair.wait_until_protected(_SLOW_EPOCHS)["session"]
        self.goes_on("the store is slow")
        slow.kill(signal.SIGTERM)
        stops = int(slow.wait().must_succeed().out.split()[-2])
        self._report.check("the store has stood still again and again meanwhile", stops > _SLOW_EPOCHS, f"{stops} times")
        self._report.check("a slow store costs no session", after == session, f"session {session}, then {after}")

    def refuses_to_suspend(self):
        """The guest takes the request, and does not stop: its owner's output must not be held for ever."""
        pair = self._pair
        pair.c.run(_PACK_MODULES)
        self._guest.give(pair.c, _MODULES, "/data/modules.tar.gz")
        said = self._guest.shell(pair.c, f"({_PREPARE}) 2>&1", timeout_s=_PREPARE_TIMEOUT_S)
        self._report.check("the guest has a file system that can be frozen", said.endswith("ready\n"), said[-300:])
        hear = pair.ear(pair.a)
        # What the shell answers is held with all other output.
        self._guest.shell(pair.c, _STICK, check=False)
        told = hear("missed the suspend deadline")
        self._report.step(f"a process of the guest can not be frozen: {told}")
        pair.wait_for(lambda: pair.register()["mode"] == "solo", "the guest to go on alone")
        self.goes_on("the guest does not let itself be suspended")
        alone = (pair.register()["mode"], pair.status(pair.a)["state"])
        self._report.check("it runs without protection meanwhile, and the status says so", alone[0] == "solo" and alone[1] != "protected", alone)
        refused = int(self._guest.shell(pair.c, "dmesg | grep -c 'refusing to freeze'"))
        self._report.check("the guest has tried, and has refused", refused > 0, f"{refused} times")
        self._guest.shell(pair.c, _UNSTICK)
        self.protected("the guest lets itself be suspended again")


class Promotions(Faults):
    """The backup's processes die on the way to a promotion, which the death of guard and engine on a has begun."""

    def not_heard(self):
        """The session dies while it asks an arbiter that it can not reach: nothing has happened."""
        pair = self._pair
        self._begin_cut_off()
        pair.kill(pair.b, "session")
        self._guard = pair.guard(pair.a)
        pair.wait_for(lambda: pair.register()["mode"] != "promotable", "the guest on a to be alone by the register's word")
        # What the dead session's kernel still sends comes too late now.
        pair.lab.hub.heal()
        self._still_here("the session dies while it asks for the promotion")

    def not_told(self):
        """It dies once it is granted, before it knows: the term is taken back from an owner that never runs."""
        pair = self._pair
        self._granted_unheard(pair.a, pair.b)
        register = pair.register()
        self._report.check("it is granted, and nobody runs", register["running"] == "no", register)
        pair.kill(pair.b, "session")
        self._guard = pair.guard(pair.a)
        pair.wait_for(lambda: pair.register()["owner"].startswith("a."), "the term to be taken back")
        self._still_here("the session dies when the promotion is granted")

    def toolstack_is_gone(self):
        """The copy is complete and needs its toolstack no more: the promotion goes on."""
        pair = self._pair
        self._begin_cut_off()
        pair.kill(pair.b, "toolstack")
        pair.lab.hub.heal()
        events = pair.wait_for_promotion(pair.b)
        self._visible.promoted(pair.b, events)
        self.goes_on("the toolstack's process dies while the promotion is asked for")
        ended = pair.guard(pair.a).wait(_DESTROYED_WITHIN_S)
        self._report.check("the guard on a is told that it was deposed", ended.code == 6, f"{ended.code} {ended.err[-300:]}")
        self._report.check("and has destroyed its copy", "g1" not in pair.domains(pair.a), pair.domains(pair.a))
        self.protected("from b to a, by itself", pair.b)

    def left_behind(self):
        """From b to a: it dies when it has asked for its copy to run. The copy is complete, outlives it, and is let run by its guard."""
        pair = self._pair
        self._granted_unheard(pair.b, pair.a)
        pair.etcd.kill(signal.SIGSTOP)
        pair.kill(pair.a, "session", signal="CONT")
        pair.wait_for(lambda: pair.status(pair.a).get("activity") == "starting", "a to ask for its copy to run")
        pair.kill(pair.a, "session")
        pair.etcd.kill(signal.SIGCONT)
        left = pair.domains(pair.a)
        self._report.check("the copy of the killed session waits for a guard", "g1--incoming" in left, left)
        deposed = pair.guard(pair.b)
        pair.guard(pair.a)
        self._visible.runs(pair.a)
        self.goes_on("the session dies when it has asked for its copy to run")
        ended = deposed.wait(_DESTROYED_WITHIN_S)
        self._report.check("the guard on b has destroyed its copy", ended.code == 6 and "g1" not in pair.domains(pair.b), f"{ended.code} {ended.err[-300:]}")
        self.protected("from a to b, by itself", pair.a)

    def _granted_unheard(self, primary, backup):
        """Until a promotion is granted to a session that stands still and does not know."""
        pair = self._pair
        pair.etcd.kill(signal.SIGSTOP)
        self._begin(primary, backup)
        pair.kill(backup, "session", signal="STOP")
        pair.etcd.kill(signal.SIGCONT)
        pair.wait_for(lambda: pair.register()["owner"].startswith(f"{backup.name}."), "the promotion to be granted")

    def _begin_cut_off(self):
        self._pair.lab.hub.cut("b.lan", "c.lan")
        self._begin(self._pair.a, self._pair.b)

    def _begin(self, primary, backup):
        """Until the backup asks for the promotion."""
        pair = self._pair
        pair.kill(primary, "guard", "engine")
        pair.wait_for(lambda: pair.status(backup).get("activity") == "claiming", f"{backup.name} to ask for the promotion")

    def _still_here(self, what):
        pair = self._pair
        self._report.check(f"{what}: nothing was promoted", not pair.promotions(pair.b), pair.register())
        self.protected(what)


def _run(world, faults, report):
    for fault in faults:
        report.step(fault.__name__.replace("_", " "))
        fault()
    world.end()


@scenario("xen-backup-faults", "no bridge, no memory, killed sessions and toolstacks, a slow store, a guest that does not stop", hosts=XEN_PAIR)
def faults(lab, report):
    world = Faults(lab, report)
    world.start()
    chosen = (
        world.no_bridge,
        world.session_dies,
        world.session_dies_while_building,
        world.toolstack_dies_while_building,
        world.session_dies_while_syncing,
        world.toolstack_dies,
        world.both_die,
        world.no_memory,
        world.store_stands_still,
        world.store_is_slow,
        world.refuses_to_suspend,
    )
    _run(world, chosen, report)


@scenario("xen-promotion-faults", "session and toolstack of the backup are killed on the way to a promotion", hosts=XEN_PAIR)
def promotion_faults(lab, report):
    world = Promotions(lab, report)
    world.start()
    world.protect()
    _run(world, (world.not_heard, world.not_told, world.toolstack_is_gone, world.left_behind), report)
