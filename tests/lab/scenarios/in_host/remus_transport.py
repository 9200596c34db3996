#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The wire of `xl remus` between two hosts, without a shell's encryption and without copies of its own of what it sends.

  remus_transport.py send ADDRESS PORT            what `xl remus -s ""` starts: its pipes and a TCP connection are spliced
  remus_transport.py receive PORT PROGRAM...      takes one connection, which becomes the program's input and output; tells
                                                  on stderr when the other side has closed it: `end of file SECONDS`
"""

import os
import select
import socket
import subprocess
import sys
import threading
import time

CHUNK = 1 << 20


def splice_all(source, target):
    while os.splice(source, target, CHUNK) > 0:
        pass


def copy_all(source, target):
    """A few bytes a checkpoint. A splice from a socket would hold the pipe's lock while it waits for more of them, and so keep
    the pipe's reader, in Linux 6.1 for good, from those that are there."""
    while data := os.read(source, CHUNK):
        while data:
            data = data[os.write(target, data) :]


def send(address, port):
    connection = socket.create_connection((address, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    back = threading.Thread(target=copy_all, args=(connection.fileno(), 1), daemon=True)
    back.start()
    splice_all(0, connection.fileno())
    connection.shutdown(socket.SHUT_WR)
    back.join()


def receive(port, program):
    """The program's exit code."""
    with socket.create_server(("", int(port))) as server:
        print("listens", file=sys.stderr, flush=True)
        connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    child = subprocess.Popen(program, stdin=connection, stdout=connection)
    # Does nothing until the end, which it has to see when it comes and not when the processor is free.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ended = os.pidfd_open(child.pid)
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    poller.register(ended, select.POLLIN)
    if any(descriptor == connection.fileno() for descriptor, _ in poller.poll()):
        print(f"end of file {time.time():.6f}", file=sys.stderr, flush=True)
    connection.close()
    return child.wait()


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(*sys.argv[2:4])
    else:
        sys.exit(receive(sys.argv[2], sys.argv[3:]))
