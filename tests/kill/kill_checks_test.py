# SPDX-License-Identifier: Apache-2.0
"""Shows that each rule of kill_checks bites: a good history passes, each damage breaks the named rule."""

import unittest

import kill_checks
from kill_checks import History, Packet, Report, Violation


def packet(generation, sequence, writes=None, pid=None, vcpu=0):
    writes = 10 * sequence if writes is None else writes
    return Packet(generation, sequence, writes, 0, 0, vcpu, pid or 100 + generation)


def report(generation, next_sequence, writes=10_000, verdict="equal"):
    return Report(verdict, "", generation, next_sequence, [writes, writes])


class HistoryTest(unittest.TestCase):
    def breaks(self, check, *steps):
        history = History()
        with self.assertRaises(Violation) as caught:
            for step in steps:
                if isinstance(step, Report):
                    history.promoted(step)
                else:
                    history.add(step)
            self.fail(f"nothing is found wrong, [{check}] should be")
        self.assertEqual(caught.exception.check, check)

    def test_a_promotion_with_lost_and_late_packets_is_sound(self):
        history = History()
        for sequence in (1, 2, 5):
            history.add(packet(1, sequence))
        history.promoted(report(1, 8))
        history.add(packet(2, 8))
        history.add(packet(1, 7))  # Late, but of an epoch that was promoted.
        history.add(packet(2, 9))

    def test_output_beyond_the_promoted_epoch(self):
        self.breaks("output-beyond-epoch", packet(1, 8), report(1, 8))
        self.breaks("output-beyond-epoch", report(1, 8), packet(1, 8))
        self.breaks("output-beyond-epoch", report(1, 8), packet(2, 8), packet(1, 9))
        self.breaks("output-beyond-epoch", packet(1, 8), packet(2, 8))

    def test_a_packet_that_tells_of_memory_that_was_not_promoted(self):
        self.breaks("output-beyond-epoch", packet(1, 7, writes=501), report(1, 8, writes=500))
        self.breaks("output-beyond-epoch", report(1, 8, writes=500), packet(1, 7, writes=501, vcpu=1))

    def test_two_copies_with_open_output(self):
        self.breaks("two-copies", packet(1, 1), packet(1, 2, pid=999))
        self.breaks("two-copies", packet(1, 1), report(1, 8), report(1, 8))

    def test_order_within_one_copy(self):
        self.breaks("packet-order", packet(1, 2), packet(1, 2))
        self.breaks("packet-order", packet(1, 2), packet(1, 1))
        self.breaks("packet-order", packet(1, 1, writes=5), packet(1, 2, writes=4))

    def test_a_copy_that_does_not_begin_where_its_state_says(self):
        self.breaks("history", report(1, 8), packet(2, 7))
        self.breaks("history", packet(2, 7), report(1, 8))

    def test_an_old_copy_that_begins_to_send_after_a_newer_one(self):
        self.breaks("history", packet(2, 8), packet(1, 7))

    def test_a_copy_that_is_not_what_it_should_be(self):
        self.breaks("report", report(1, 8, verdict="different"))
        self.breaks("report", report(1, 8, verdict="not-checked"))


class FormatsTest(unittest.TestCase):
    def test_packets_are_read_whole(self):
        data = kill_checks.RECORD.pack(kill_checks.MAGIC, 1, 2, 3, 4, 5, 1, 77, 0)
        packets, used = kill_checks.parse_packets(data + data[:20])
        self.assertEqual(packets, [Packet(1, 2, 3, 4, 5, 1, 77)])
        self.assertEqual(used, len(data))
        with self.assertRaises(Violation):
            kill_checks.parse_packets(b"\0" * len(data))

    def test_a_report(self):
        text = ("name=g1\nverdict=equal\nfinding=\ngeneration=1\nstops=7\nnext_sequence=9\n"
                "writes.0=5\nchecksum.0=1\nwrites.1=6\n")
        self.assertEqual(kill_checks.parse_report(text), Report("equal", "", 1, 9, [5, 6]))

    def test_the_current_slot_of_a_register(self):
        def record(text):
            return text.encode().ljust(511) + b"\n"

        slots = [record(f"crc32c=00000000 haven1 term={term} owner=a.b.{term} mode=solo session=00 running={running} "
                        "stamp=1") for term, running in ((3, "yes"), (4, "no"))]
        for current, running in ((0, True), (1, False)):
            data = record(f"haven-register-file1 current={current} group=g1") + b"".join(slots)
            register = kill_checks.parse_register(data)
            self.assertEqual((register.term, register.running), (3 + current, running))
            self.assertEqual(kill_checks.node_of(register.owner), "a.b")
        self.assertIsNone(kill_checks.parse_register(b""))
        self.assertIsNone(kill_checks.parse_register(record("haven-register-file1 current=0 group=g1")))


if __name__ == "__main__":
    unittest.main()
