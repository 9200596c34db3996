# SPDX-License-Identifier: Apache-2.0
"""What must hold for the packets and reports of a synthetic guest and its copies, whoever was killed.

Formats: engine/synthetic/packet_log.h, engine/synthetic/report.h, engine/membership/arbiter_register_file.h.
"""

import collections
import re
import struct


class Violation(Exception):
    """An invariant is broken. `check` is a short name of the rule, for tests of the test."""

    def __init__(self, check, message):
        super().__init__(f"[{check}] {message}")
        self.check = check


# --- Packets ---------------------------------------------------------------------------------------------------------

RECORD = struct.Struct("<IIQQqqIII")
MAGIC = 0x4B505648  # "HVPK"

Packet = collections.namedtuple("Packet", "generation sequence writes emitted_ns released_ns vcpu pid")


def parse_packets(data):
    """The packets in `data` and the number of bytes they took: whole records only."""
    packets = []
    whole = len(data) - len(data) % RECORD.size
    for at in range(0, whole, RECORD.size):
        magic, generation, sequence, writes, emitted, released, vcpu, pid, _ = RECORD.unpack_from(data, at)
        if magic != MAGIC:
            raise Violation("packet-log", f"no packet record at byte {at}: magic {magic:08x}")
        packets.append(Packet(generation, sequence, writes, emitted, released, vcpu, pid))
    return packets, whole


class _Incarnation:
    """What one incarnation of the guest has told the world."""

    def __init__(self, pid):
        self.pid = pid
        self.count = 0
        self.first = None
        self.last = 0
        self.writes = {}


class History:
    """All packets that ever left any copy, in the order in which they left, held against what was promoted.

    A copy promoted from incarnation g is g + 1; it starts from a state in which the next packet has number `bound` and
    each vCPU has carried out a number of writes. From I2 to I4 follows for every packet of g, however late it leaves:
    its number is below the bound, and the writes that it tells of are in the promoted memory."""

    def __init__(self):
        self.incarnations = {}
        self.promotions = {}

    def add(self, packet):
        known = self.incarnations.get(packet.generation)
        if known is None:
            known = self.incarnations[packet.generation] = _Incarnation(packet.pid)
            known.first = packet.sequence
            self._check_start(packet)
        if known.pid != packet.pid:
            raise Violation("two-copies", f"packets of incarnation {packet.generation} left process {known.pid} and "
                            f"process {packet.pid}: both copies run with open output")
        if packet.sequence <= known.last:
            raise Violation("packet-order", f"incarnation {packet.generation} sent packet {packet.sequence} after "
                            f"packet {known.last}")
        if packet.writes < known.writes.get(packet.vcpu, 0):
            raise Violation("packet-order", f"packet {packet.sequence} tells of {packet.writes} writes of vCPU "
                            f"{packet.vcpu}, an earlier one of {known.writes[packet.vcpu]}")
        known.last = packet.sequence
        known.writes[packet.vcpu] = packet.writes
        known.count += 1
        self._check_bound(packet.generation)

    def promoted(self, report):
        """The copy that wrote `report` is the one that runs on."""
        if report.verdict != "equal":
            raise Violation("report", f"the promoted copy says {report.verdict}: {report.finding}")
        if report.generation in self.promotions:
            raise Violation("two-copies", f"incarnation {report.generation} was promoted twice")
        self.promotions[report.generation] = report
        self._check_bound(report.generation)
        following = self.incarnations.get(report.generation + 1)
        if following is not None and following.first < report.next_sequence:
            raise Violation("history", f"incarnation {report.generation + 1} began with packet {following.first}, its "
                            f"state says {report.next_sequence}")

    def _check_start(self, packet):
        older = [g for g in self.incarnations if g < packet.generation]
        newer = [g for g in self.incarnations if g > packet.generation]
        if newer and packet.generation not in self.promotions:
            raise Violation("history", f"incarnation {packet.generation} sends its first packet after incarnation "
                            f"{max(newer)} did")
        report = self.promotions.get(packet.generation - 1)
        if report is not None and packet.sequence < report.next_sequence:
            raise Violation("history", f"incarnation {packet.generation} begins with packet {packet.sequence}, its "
                            f"state says {report.next_sequence}")
        for generation in older:
            self._check_overlap(generation, packet)

    def _check_overlap(self, generation, packet):
        last = self.incarnations[generation].last
        if last >= packet.sequence:
            raise Violation("output-beyond-epoch", f"packet {last} of incarnation {generation} had left, and "
                            f"incarnation {packet.generation} begins with packet {packet.sequence}")

    def _check_bound(self, generation):
        report = self.promotions.get(generation)
        known = self.incarnations.get(generation)
        if report is None or known is None:
            return
        if known.last >= report.next_sequence:
            raise Violation("output-beyond-epoch", f"packet {known.last} of incarnation {generation} left, the "
                            f"promoted state knows those below {report.next_sequence} only")
        for vcpu, writes in known.writes.items():
            if writes > report.writes[vcpu]:
                raise Violation("output-beyond-epoch", f"a packet of incarnation {generation} tells of write {writes} "
                                f"of vCPU {vcpu}, the promoted memory has {report.writes[vcpu]}")


# --- Reports and the register ----------------------------------------------------------------------------------------

Report = collections.namedtuple("Report", "verdict finding generation next_sequence writes")


def parse_report(text):
    fields = dict(line.split("=", 1) for line in text.splitlines())
    writes = []
    while f"writes.{len(writes)}" in fields:
        writes.append(int(fields[f"writes.{len(writes)}"]))
    return Report(fields["verdict"], fields["finding"], int(fields["generation"]), int(fields["next_sequence"]), writes)


Register = collections.namedtuple("Register", "term owner mode session running")

_RECORD_BYTES = 512
_REGISTER = re.compile(r"term=(\d+) owner=(\S+) mode=(\S+) session=(\S+) running=(\S+) ")


def parse_register(data):
    """None: there is no register yet."""
    current = re.match(rb"haven-register-file1 current=([01]) ", data)
    if current is None:
        return None
    start = _RECORD_BYTES * (1 + int(current.group(1)))
    fields = _REGISTER.search(data[start:start + _RECORD_BYTES].decode("ascii", "replace"))
    if fields is None:
        return None
    term, owner, mode, session, running = fields.groups()
    return Register(int(term), owner, mode, session, running == "yes")


def node_of(owner):
    """The node whose copy is called so: "a.0123456789abcdef"."""
    return owner.rsplit(".", 1)[0]
