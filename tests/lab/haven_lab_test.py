# SPDX-License-Identifier: Apache-2.0
"""The parts of the lab's library that need no host."""

import json
import os
import pathlib
import sys
import tempfile
import threading
import types
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "bench")]

# pylint: disable=wrong-import-position
import report_failover
from haven_lab import registry, remote, settings
from haven_lab.guest_client import GuestClient
from haven_lab.image import Image
from haven_lab.machine import HostSpec, Machine
from haven_lab.parts import Parts
from haven_lab.report import CheckFailed, Report
from haven_lab.troubles import troubles
from haven_lab.visible import Visible
from haven_lab.wait import DeadlineExceeded, Signal, wait_until
from haven_lab.xen_guest import tells_of_broken_emulation
from scenarios import rdma_failover


class WaitTest(unittest.TestCase):
    def test_returns_what_the_condition_returned(self):
        values = iter([None, 0, "here"])
        self.assertEqual(wait_until(lambda: next(values), 10, "a value", interval_s=0), "here")

    def test_asks_at_least_once_and_names_what_was_missing(self):
        self.assertTrue(wait_until(lambda: True, 0, "nothing"))
        with self.assertRaisesRegex(DeadlineExceeded, "the train: not within 0 s"):
            wait_until(lambda: False, 0, "the train")

    def test_signal_wakes_who_waits(self):
        signal = Signal()
        box = []

        def fill():
            with signal:
                box.append("full")
                signal.announce()

        thread = threading.Thread(target=fill)
        with signal:
            thread.start()
            self.assertEqual(signal.wait_for(lambda: box and box[0], 20, "the box"), "full")
            with self.assertRaises(DeadlineExceeded):
                signal.wait_for(lambda: len(box) > 1, 0.01, "a second one")
        thread.join()


