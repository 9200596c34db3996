# SPDX-License-Identifier: Apache-2.0
"""Starting, finding, killing and reaping the processes of a test, all of which carry its mark in their environment."""

import ctypes
import os
import re
import signal
import time

MARK = "HAVEN_KILL_TEST"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.004


def become_subreaper():
    """Orphans among this process' descendants become its children; it ends itself when its parent dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_CHILD_SUBREAPER, 1), (_PR_SET_PDEATHSIG, signal.SIGTERM)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def wait_until(condition, timeout_s):
    """The first true value of condition(), or its last value once the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value or time.monotonic() >= deadline:
            return value
        time.sleep(_POLL_S)


class Process:
    """A running process as /proc shows it. `words` is its command line."""

    def __init__(self, pid, parent, words):
        self.pid = pid
        self.parent = parent
        self.words = words

    @property
    def command(self):
        return self.words[1] if len(self.words) > 1 else ""

    def option(self, name):
        """Value of --name=value or --name value; empty if it is not there."""
        for at, word in enumerate(self.words):
            if word == f"--{name}" and at + 1 < len(self.words):
                return self.words[at + 1]
            if word.startswith(f"--{name}="):
                return word.split("=", 1)[1]
        return ""


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _pids():
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def find_process(pid):
    """None: there is none, or it is dead and not reaped yet."""
    stat = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(stat) < 2 or stat[0] in (b"Z", b"X"):
        return None
    words = _read(f"/proc/{pid}/cmdline").decode("utf-8", "replace").split("\0")[:-1]
    return Process(pid, int(stat[1]), words) if words else None


def processes_under(directory):
    """Every process with a word in its command line that names `directory` or a path in it."""
    needle = re.compile(re.escape(directory.encode()) + rb"[/\0]")
    found = []
    for pid in _pids():
        if needle.search(_read(f"/proc/{pid}/cmdline")):
            process = find_process(pid)
            if process is not None and process.pid != os.getpid():
                found.append(process)
    return found


def marked_processes(mark):
    """Ids of all processes of the test but this one."""
    needle = f"{MARK}={mark}".encode()
    return [pid for pid in _pids()
            if pid != os.getpid() and needle in _read(f"/proc/{pid}/environ").split(b"\0") and find_process(pid)]


def kill_now(pid, number=signal.SIGKILL):
    """False: it was dead already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def kill_marked(mark, timeout_s=10):
    """Kills every process of the test, also those that appear meanwhile. False: some would not die."""

    def gone():
        left = marked_processes(mark)
        for pid in left:
            kill_now(pid)
        return not left

    return wait_until(gone, timeout_s)


class Children:
    """Starts processes and keeps the exit codes of those that have ended; a subreaper's orphans are reaped too."""

    def __init__(self, mark):
        self._environment = dict(os.environ, **{MARK: mark})
        self._codes = {}

    def start(self, words, log):
        """Starts a program in a process group of its own, its output appended to the file `log`. Returns its pid."""
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                   (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                   (os.POSIX_SPAWN_DUP2, 1, 2)]
        pid = os.posix_spawn(words[0], words, self._environment, file_actions=actions, setpgroup=0)
        self._codes.pop(pid, None)
        return pid

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._codes[pid] = os.waitstatus_to_exitcode(status)

    def code(self, pid):
        """Exit code of a child, or minus the signal that ended it; None while it runs."""
        self.reap()
        return self._codes.get(pid)

    def run(self, words, log, timeout_s=30):
        """Starts a program and waits for its end. None: it did not end in time, and was killed."""
        pid = self.start(words, log)
        code = wait_until(lambda: None if self.code(pid) is None else (self.code(pid),), timeout_s)
        if code is None:
            kill_now(pid)
            return None
        return code[0]
