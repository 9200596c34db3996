# SPDX-License-Identifier: Apache-2.0
"""Commands in a host, over the serial port that its agent (image/agent.py) serves."""

import base64
import dataclasses
import json
import os
import re
import shlex
import signal as signals
import socket
import threading
import time

from haven_lab.wait import Signal

# A host under emulation with all its processors busy answers late, not never.
ANSWER_TIMEOUT_S = 180
_CLOCK_TRIES = 8


class HostGone(Exception):
    """The host was switched off, or its channel broke, before the answer came."""


class CommandFailed(Exception):
    """A command that had to succeed did not."""


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended: its exit code (negative: the signal that ended it) and all that it printed."""

    argv: list
    code: int
    out: str
    err: str

    def must_succeed(self):
        if self.code != 0:
            tail = "\n".join((self.out + self.err).splitlines()[-20:])
            raise CommandFailed(f"{shlex.join(self.argv)} ended with {self.code}:\n{tail}")
        return self


class _Request:
    """What has been answered to one request so far; guarded by the client's signal."""

    def __init__(self, what):
        self.what = what
        self.out = ""
        self.err = ""
        self.end = None  # The answer that ends it.


class Command:
    """A command that runs, or ran, in a host."""

    def __init__(self, client, identity, request, argv):
        self._client = client
        self._identity = identity
        self._request = request
        self.argv = argv

    @property
    def out(self):
        """What it printed so far."""
        with self._client.changed:
            return self._request.out

    @property
    def err(self):
        with self._client.changed:
            return self._request.err

    @property
    def running(self):
        with self._client.changed:
            return self._request.end is None and self._client.lost is None

    def wait(self, timeout_s=ANSWER_TIMEOUT_S):
        """Its Result. DeadlineExceeded leaves it running; HostGone says that nobody will ever know."""
        end = self._client.end_of(self._request, timeout_s, shlex.join(self.argv))
        return Result(self.argv, end["exit"], self._request.out, self._request.err)

    def wait_for_output(self, pattern, timeout_s=ANSWER_TIMEOUT_S):
        """The first match of a regular expression in what it prints on either stream, as soon as it is there."""

        def found():
            return re.search(pattern, self._request.out) or re.search(pattern, self._request.err)

        with self._client.changed:
            match = self._client.changed.wait_for(
                lambda: found() or self._client.lost or self._request.end, timeout_s, f"{pattern!r} of {self.argv[0]}"
            )
        if not isinstance(match, re.Match):
            match = found()
        if not match:
            raise CommandFailed(f"{shlex.join(self.argv)} ended without printing {pattern!r}:\n{self.out}{self.err}")
        return match

    def kill(self, signal=signals.SIGKILL):
        """Sends a signal to the command and its children; nothing happens to one that has ended."""
        self._client.ask(op="kill", of=self._identity, signal=int(signal))


