# SPDX-License-Identifier: Apache-2.0
"""The agent and its client, back to back on this machine: everything but the serial port between them."""

import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "image")]

# pylint: disable=wrong-import-position
import agent
from haven_lab.agent_client import AgentClient, CommandFailed, HostGone
from haven_lab.wait import DeadlineExceeded


class AgentTest(unittest.TestCase):
    def setUp(self):
        ours, self.theirs = socket.socketpair()
        self.serving = threading.Thread(target=agent.Agent(self.theirs.fileno()).serve)
        self.serving.start()
        self.host = AgentClient(ours)

    def tearDown(self):
        self.host.close()
        self.serving.join(20)
        self.assertFalse(self.serving.is_alive())
        self.theirs.close()

    def test_result_has_code_and_both_streams(self):
        result = self.host.run("echo out; echo err >&2; exit 3", check=False)
        self.assertEqual((result.code, result.out, result.err), (3, "out\n", "err\n"))

    def test_a_failure_is_an_exception_unless_it_is_expected(self):
        with self.assertRaisesRegex(CommandFailed, "ended with 1"):
            self.host.run(["false"])
        self.assertEqual(self.host.run(["false"], check=False).code, 1)

    def test_words_are_not_interpreted(self):
        self.assertEqual(self.host.run(["echo", "$HOME", "a  b"]).out, "$HOME a  b\n")

    def test_input_environment_and_folder(self):
        self.assertEqual(self.host.run(["cat"], stdin="x" * 300_000).out, "x" * 300_000)
        self.assertEqual(self.host.run("echo $WORD", env={"WORD": "this"}).out, "this\n")
        self.assertEqual(self.host.run(["pwd"], cwd="/").out, "/\n")

    def test_input_that_is_not_read_hurts_nobody(self):
        self.assertEqual(self.host.run(["true"], stdin="x" * 300_000).code, 0)

    def test_much_output_arrives_whole(self):
        self.assertEqual(len(self.host.run("yes | head -c 3000000").out), 3_000_000)

    def test_bytes_that_are_no_text_survive(self):
        out = self.host.run(r"printf '\xff\x00z'").out
        self.assertEqual(out.encode(errors="surrogateescape"), b"\xff\x00z")

    def test_a_clock_is_as_far_ahead_as_it_is_set(self):
        self.assertAlmostEqual(self.host.clock_ahead(), 0, delta=1)
        with unittest.mock.patch("haven_lab.agent_client.time", wraps=time) as here:
            here.time.side_effect = lambda: time.time() - 60
            self.assertAlmostEqual(self.host.clock_ahead(), 60, delta=1)

    def test_commands_run_at_the_same_time(self):
        with tempfile.TemporaryDirectory() as folder:
            fifo = os.path.join(folder, "fifo")
            os.mkfifo(fifo)
            reader = self.host.start(["cat", fifo])
            self.assertTrue(reader.running)
            self.host.run(f"echo through >{fifo}")
            self.assertEqual(reader.wait().out, "through\n")
            self.assertFalse(reader.running)

    def test_output_is_seen_while_the_command_runs(self):
        command = self.host.start("echo ready 42; exec sleep 600")
        self.assertEqual(command.wait_for_output(r"ready (\d+)").group(1), "42")
        self.assertTrue(command.running)
        command.kill(signal.SIGTERM)
        self.assertEqual(command.wait().code, -signal.SIGTERM)

    def test_output_that_never_comes_is_noticed_at_the_end(self):
        with self.assertRaisesRegex(CommandFailed, "without printing"):
            self.host.start("echo other").wait_for_output("ready")

    def test_a_deadline_ends_the_wait_and_run_ends_the_command(self):
        command = self.host.start(["sleep", "600"])
        with self.assertRaises(DeadlineExceeded):
            command.wait(timeout_s=0.05)
        command.kill()
        self.assertEqual(command.wait().code, -signal.SIGKILL)
        with tempfile.TemporaryDirectory() as folder:
            fifo = os.path.join(folder, "fifo")
            os.mkfifo(fifo)
            with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
                with self.assertRaises(DeadlineExceeded):
                    self.host.run(f"sleep 600 >{fifo}", timeout_s=1)
                # The end of a pipe shows that whoever held it is gone.
                os.set_blocking(pipe.fileno(), True)
                self.assertEqual(pipe.read(), b"")

    def test_killing_reaches_the_children(self):
        with tempfile.TemporaryDirectory() as folder:
            fifo = os.path.join(folder, "fifo")
            os.mkfifo(fifo)
            command = self.host.start(f"sleep 600 >{fifo} & echo started; wait")
            command.wait_for_output("started")
            with open(fifo, "rb") as pipe:
                command.kill()
                self.assertEqual(pipe.read(), b"")

    def test_a_command_ends_when_it_exits_whoever_holds_its_output(self):
        result = self.host.run("sleep 600 & echo $!", timeout_s=20)
        os.kill(int(result.out), signal.SIGKILL)

    def test_a_command_that_does_not_exist(self):
        with self.assertRaisesRegex(OSError, "FileNotFoundError"):
            self.host.run(["/no/such/program"])

    def test_files_travel_both_ways(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "file"
            data = bytes(range(256)) * 1000
            self.host.put(path, data, mode=0o700)
            self.assertEqual(path.read_bytes(), data)
            self.assertEqual(path.stat().st_mode & 0o777, 0o700)
            self.assertEqual(self.host.get(path), data)
            with self.assertRaisesRegex(OSError, "FileNotFoundError"):
                self.host.get(path.with_name("other"))

    def test_unknown_operations_and_missing_members_are_answered(self):
        with self.assertRaisesRegex(OSError, "unknown operation"):
            self.host.ask(op="dance")
        with self.assertRaisesRegex(OSError, "KeyError"):
            self.host.ask(op="start")

    def test_ping_names_the_boot(self):
        self.assertEqual(len(self.host.ping()), 36)
        self.assertEqual(self.host.ping(), self.host.ping())

    def test_a_host_that_goes_away_ends_every_wait(self):
        command = self.host.start(["sleep", "600"])
        self.host.close("its power was cut")
        with self.assertRaisesRegex(HostGone, "its power was cut"):
            command.wait()
        with self.assertRaisesRegex(HostGone, "its power was cut"):
            self.host.run(["true"])

    def test_commands_end_with_the_connection(self):
        with tempfile.TemporaryDirectory() as folder:
            fifo = os.path.join(folder, "fifo")
            os.mkfifo(fifo)
            self.host.start(f"exec sleep 600 >{fifo}")
            with open(fifo, "rb") as pipe:
                self.host.close()
                self.assertEqual(pipe.read(), b"")


class BrokenLinesTest(unittest.TestCase):
    def test_pieces_of_lines_are_passed_over(self):
        ours, theirs = socket.socketpair()
        serving = threading.Thread(target=agent.Agent(theirs.fileno()).serve)
        serving.start()
        # As a connection that ended in the middle of a request leaves it.
        ours.sendall(b'lf", "argv": ["true"]}\n[1]\n{"op": "ping"}\n\xff\n')
        host = AgentClient(ours)
        self.assertEqual(host.run("echo here").out, "here\n")
        host.close()
        serving.join(20)
        theirs.close()


if __name__ == "__main__":
    unittest.main()
