# SPDX-License-Identifier: Apache-2.0
"""What the wire from host a to host b can do, as replication goes, by perftest's programs over the first rail."""

import re

from haven_lab.wait import wait_until

_WAIT_S = 300


def bandwidth(lab, size, count):
    """Gb/s of `count` WRITEs of `size` bytes on one queue pair: the average of ib_write_bw. It polls without a pause (it can
    not do else with WRITEs), so the hosts need a second processor for their emulated network card."""
    # #bytes #iterations BW peak, BW average, MsgRate
    row = rf"^\s*{size}\s+\d+\s+[\d.]+\s+([\d.]+)\s"
    return _run(lab, "ib_write_bw", row, "-s", size, "-n", count, "--report_gbits")


def latency(lab, size, count):
    """Microseconds of one way of a WRITE of `size` bytes: the typical time of ib_write_lat, whose two sides write in turn."""
    # #bytes #iterations t_min t_max t_typical ...
    row = rf"^\s*{size}\s+\d+\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s"
    return _run(lab, "ib_write_lat", row, "-s", size, "-n", count)


def _run(lab, program, row, *options):
    # The client writes, or writes first, to the server's memory.
    client, server = lab.host("a"), lab.host("b")
    words = [str(word) for word in (program, "-F", "-R", *options)]
    before = _listeners(server)
    waiting = server.start([*words, "-d", server.device("rail0")])
    wait_until(lambda: _listeners(server) > before or not waiting.running, _WAIT_S, f"{program} to listen")
    if not waiting.running:
        waiting.wait().must_succeed()

    def table():
        # The kernel calls a connection id listening shortly before it takes connections: a refused client tries again.
        result = client.run([*words, "-d", client.device("rail0"), server.address("rail0")], timeout_s=_WAIT_S, check=False)
        return None if "EVENT_REJECTED" in result.err + result.out else result.must_succeed().out

    printed = wait_until(table, _WAIT_S, f"{program} to be accepted")
    waiting.wait()
    return float(re.search(row, printed, re.MULTILINE).group(1))


def _listeners(host):
    """Others may listen as well: a session of the engine does."""
    return host.run("rdma resource show cm_id").out.count("LISTEN")
