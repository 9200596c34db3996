# SPDX-License-Identifier: Apache-2.0
"""QEMU's monitor: what is done to a host from outside."""

import json
import socket

from haven_lab.wait import wait_until

_SOCKET_TIMEOUT_S = 60


def connect_unix(path, check_alive, timeout_s=_SOCKET_TIMEOUT_S):
    """A connection to a socket that a process is about to make; `check_alive` raises once that process has ended."""
    connection = socket.socket(socket.AF_UNIX)

    def connected():
        check_alive()
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    try:
        wait_until(connected, timeout_s, f"a listener at {path}", interval_s=0.05)
    except BaseException:
        connection.close()
        raise
    return connection


class Monitor:
    """A connection to a monitor, as a context."""

    def __init__(self, path, check_alive):
        self._check_alive = check_alive
        self._socket = connect_unix(path, check_alive)
        self._socket.settimeout(_SOCKET_TIMEOUT_S)
        self._file = self._socket.makefile("rw", encoding="utf-8")
        self._file.readline()  # The greeting.
        self.execute("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def execute(self, command, **arguments):
        """One command; what it returns."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        for line in self._file:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"QEMU refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        self._check_alive()
        raise RuntimeError(f"QEMU closed its monitor during {command}")

    def save(self, path, timeout_s=120):
        """Writes memory and devices of a stopped host to a file."""
        self.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.execute("migrate", uri=f"exec:cat >{path}")

        def saved():
            state = self.execute("query-migrate")
            if state.get("status") == "failed":
                raise RuntimeError(f"QEMU could not save the memory: {state.get('error-desc', 'no reason given')}")
            return state.get("status") == "completed"

        wait_until(saved, timeout_s, f"QEMU to write {path}")

    def go_on(self, timeout_s):
        """Lets a host run that has been saved, once all of its memory is there."""
        wait_until(lambda: self.execute("query-status")["status"] == "paused", timeout_s, "the saved memory", 0.05)
        self.execute("cont")
