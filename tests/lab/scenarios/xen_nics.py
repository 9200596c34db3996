# SPDX-License-Identifier: Apache-2.0
"""A guest with several NICs: one is plugged in while it is protected, all are held, and all are there after a power cut."""

import re

from haven_lab.registry import scenario
from haven_lab.wait import DeadlineExceeded, wait_until
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR, XenPair

_SECOND = ("10.9.3.101", "00:16:3e:00:00:65")
_THIRD = ("10.9.3.102", "00:16:3e:00:00:66")
_PINGS = 5
_WAIT_S = 120
# The transmit ring has 256 slots, of a page each at most.
_STREAM_MB = 24
_RING_BYTES = 256 * 4096
# In the guest. A NIC that has come answers for its own address alone, and that address leaves by no other.
_BRING_UP = """
until [ -e /sys/class/net/{nic} ]; do sleep 0.2; done
sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
ip link set {nic} up
ip address add {address}/24 dev {nic}
ip route add {net} dev {nic} src {address} table {table}
ip rule add from {address} table {table}
"""
_NET = "10.9.3.0/24"
# Of both ends of the stream: the guest and the client have room for more than the ring has.
_MORE_IN_FLIGHT = "sysctl -qw net.ipv4.tcp_wmem='4096 65536 8388608' net.ipv4.tcp_rmem='4096 131072 8388608'"
# To a sender that watches its round trips, epochs look like a full queue long before anything is full.
_SLOW_START_TO_ITS_END = "echo 0 >/sys/module/tcp_cubic/parameters/hystart"


class Nics:
    """What passes through each NIC of the guest, wherever that runs."""

    def __init__(self, pair, guest, report):
        self._pair = pair
        self._guest = guest
        self._report = report
        self.addresses = [ADDRESS]

    def bring_up(self, nic, address):
        line = _BRING_UP.format(nic=nic, address=address, net=_NET, table=100 + len(self.addresses))
        self._guest.shell(self._pair.c, line)
        self.addresses.append(address)

    def check_answers(self, host, when):
        """Each address answers, by a NIC of its own, through that."""
        cards = []
        for number, address in enumerate(self.addresses):
            # Also the answer to who has the address waits for an epoch; of a copy that was promoted just now nobody knows yet when.
            self._pair.wait_for(lambda to=address: self._ping(to, 1), f"{address} to answer {when}", _WAIT_S)
            before = self._sent(host, number)
            self._report.check(f"{address} answers {when}", self._ping(address, _PINGS))
            sent = self._sent(host, number) - before
            self._report.check(f"its answers come by its own NIC {when}", sent >= _PINGS, f"{sent} packets")
            words = self._pair.c.run(f"ip neigh show {address}").out.split()
            cards.append(words[words.index("lladdr") + 1])
        self._report.check(f"each has a NIC of its own {when}", len(set(cards)) == len(cards), cards)

    def _ping(self, address, count):
        words = ["ping", "-c", str(count), "-i", "1", "-W", "10", address]
        return f" {count} received" in self._pair.c.run(words, check=False, timeout_s=_WAIT_S).out

    @staticmethod
    def _sent(host, number):
        """Packets that have come from the guest by this NIC."""
        return int(host.run(f"cat /sys/class/net/vif$(xl domid g1).{number}/statistics/rx_packets").out)

    def check_held(self, host):
        """One redirection for all of them: the kernel's number of it, where each epoch points it."""
        line = f"for number in $(seq 0 {len(self.addresses) - 1}); do tc filter show dev vif$(xl domid g1).$number ingress; done"
        found = re.findall(r"mirred [(]Egress Redirect to device (\w+)[.]\d[)] \w+\s+index (\d+)", host.run(line).out)
        wanted = len(self.addresses)
        self._report.check(f"all {wanted} NICs are held together", len(found) == wanted and len(set(found)) == 1, found)


def _stream(pair, guest, report):
    """A download through the held NIC: more of it is held at once than the transmit ring has room for."""
    pair.c.run(_MORE_IN_FLIGHT)
    fill = f"dd if=/dev/urandom of=/data/stream bs=1M count={_STREAM_MB} 2>/dev/null; md5sum /data/stream >/data/stream.md5"
    guest.shell(pair.c, f"{_MORE_IN_FLIGHT}; {_SLOW_START_TO_ITS_END}; {fill}", timeout_s=_WAIT_S)
    get = pair.c.start(["bash", "-c", f"set -o pipefail; time busybox wget -q -O - http://{ADDRESS}/stream | md5sum"])
    held = [0]

    def ended():
        held.append(pair.status(pair.a).get("output", {}).get("held_bytes", 0))
        try:
            return get.wait(0.05)
        except DeadlineExceeded:
            return None

    done = wait_until(ended, 2 * _WAIT_S, "the download to end", interval_s=0.05).must_succeed()
    most = max(held)
    wanted = guest.shell(pair.c, "cat /data/stream.md5").split()[0]
    report.check("the stream has arrived as it was", done.out.split()[0] == wanted, done.out)
    minutes, seconds = next(line for line in done.err.splitlines() if line.startswith("real")).split()[1].rstrip("s").split("m")
    report.figure("one stream under protection", _STREAM_MB / (int(minutes) * 60 + float(seconds)), "MiB/s")
    report.figure("held at once", most / 1024, "KiB")
    report.check("the transmit ring does not limit it: more was held at once than fits there", most > _RING_BYTES, f"{most} bytes")
    guest.shell(pair.c, "rm /data/stream")


@scenario("xen-nics", "two NICs are held together, a third is plugged in while the guest is protected, all outlive the host", hosts=XEN_PAIR)
def nics(lab, report):
    pair = XenPair(lab)
    pair.start()
    guest = XenGuest(address=ADDRESS, memory_mb=192, nics=(_SECOND[1],))
    guest.create(pair.a)
    guest.wait_for_turn(pair.a, 1)
    cards = Nics(pair, guest, report)
    cards.bring_up("eth1", _SECOND[0])
    pair.protect(guest)
    session = pair.wait_until_protected(3)["session"]
    cards.check_held(pair.a)
    cards.check_answers(pair.a, "under protection")
    report.step("one stream")
    _stream(pair, guest, report)

    report.step("a third NIC is plugged in")
    ear = pair.ear(pair.a)
    pair.a.run(["xl", "network-attach", "g1", f"mac={_THIRD[1]}", "bridge=xenbr0"], timeout_s=_WAIT_S)
    report.check("it is noticed", True, ear("the output buffer is not intact"))
    report.check("so is that the copy lacks it", True, ear("its devices have changed"))
    status = pair.wait_until_protected(3)
    report.check("in another session", status["session"] != session, status["session"])
    cards.bring_up("eth2", _THIRD[0])
    cards.check_held(pair.a)
    cards.check_answers(pair.a, "with the third one")

    report.step("the power of its host is cut")
    pair.wait_until_protected(3)
    pair.a.power_cut()
    pair.wait_for_promotion(pair.b)
    guest.wait_for_turn(pair.b, 1)
    cards.check_answers(pair.b, "after the promotion")
    report.check("no file of the guest is damaged", not guest.damage(pair.b), guest.damage(pair.b))
