# SPDX-License-Identifier: Apache-2.0
"""Deliberate breakages of a protected pair. Each must be caught by the check that is named with it."""

import os
import re
import signal
import socket
import struct
import time

import kill_processes
import kill_world

_PAGE = 4096
_GUEST_FAULT = 3  # GuestOp::kFault ...
_LOSE_OUTPUT_BUFFER = 2  # ... and SyntheticFault::kLoseOutputBuffer, of engine/synthetic.
_SHORT_S = 5


def _damage_memory(pid):
    """Flips a byte in every page of the guest's RAM that is not zero."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        areas = [re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-s .*memfd:", line) for line in maps]
    start, end = max(((int(a[1], 16), int(a[2], 16)) for a in areas if a), key=lambda area: area[1] - area[0])
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for at in range(start, end, _PAGE):
            memory.seek(at + _PAGE - 1)
            byte = memory.read(1)
            if byte != b"\0":
                memory.seek(at + _PAGE - 1)
                memory.write(bytes([byte[0] ^ 1]))


def _lose_output_buffer(node):
    """What the guest holds leaves, and everything after it."""
    message = struct.pack("<IHHQIHH14Q", 0x43475648, 1, _GUEST_FAULT, 1, 0, 0, 0, _LOSE_OUTPUT_BUFFER, *[0] * 13)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_SHORT_S)
        connection.connect(f"{node.directory}/guests/synthetic-{kill_world.GROUP}.sock")
        connection.send(message.ljust(1000, b"\0"))
        connection.recv(1000)


def _kill_guard(world, node):
    guard = node.driver().pid
    kill_processes.kill_now(guard)
    world.expect(lambda: kill_processes.find_process(guard) is None, "victim", "the guard does not die")


def wrong_memory(world, node):
    """The waiting copy's memory is changed behind the applier's back; then it is promoted."""
    _damage_memory(world.other(node).guests()[0].pid)
    _kill_guard(world, node)

    def reported():
        world.check_reports()
        return None

    world.expect(reported, "not-caught", "no report of wrong memory", 2 * _SHORT_S)


def leaking_output(world, node):
    """The output buffer of a guest whose guard and engine are dead loses its mark: held packets leave."""
    _kill_guard(world, node)
    _lose_output_buffer(node)
    world.expect(lambda: world.owner() is world.other(node), "not-caught", "the backup is not promoted")
    world.expect_flow(world.other(node), time.monotonic_ns())


def dead_guest(world, node):
    """The running guest is killed: nothing is left that could send."""
    guest = world.expect_flow(node, 0)
    kill_processes.kill_now(guest)
    world.expect(lambda: world.sender(node, time.monotonic_ns()), "output-flow", "no output", _SHORT_S)


def stopped_guest(world, node):
    """The running guest hangs."""
    guest = world.expect_flow(node, 0)
    kill_processes.kill_now(guest, signal.SIGSTOP)
    since_ns = time.monotonic_ns()
    world.expect(lambda: world.sender(node, since_ns), "output-flow", "no output", _SHORT_S)


def left_process(world, node):
    """A process of the pair stays when all else has been stopped in good order."""
    fifo = f"{node.directory}/fifo"
    os.mkfifo(fifo)
    world.children.start(["/bin/sh", "-c", "read -r line <\"$0\"", fifo], os.devnull)
    world.stop(_SHORT_S)


def left_socket(world, _):
    """All processes are killed at once: sockets stay."""
    for process in kill_processes.processes_under(world.directory):
        kill_processes.kill_now(process.pid)
    world.check_left(_SHORT_S)


# Name, breakage, and the check that has to catch it.
BREAKAGES = (
    ("wrong-memory", wrong_memory, "report"),
    ("leaking-output", leaking_output, "output-beyond-epoch"),
    ("dead-guest", dead_guest, "output-flow"),
    ("stopped-guest", stopped_guest, "output-flow"),
    ("left-process", left_process, "left-behind"),
    ("left-socket", left_socket, "left-behind"),
)