class ReportTest(unittest.TestCase):
    def setUp(self):
        self.lines = []
        self.report = Report("trial", self.lines.append)

    def written(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "report.json"
            self.report.write(path)
            return json.loads(path.read_text())

    def test_a_scenario_that_checks_nothing_has_not_passed(self):
        self.report.figure("speed", 1.5, "m/s")
        self.assertFalse(self.report.passed)
        self.assertIn("checked nothing", self.written()["failure"])

    def test_checks_and_figures_are_kept(self):
        self.report.check("it is there", True)
        self.report.figure("speed", 1.5, "m/s")
        found = self.written()
        self.assertTrue(found["passed"])
        self.assertIsNone(found["failure"])
        self.assertEqual(found["figures"]["speed"], {"value": 1.5, "unit": "m/s"})

    def test_the_seed_of_its_choices_is_told(self):
        self.assertIsNone(self.written()["seed"])
        self.report = Report("trial", self.lines.append, 17)
        self.assertEqual(self.written()["seed"], 17)

    def test_a_check_that_fails_ends_the_scenario(self):
        with self.assertRaisesRegex(CheckFailed, "it is there: empty"):
            self.report.check("it is there", [], "empty")
        self.assertFalse(self.report.passed)

    def test_an_exception_fails_what_was_good_so_far(self):
        self.report.check("it is there", True)
        self.report.fail(RuntimeError("no more"))
        self.assertEqual(self.written()["failure"], "RuntimeError: no more")
        self.assertFalse(self.written()["passed"])


class FailoverTest(unittest.TestCase):
    def setUp(self):
        self.lines = []
        self.report = Report("rdma-soak", self.lines.append, 17)

    def test_times_are_told_by_what_was_cut_and_become_a_table(self):
        times = rdma_failover.Times()
        for detection in (3.0, 5.0, 4.0):
            times.add("power cut", detection=detection, promotion=0.25, output=detection + 1)
        times.add("engine killed, the guard goes on")
        times.tell(self.report)
        self.report.check("it is over", True)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "report.json"
            self.report.write(path)
            found = json.loads(path.read_text())
        self.assertEqual(found["figures"]["power cut: detection, median"], {"value": 4.0, "unit": "s"})
        rows = report_failover.failover_table(found).splitlines()[2:]
        self.assertEqual(rows[0], "| power cut | 3 | 4.00 | 5.00 | 0.25 | 0.25 | 5.00 | 6.00 |")
        self.assertEqual(rows[1], "| engine killed, the guard goes on | 1 |  |  |  |  |  |  |")
        self.assertEqual(rows[2].replace("all that were promoted", "power cut"), rows[0])

    def test_without_any_promotion_there_are_no_times(self):
        times = rdma_failover.Times()
        times.add("engine killed, the guard goes on")
        times.tell(self.report)
        self.assertFalse(any("median" in line for line in self.lines))


class RegistryTest(unittest.TestCase):
    soak = registry.Scenario("soak", "", (), False, {"cuts": 5, "rate": 1.5, "two_words": "x"}, print)

    def test_parameters_have_defaults_and_keep_their_types(self):
        self.assertEqual(registry.chosen_parameters(self.soak, []), self.soak.parameters)
        chosen = registry.chosen_parameters(self.soak, ["--cuts", "50", "--rate=2", "--two-words", "a=b"])
        self.assertEqual(chosen, {"cuts": 50, "rate": 2.0, "two_words": "a=b"})

    def test_parameters_that_do_not_fit_are_refused(self):
        for words in (["--colour", "red"], ["--cuts"], ["--cuts", "many"], ["50"], ["-cuts", "5"]):
            with self.assertRaises(ValueError):
                registry.chosen_parameters(self.soak, words)

    def test_scenarios_that_want_to_be_alone_are_and_come_last(self):
        alone, first, second = (registry.Scenario(name, "", (), True, {}, print, name == "alone") for name in ("alone", "first", "second"))
        self.assertEqual(registry.next_to_start([alone, first, second], [], 2), first)
        self.assertEqual(registry.next_to_start([alone, second], [first], 2), second)
        self.assertIsNone(registry.next_to_start([second], [first], 1))
        self.assertIsNone(registry.next_to_start([alone], [first], 2))
        self.assertEqual(registry.next_to_start([alone], [], 2), alone)
        self.assertIsNone(registry.next_to_start([second], [alone], 2))
        self.assertIsNone(registry.next_to_start([], [], 2))

    def test_every_scenario_has_a_name_and_hosts_that_exist(self):
        found = registry.scenarios()
        self.assertIn("rdma-selftest", found)
        for name, scenario in found.items():
            self.assertRegex(name, r"^[a-z]+(-[a-z0-9]+)+$")
            self.assertTrue(scenario.about)
            for spec in scenario.hosts:
                self.assertIn(spec.name, settings.HOST_NAMES)
                self.assertLessEqual(set(spec.networks), set(settings.NETWORKS))


class MachineTest(unittest.TestCase):
    parts = Parts(Image(pathlib.Path("image")), pathlib.Path("hub"), pathlib.Path("disk"), 2_500_000)

    def test_parts_go_to_another_process(self):
        self.assertEqual(Parts.from_json(self.parts.to_json()), self.parts)

    def arguments(self, spec):
        with tempfile.TemporaryDirectory() as folder:
            machine = Machine(spec, pathlib.Path(folder), self.parts)
            machine.close()
            return machine.arguments()

    def test_a_host_has_its_cards_and_says_so_to_its_kernel(self):
        arguments = self.arguments(HostSpec("b", networks=("lan", "rail1")))
        line = arguments[arguments.index("-append") + 1]
        self.assertIn("lab.name=b", line)
        self.assertIn("tsc_early_khz=2500000", line)
        self.assertIn("52:54:00:00:00:02/lan/10.9.0.2/1500+52:54:00:00:02:02/rail1/10.9.2.2/9000", line)
        self.assertEqual(sum(word.startswith("virtio-net-pci") for word in arguments), 2)

    def test_a_xen_host_boots_the_hypervisor_with_linux_as_a_module(self):
        arguments = self.arguments(HostSpec("a", kind="xen", memory_mb=2048))
        self.assertEqual(arguments[arguments.index("-kernel") + 1], "image/xen")
        modules = arguments[arguments.index("-initrd") + 1]
        # QEMU separates modules by commas, so that neither has one inside.
        self.assertEqual(modules.count(","), 1)
        self.assertTrue(modules.endswith(",image/initrd.gz"))


class FakeClientHost:
    """A host whose clock is ahead, and whose command says what the test wants."""

    AHEAD_S = 100.0

    def __init__(self):
        self.out, self.err, self.running = "", "", True

    def put(self, *_):
        pass

    def start(self, *_):
        return self

    def clock_ahead(self):
        return self.AHEAD_S

    def say(self, moment_s, **answers):
        stat = {"answers": answers, "wait_s": 0.1, "silence_s": 0.1, "time": moment_s + self.AHEAD_S}
        self.out += json.dumps({"stat": stat}) + "\n"


class GuestClientTest(unittest.TestCase):
    def setUp(self):
        self.host = FakeClientHost()
        self.host.say(1.0, kv0=1, http0=1)
        self.client = GuestClient(self.host, "10.9.3.100", 1, 1)

    def test_an_answer_that_came_before_the_moment_is_none_after_it(self):
        self.host.say(1.9, kv0=2, http0=1)
        self.host.say(2.1, kv0=3, http0=1)
        floor = self.client.answers(2.0)
        self.assertEqual(floor, {"kv0": 3, "http0": 1})
        with self.assertRaises(DeadlineExceeded):
            self.client.wait_for_answer(floor, 0)
        self.host.say(9.0, kv0=4, http0=1)
        self.assertAlmostEqual(self.client.wait_for_answer(floor, 0), 9.0)
        with self.assertRaises(DeadlineExceeded):
            self.client.wait_for_answers(floor, 0)
        self.host.say(9.5, kv0=4, http0=2)
        self.assertAlmostEqual(self.client.wait_for_answers(floor, 0), 9.5)
        self.assertEqual([stat["answers"]["kv0"] for stat in self.client.stats_since(2.05)], [3, 4, 4])

    def test_half_a_line_is_not_yet_said(self):
        before = self.client.stat()
        self.host.out += '{"stat": {"answers": {"kv0"'
        self.assertEqual(self.client.stat(), before)
        self.host.out += ': 7}, "time": 102.0}}\n'
        self.assertEqual(self.client.stat()["answers"], {"kv0": 7})

    def test_every_call_fails_once_something_is_wrong(self):
        self.host.out += '{"violation": "an answer was lost"}\n'
        with self.assertRaisesRegex(AssertionError, "an answer was lost"):
            self.client.wait_for_answers({}, 0)
        self.host.say(3.0, kv0=5, http0=5)
        with self.assertRaisesRegex(AssertionError, "an answer was lost"):
            self.client.answers(2.0, 0)

    def test_one_that_has_ended_is_no_client(self):
        self.host.running = False
        with self.assertRaisesRegex(AssertionError, "the client ended"):
            self.client.stat()


class VisibleTest(unittest.TestCase):
    def setUp(self):
        self.seen = {"a": 0.0, "b": 0.0}
        self.announced = {"a": 0, "b": 0}
        hosts = {name: types.SimpleNamespace(name=name) for name in "ab"}
        self.b = hosts["b"]
        hub = types.SimpleNamespace(source=self.source)
        lab = types.SimpleNamespace(hub=hub, host=hosts.get)
        pair = types.SimpleNamespace(
            a=hosts["a"], b=hosts["b"], lab=lab, other=lambda host: hosts["b" if host.name == "a" else "a"], event_times=lambda _, events: [event["at"] for event in events]
        )
        self.report = Report("trial", lambda _: None)
        self.seen["b"] = 0.5  # Of an earlier guest.
        with mock.patch("time.time", return_value=1.0):
            self.visible = Visible(pair, self.report)

    def source(self, port, _):
        name = port.split(".")[0]
        return {"frames": 1, "reverse_arps": self.announced[name], "last_s": self.seen[name]}

    def test_the_host_that_has_lost_the_guest_must_be_silent(self):
        self.seen["a"] = 9.0
        self.visible.check("at first")
        self.seen["b"], self.announced["b"] = 12.0, 1
        self.visible.promoted(self.b, [{"at": 5.0}, {"at": 10.0}])
        self.visible.check("later")
        self.seen["a"] = 11.0
        with self.assertRaisesRegex(CheckFailed, "only the copy on b can be seen"):
            self.visible.check("too late")

    def test_a_copy_that_only_waits_must_be_silent(self):
        self.seen.update(a=2.0, b=1.5)
        with self.assertRaisesRegex(CheckFailed, "only the copy on a can be seen"):
            self.visible.check("at first")


class BrokenEmulationTest(unittest.TestCase):
    TWICE = (
        "[  531.857347]  sysvec_xen_hvm_callback+0xa/0x90\n"
        "[  531.857415]  asm_sysvec_xen_hvm_callback+0x16/0x20\n"
        "[  531.857475] RIP: 0010:asm_sysvec_xen_hvm_callback+0x0/0x20\n"
    )

    def test_an_interrupt_at_the_first_instruction_of_its_own_handler(self):
        self.assertTrue(tells_of_broken_emulation(f"tick 160\n[  531.761266] BUG: ENTRY_TRAMPOLINE stack guard page was hit\n{self.TWICE}"))

    def test_no_other_death_is_the_emulators(self):
        others = (self.TWICE.replace("+0x0/", "+0x16/"), self.TWICE.replace("0010:asm_", "0010:exc_"))
        for said in ("", "tick 1\n", "Kernel panic - not syncing: Fatal exception in interrupt\n", *others):
            self.assertFalse(tells_of_broken_emulation(said), said)


class TroublesTest(unittest.TestCase):
    def test_what_kernels_and_hypervisors_say_is_found(self):
        killed = "[  964.992165] Out of memory: Killed process 103 (redis-server) total-vm:69496kB"
        files = f"==> guest-g1.log <==\ntick 282\n{killed}\ntick 283\n[    1.5] clocksource: tsc\n"
        console = "(XEN) d1v0 Triple fault - invoking HVM shutdown action 1\n(XEN) RIP:    0010:[<ffffffff81a00e60>]\n"
        self.assertEqual(troubles("", files), [killed])
        self.assertEqual(troubles(console, ""), ["d1v0 Triple fault", "RIP:    0010:[<ffffffff81a00e60>]"])

    def test_words_alone_are_no_trouble(self):
        self.assertEqual(troubles("(XEN) RIP:    0010:[<ffffffff81a00e60>]\n", "tick 1 Kernel panic\nOut of memory\n"), [])


class RemoteTest(unittest.TestCase):
    def test_a_remote_host_runs_commands_as_one_of_the_lab_does(self):
        with remote.Cluster({"a": remote.RemoteSpec.parse("ssh=here,lan=10.0.0.1,rail0=10.0.1.1,dev=mlx5_0")}, ["sh", "-c"]) as cluster:
            host = cluster.host("a")
            self.assertEqual((host.address(), host.address("rail0"), host.device("rail0")), ("10.0.0.1", "10.0.1.1", "mlx5_0"))
            self.assertEqual(host.run("echo out; echo err >&2").err, "err\n")
            self.assertEqual(host.run(["false"], check=False).code, 1)
            sleeper = host.start(["sleep", "600"])
            sleeper.kill()
            self.assertEqual(sleeper.wait().code, -9)
            with tempfile.TemporaryDirectory() as folder:
                host.put(f"{folder}/file", b"\x00bytes")
                self.assertEqual(host.get(f"{folder}/file"), b"\x00bytes")

    def test_a_host_that_is_not_described_as_it_must_be_is_refused(self):
        for text in ("ssh=here", "lan=1", "ssh=here,lan=1,what=2", "nonsense"):
            with self.assertRaises((TypeError, ValueError)):
                remote.RemoteSpec.parse(text)


class HostsFileTest(unittest.TestCase):
    def test_names_and_addresses_agree_with_the_settings(self):
        known = dict(
            reversed(line.split()) for line in (settings.LAB / "image" / "hosts").read_text().splitlines() if line
        )
        for host in settings.HOST_NAMES:
            self.assertEqual(known[host], settings.address(host, "lan"))
        for name, address in known.items():
            if "-" in name:
                host, network = name.split("-")
                self.assertEqual(address, settings.address(host, network))


if __name__ == "__main__":
    unittest.main()
