# SPDX-License-Identifier: Apache-2.0
"""Runs in a host. Prints each datagram that arrives at a Unix socket as a line of hexadecimal digits: packet_recorder.py PATH."""

import os
import socket
import sys

_MAX_BYTES = 256


def main(path):
    if os.path.exists(path):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        print("ready", flush=True)
        while True:
            lines = [receiver.recv(_MAX_BYTES).hex()]
            try:
                while len(lines) < 256:
                    lines.append(receiver.recv(_MAX_BYTES, socket.MSG_DONTWAIT).hex())
            except BlockingIOError:
                pass  # That was all for now.
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
