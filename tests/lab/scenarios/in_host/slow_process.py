#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a process slow without stopping it for good: slow_process.py PID STOPPED_MS RUNNING_MS.

Stops it and lets it go on, in turn, until SIGTERM; then it runs, and this prints how often it stood still.
"""

import os
import signal
import sys
import threading


def main(pid, stopped_s, running_s):
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    stops = 0
    print("begins", flush=True)
    while not end.is_set():
        os.kill(pid, signal.SIGSTOP)
        stops += 1
        end.wait(stopped_s)
        os.kill(pid, signal.SIGCONT)
        end.wait(running_s)
    print(f"stood still {stops} times", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) / 1000, int(sys.argv[3]) / 1000)
