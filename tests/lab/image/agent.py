# SPDX-License-Identifier: Apache-2.0
"""Runs commands in a host of the lab for the machine outside, over a virtio serial port: lines of JSON both ways.

A request carries an "id" that its answers repeat, and one of
  op "ping"                                     -> {"id", "pong": boot id}
  op "start", argv, stdin, env, cwd             -> {"id", "out": text} and {"id", "err": text} as it comes, in the end
                                                   {"id", "exit": code, negative for a signal}, or {"id", "error": why}
  op "kill", of (the id of a start), signal     -> {"id", "done": true}; goes to the whole process group
  op "put", path, data (base64), mode           -> {"id", "done": true} or {"id", "error": why}
  op "get", path                                -> {"id", "data": base64} or {"id", "error": why}
  op "wake", time (seconds), entropy (base64)   -> {"id", "done": true}; what differs between two wakings of one snapshot
  op "clock"                                    -> {"id", "clock": seconds, the time of day here}
Any number of commands runs at once. Text travels as UTF-8, other bytes as Python's surrogate escapes.
"""

import base64
import fcntl
import glob
import json
import os
import queue
import selectors
import signal
import struct
import subprocess
import threading
import time

PORT_NAME = "haven.agent"
_CHUNK = 65536
# linux/random.h
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207


class Agent:
    """Serves one connection, given as a file descriptor for both directions."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self._answers = queue.Queue()
        self._commands = {}

    def serve(self):
        """Until the other side closes; then every command still running is killed."""
        writer = threading.Thread(target=self._write_answers)
        writer.start()
        for line in _lines(self._descriptor):
            try:
                request = json.loads(line)
                identity = request["id"]
            except (ValueError, KeyError, TypeError):
                continue  # The rest of a line that was cut off when the other side went away.
            try:
                self._handle(identity, request)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._answer(identity, error=f"{type(error).__name__}: {error}")
        for command in list(self._commands.values()):
            _signal_group(command, signal.SIGKILL)
        self._answers.put(None)
        writer.join()

    def _answer(self, identity, **fields):
        self._answers.put({"id": identity, **fields})

    def _write_answers(self):
        connected = True
        while (answer := self._answers.get()) is not None:
            rest = json.dumps(answer).encode() + b"\n"
            while connected and rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except OSError:
                    connected = False  # serve() notices by itself.

    def _handle(self, identity, request):
        operation = request["op"]
        if operation == "ping":
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                self._answer(identity, pong=file.read().strip())
        elif operation == "start":
            self._start(identity, request)
        elif operation == "kill":
            command = self._commands.get(request["of"])
            if command is not None:
                _signal_group(command, request["signal"])
            self._answer(identity, done=True)
        elif operation == "put":
            with open(request["path"], "wb") as file:
                file.write(base64.b64decode(request["data"]))
                os.fchmod(file.fileno(), request.get("mode", 0o644))
            self._answer(identity, done=True)
        elif operation == "get":
            with open(request["path"], "rb") as file:
                self._answer(identity, data=base64.b64encode(file.read()).decode())
        elif operation == "clock":
            self._answer(identity, clock=time.time())
        elif operation == "wake":
            wake(request["time"], base64.b64decode(request["entropy"]))
            self._answer(identity, done=True)
        else:
            self._answer(identity, error=f"unknown operation {operation!r}")

    def _start(self, identity, request):
        command = subprocess.Popen(
            request["argv"],
            stdin=subprocess.PIPE if request.get("stdin") else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **request.get("env", {})},
            cwd=request.get("cwd") or None,
            start_new_session=True,
        )
        self._commands[identity] = command
        threading.Thread(target=self._follow, args=(identity, command, request.get("stdin", "")), daemon=True).start()

    def _follow(self, identity, command, stdin):
        """Passes on what a command prints. Its end is its exit, whoever may still hold its output open."""
        if stdin:
            threading.Thread(target=_feed, args=(command, stdin), daemon=True).start()
        with selectors.DefaultSelector() as selector:
            selector.register(command.stdout, selectors.EVENT_READ, "out")
            selector.register(command.stderr, selectors.EVENT_READ, "err")
            ended = os.pidfd_open(command.pid)
            selector.register(ended, selectors.EVENT_READ)
            running = True
            while running:
                ready = selector.select()
                running = all(key.fd != ended for key, _ in ready)
                for key, _ in ready:
                    self._pass_on(identity, key, selector)
            # What it wrote before it ended.
            while ready := [entry for entry in selector.select(0) if entry[0].fd != ended]:
                for key, _ in ready:
                    self._pass_on(identity, key, selector)
            os.close(ended)
        command.wait()
        command.stdout.close()
        command.stderr.close()
        del self._commands[identity]
        self._answer(identity, exit=command.returncode)

    def _pass_on(self, identity, key, selector):
        if key.data is None:
            return
        data = os.read(key.fd, _CHUNK)
        if data:
            self._answer(identity, **{key.data: data.decode(errors="surrogateescape")})
        else:
            selector.unregister(key.fileobj)


def _lines(descriptor):
    """The lines that arrive until the other side closes."""
    pending = []  # Pieces of a line: joining them each time would make long lines expensive.
    while chunk := os.read(descriptor, _CHUNK):
        first, *rest = chunk.split(b"\n")
        pending.append(first)
        for piece in rest:
            yield b"".join(pending)
            pending = [piece]


def _feed(command, stdin):
    try:
        with command.stdin as file:
            file.write(stdin.encode(errors="surrogateescape"))
    except BrokenPipeError:
        pass  # It did not want all of it.


def _signal_group(command, number):
    try:
        os.killpg(command.pid, number)
    except ProcessLookupError:
        pass


def wake(now, entropy):
    """Sets the clock, and makes the kernel's random numbers different from those of any other waking."""
    time.clock_settime(time.CLOCK_REALTIME, now)
    with open("/dev/random", "wb") as file:
        fcntl.ioctl(file, _RNDADDENTROPY, struct.pack("ii", 8 * len(entropy), len(entropy)) + entropy)
        fcntl.ioctl(file, _RNDRESEEDCRNG)


def port():
    """The device of our serial port."""
    for name in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(name, encoding="ascii") as file:
            if file.read().strip() == PORT_NAME:
                return "/dev/" + name.split("/")[-2]
    raise SystemExit(f"no serial port is called {PORT_NAME}")


def main():
    # Before everything else in this host: scenarios load it until nothing else moves.
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    descriptor = os.open(port(), os.O_RDWR)
    while True:
        Agent(descriptor).serve()
        # Reading from a port that nobody has connected to ends at once, and nothing announces that somebody has.
        time.sleep(0.05)


if __name__ == "__main__":
    main()
