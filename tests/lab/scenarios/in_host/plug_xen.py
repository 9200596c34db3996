#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the first domain of a Xen host: an output buffer over the NIC of a real guest. Prints what plug_host.py prints."""

import ctypes
import fcntl
import json
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request

from plug_world import Buffer, check, figure, sh, wait_until

ADDRESS = "10.8.0.1"
CONFIG = f"""
name="g1"
type="pvh"
kernel="/guest/vmlinuz"
ramdisk="/guest/initrd.gz"
cmdline="console=hvc0 quiet lab.pace=5 lab.kb=256 lab.address={ADDRESS}/24"
memory=128
vcpus=1
vif=["bridge=br0,script=/tmp/vif-script"]
"""
# The least of what the toolstack's own scripts do; they want packages that the hosts of the lab have not.
VIF_SCRIPT = """#!/bin/bash
[[ $1 != online ]] || { ip link set $vif master br0 up; xenstore-write $XENBUS_PATH/hotplug-status connected; }
"""


def create_guest():
    """The id of a guest that answers on the bridge."""
    for path, text in (("/tmp/g1.cfg", CONFIG), ("/tmp/vif-script", VIF_SCRIPT)):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    sh("chmod +x /tmp/vif-script")
    sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1; modprobe bridge")
    sh("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up && ip address add 10.8.0.9/24 dev br0")
    sh("xl create /tmp/g1.cfg")
    wait_until(lambda: pings(1, 2) == 1, "the guest to answer", 300)
    return int(sh("xl domid g1"))


def pings(count, timeout_s):
    """How many of some pings are answered."""
    return int(re.search(r"(\d+) received", sh(f"ping -q -i 0.2 -c {count} -W {timeout_s} {ADDRESS}", must=False)).group(1))


def nic_counters(nic):
    """What ethtool -S shows: the back end's own counters."""
    with socket.socket() as sock:

        def ask(data):
            buffer = ctypes.create_string_buffer(data, len(data))
            fcntl.ioctl(sock, 0x8946, struct.pack("16sQ16x", nic.encode(), ctypes.addressof(buffer)))  # SIOCETHTOOL
            return buffer.raw

        # ETHTOOL_GSSET_INFO for ETH_SS_STATS, then ETHTOOL_GSTRINGS, ETHTOOL_GSTATS.
        (count,) = struct.unpack("I", ask(struct.pack("IIQI", 0x37, 0, 1 << 1, 0))[16:20])
        strings = ask(struct.pack("III", 0x1B, 1, count) + bytes(32 * count))[12:]
        values = ask(struct.pack("II", 0x1D, count) + bytes(8 * count))[8:]
    names = [strings[32 * i : 32 * (i + 1)].split(b"\0")[0].decode() for i in range(count)]
    return dict(zip(names, struct.unpack(f"{count}Q", values)))


def lent(nic):
    """(packets so far, packets now) whose fragments lie in the guest's memory while the host has them."""
    counters = nic_counters(nic)
    returned = counters["tx_zerocopy_success"] + counters["tx_zerocopy_fail"]
    return counters["tx_zerocopy_sent"], counters["tx_zerocopy_sent"] - returned


def fetch(path, timeout_s=30):
    with urllib.request.urlopen(f"http://{ADDRESS}/{path}", timeout=timeout_s) as answer:
        return answer.read()


def turns():
    """How often the guest has rewritten a file."""
    try:
        return int(fetch("count"))
    except OSError:  # Not yet.
        return 0


def start_fetch(path):
    return subprocess.Popen(
        [sys.executable, "-c", f"import urllib.request as r; print(len(r.urlopen('http://{ADDRESS}/{path}', timeout=120).read()))"],
        stdout=subprocess.PIPE,
        text=True,
    )


def plain_redirection_keeps_the_guests_memory(nic):
    """The control: what is held this way is still the guest's memory, and its ring waits."""
    sh("ip link add plain0 type ifb && ip link set plain0 up && tc qdisc add dev plain0 root plug limit 10000000")
    sh("tc qdisc change dev plain0 root plug release_indefinite")
    sh(f"tc qdisc add dev {nic} ingress && tc filter add dev {nic} ingress matchall action mirred egress redirect dev plain0")
    loading = start_fetch("block.1")
    held = []

    def hold_for_a_moment():
        sh("tc qdisc change dev plain0 root plug block")
        time.sleep(0.2)
        held.append(lent(nic)[1])
        sh("tc qdisc change dev plain0 root plug release_indefinite")
        return loading.poll() is not None

    wait_until(hold_for_a_moment, "the control's transfer", 120)
    sh(f"tc qdisc del dev {nic} ingress; ip link del plain0")
    check("control: a plain redirection holds packets that lie in the guest's memory", max(held) > 0, held)


def held_packets_are_the_hosts(nic, buffer):
    loading = start_fetch("block.1")
    sent_before = lent(nic)[0]
    held = []

    def epoch():
        buffer.do("barrier")
        time.sleep(0.1)
        if buffer.stats()["held_packets"] > 0:
            held.append(lent(nic)[1])
        buffer.do("release")
        return loading.poll() is not None

    wait_until(epoch, "a transfer, epoch by epoch", 240)
    check("a file crosses epoch by epoch", int(loading.stdout.read()) == 256 * 1024)
    check("packets came in the guest's memory", lent(nic)[0] > sent_before, lent(nic)[0] - sent_before)
    check("and none of it was in use while they were held", held and max(held) == 0, held)


def main():
    domid = create_guest()
    nic = f"vif{domid}.0"
    wait_until(lambda: turns() > 2, "the guest's files", 120)
    plain_redirection_keeps_the_guests_memory(nic)
    buffer = Buffer(nics=(nic,), group="g1", domid=domid)
    buffer.do("hold")
    check("nothing answers while output is held", pings(5, 1) == 0)
    answers = subprocess.Popen(f"ping -q -c 3 -i 0.2 -W 30 {ADDRESS}", shell=True, stdout=subprocess.PIPE, text=True)

    def released():
        buffer.do("barrier", "release")
        return answers.poll() is not None

    wait_until(released, "answers epoch by epoch", 60)
    check("answers come with the releases", " 3 received" in answers.communicate()[0])
    held_packets_are_the_hosts(nic, buffer)
    pings(3, 1)
    check("something is held when the guest is destroyed", buffer.stats()["held_packets"] > 0, buffer.stats())
    begun = time.monotonic()
    sh("xl destroy g1")
    wait_until(lambda: nic not in sh("ip -br link"), "the NIC to go")
    figure("from the destruction of a guest whose output is held to the end of its NIC", round(time.monotonic() - begun, 2), "s")
    check("the end of the NIC is noticed", f"the NIC {nic}" in buffer.ask("health"), buffer.ask("health"))
    buffer.do("discard")
    check("what was held goes with the devices", "hvn" not in sh("ip -br link"), sh("ip -br link"))


if __name__ == "__main__":
    print(json.dumps({"step": "the NIC of a real guest"}), flush=True)
    main()
