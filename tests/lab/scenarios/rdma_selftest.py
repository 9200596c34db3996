# SPDX-License-Identifier: Apache-2.0
"""Whether the lab itself can be believed: soft-RoCE between two hosts, and a network that does what it is told."""

import re

from haven_lab import perftest
from haven_lab.registry import scenario
from haven_lab.wait import wait_until

# Of ping's summary.
_RECEIVED = re.compile(r"(\d+) received")
_ROUND_TRIP_MS = re.compile(r"= [\d.]+/([\d.]+)/")


def _ping(lab, count, *options):
    """(answers received, mean round trip in ms) from b to a over rail1, in a stream of pings."""
    result = lab.host("b").run(["ping", "-q", "-c", count, "-i", "0.02", "-W", "2", *options, lab.host("a").address("rail1")], check=False)
    mean = _ROUND_TRIP_MS.search(result.out)
    return int(_RECEIVED.search(result.out).group(1)), float(mean.group(1)) if mean else None


@scenario("rdma-selftest", "the lab itself: soft-RoCE, etcd, and a network that cuts, delays and loses on command")
def selftest(lab, report):
    for name in ("a", "b"):
        _links_are_active(lab, report, name)
    report.figure("ib_write_bw 64 KiB", perftest.bandwidth(lab, 65536, 1000), "Gb/s")
    report.figure("ib_write_lat 64 B", perftest.latency(lab, 64, 500), "us")
    _network_obeys(lab, report)
    _arbiter_answers(lab, report)
    _boots(lab, report)


def _links_are_active(lab, report, name):
    links = lab.host(name).run("rdma link").out
    report.check(f"both soft-RoCE links of host {name} are active", links.count("state ACTIVE") == 2, links.strip())


def _network_obeys(lab, report):
    _ping(lab, 3)  # Addresses are resolved from here on.
    received, direct_ms = _ping(lab, 20)
    report.check("a perfect link loses nothing", received == 20)

    lab.hub.both_ways("a.rail1", "b.rail1", delay_us=50_000)
    received, delayed_ms = _ping(lab, 10)
    report.check("a delay of 50 ms each way is seen", received == 10 and delayed_ms - direct_ms > 80, f"{direct_ms} ms, then {delayed_ms} ms")

    lab.hub.heal()
    lab.hub.one_way("b.rail1", "a.rail1", loss=0.5)
    received, _ = _ping(lab, 40)
    lost = lab.hub.counters("b.rail1", "a.rail1")["lost"]
    report.check("half of the frames of one direction are lost", 0 < received < 40 and lost > 0, f"{received} of 40 arrived")

    lab.hub.heal()
    lab.hub.one_way("a.rail1", "b.rail1", cut=True)
    received, _ = _ping(lab, 3)
    heard = lab.hub.counters("b.rail1", "a.rail1")["frames"]
    report.check("nothing comes back through a direction that is cut", received == 0 and heard > 0)
    other = lab.host("b").run(["ping", "-q", "-c", "2", "-W", "5", lab.host("a").address("rail0")])
    report.check("the other rail is untouched", _RECEIVED.search(other.out).group(1) == "2")

    lab.hub.heal()
    report.check("a healed link is a perfect one", _ping(lab, 10)[0] == 10)


def _arbiter_answers(lab, report):
    arbiter = lab.host("c")
    url = f"http://{arbiter.address()}:2379"
    arbiter.start(["etcd", "--data-dir", "/run/etcd", "--listen-client-urls", url, "--advertise-client-urls", url])
    endpoints = f"ETCDCTL_API=3 etcdctl --endpoints={url}"
    client = lab.host("a")
    wait_until(lambda: client.run(f"{endpoints} endpoint health", check=False).code == 0, 60, "etcd on host c")
    client.run(f"{endpoints} put haven written")
    report.check("etcd on host c answers host a", "written" in client.run(f"{endpoints} get haven").out)


def _boots(lab, report):
    """Elsewhere hosts go on from saved ones: this one shows what a boot takes, from the power switch to the first command."""
    host = lab.host("b")
    host.power_cut()
    host.power_on()
    host.connect()
    report.figure("boot of a host", host.boot_s, "s")
    _links_are_active(lab, report, host.name)