class AgentClient:
    """One host's channel. Any number of threads may use it at once."""

    def __init__(self, connection, log=None):
        """`connection` is connected to the host's serial port; each command and its end is written to the file `log`."""
        self._socket = connection
        self._log = log
        self._requests = {}
        self._next = 0
        self._sending = threading.Lock()
        self.changed = Signal()
        self.lost = None  # Why the channel is of no use any more.
        threading.Thread(target=self._read, daemon=True).start()

    def close(self, why="switched off"):
        """Ends the channel; whoever waits for an answer gets HostGone."""
        with self.changed:
            self.lost = self.lost or why
            self.changed.announce()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # The reading thread notices this, but not a close.
        except OSError:
            pass  # The other side was faster.
        self._socket.close()

    def ping(self, timeout_s=ANSWER_TIMEOUT_S):
        """The boot id of the kernel that answers."""
        return self.ask(timeout_s=timeout_s, op="ping")["pong"]

    def start(self, argv, stdin="", env=None, cwd=None):
        """Starts a command, given as a list or as a line for the shell, and returns its Command."""
        argv = ["bash", "-c", argv] if isinstance(argv, str) else [str(word) for word in argv]
        identity, request = self._send(op="start", argv=argv, stdin=stdin, env=env or {}, cwd=cwd)
        return Command(self, identity, request, argv)

    def run(self, argv, timeout_s=ANSWER_TIMEOUT_S, check=True, **options):
        """Runs a command to its end and returns its Result; CommandFailed if it fails and `check` is set."""
        command = self.start(argv, **options)
        try:
            result = command.wait(timeout_s)
        except BaseException:
            if self.lost is None:
                command.kill()
            raise
        return result.must_succeed() if check else result

    def put(self, path, data, mode=0o644):
        """Writes a file of bytes."""
        self.ask(op="put", path=str(path), data=base64.b64encode(data).decode(), mode=mode)

    def get(self, path):
        """The bytes of a file."""
        return base64.b64decode(self.ask(op="get", path=str(path))["data"])

    def wake(self):
        """Gives the host the time of day, and random numbers of its own."""
        self.ask(op="wake", time=time.time(), entropy=base64.b64encode(os.urandom(64)).decode())

    def clock_ahead(self):
        """How many seconds the host's clock is ahead of this machine's: by the fastest of some answers."""
        answers = []
        for _ in range(_CLOCK_TRIES):
            asked = time.time()
            there = self.ask(op="clock")["clock"]
            answered = time.time()
            answers.append((answered - asked, there - (asked + answered) / 2))
        return min(answers)[1]

    def ask(self, timeout_s=ANSWER_TIMEOUT_S, **request):
        """Sends a request and returns its answer; OSError with the agent's reason if it could not be done."""
        _, sent = self._send(**request)
        return self.end_of(sent, timeout_s, request["op"])

    def end_of(self, request, timeout_s, what):
        """The answer that ends a request."""
        with self.changed:
            self.changed.wait_for(lambda: request.end or self.lost, timeout_s, f"the answer to {what}")
            if request.end is None:
                raise HostGone(f"{what}: {self.lost}")
        if "error" in request.end:
            raise OSError(f"{what}: {request.end['error']}")
        return request.end

    def _send(self, **request):
        entry = _Request(request.get("argv", request["op"]))
        with self.changed:
            if self.lost is not None:
                raise HostGone(self.lost)
            identity = self._next
            self._next += 1
            self._requests[identity] = entry
        self._note(identity, "->", request)
        line = json.dumps({"id": identity, **request}).encode() + b"\n"
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError as error:
            raise HostGone(str(error)) from error
        return identity, entry

    def running_commands(self):
        """What has not ended yet, with what it printed so far."""
        with self.changed:
            running = list(self._requests.values())
        return "".join(f"-> {entry.what}\n{entry.out}{entry.err}\n" for entry in running)

    def _read(self):
        why = "the host is gone"
        try:
            with self._socket.makefile("rb") as file:
                for line in file:
                    self._take(line)
        except (OSError, ValueError) as error:
            why = f"the channel broke: {error}"
        with self.changed:
            self.lost = self.lost or why
            self.changed.announce()

    def _take(self, line):
        try:
            answer = json.loads(line)
        except ValueError:
            return  # The rest of a line that the host sent to the one who was here before us.
        if not isinstance(answer, dict):
            return
        identity = answer.get("id")
        with self.changed:
            request = self._requests.get(identity)
            if request is None:
                return
            request.out += answer.get("out", "")
            request.err += answer.get("err", "")
            if "out" not in answer and "err" not in answer:
                request.end = answer
                del self._requests[identity]
            self.changed.announce()
        if request.end is not None:
            self._note(identity, "<-", {**answer, "out": request.out, "err": request.err})

    def _note(self, identity, arrow, fields):
        if self._log is None:
            return
        shown = {key: value for key, value in fields.items() if value and key not in ("data", "entropy", "id")}
        stamp = time.strftime("%H:%M:%S")
        self._log.write(f"{stamp} {identity} {arrow} {json.dumps(shown)}\n")
        self._log.flush()
