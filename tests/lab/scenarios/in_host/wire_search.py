# SPDX-License-Identifier: Apache-2.0
"""Runs in a host: what of a guest's memory can be read on the wire.

wire_search.py record FILE INTERFACE...   writes every RoCE frame that arrives or leaves to FILE, until it is ended
wire_search.py sample PID                 prints samples of the memory of the synthetic guest in process PID, and its state's first bytes
wire_search.py search FILE                finds lines of hexadecimal digits from its input in FILE; prints frames, bytes and how many were found
"""

import os
import random
import select
import signal
import socket
import sys

_ROCE_PORT = (4791).to_bytes(2, "big")
_ETHERTYPE_ALL = 3
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 96 << 20
_SAMPLES = 400
_SAMPLE_BYTES = 24
# Of the state that a synthetic guest puts into each checkpoint: magic and version.
_STATE = b"HVSG\x01\x00"


def record(path, interfaces):
    sockets = []
    for interface in interfaces:
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE_ALL))
        one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        one.bind((interface, 0))
        sockets.append(one)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with open(path, "wb", buffering=1 << 20) as file:
        print("recording", flush=True)
        while True:
            for one in select.select(sockets, [], [])[0]:
                frame = one.recv(65536)
                # Ethernet, IPv4 without options, UDP.
                if frame[36:38] == _ROCE_PORT:
                    file.write(len(frame).to_bytes(4, "little") + frame)


def sample(pid):
    memory = max((f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd") if "memfd:" in os.readlink(f"/proc/{pid}/fd/{fd}")), key=os.path.getsize)
    choose = random.Random(1)
    size = os.path.getsize(memory)
    print(_STATE.hex())
    with open(memory, "rb") as file:
        left = _SAMPLES
        while left > 0:
            file.seek(choose.randrange(size - _SAMPLE_BYTES))
            found = file.read(_SAMPLE_BYTES)
            if len(set(found)) > _SAMPLE_BYTES // 2:
                print(found.hex())
                left -= 1


def search(path):
    with open(path, "rb") as file:
        frames, at, data = [], 0, file.read()
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        frames.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    everything = b"\xff\x00\xff\x00".join(frames)
    wanted = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    found = [one in everything for one in wanted]
    print(len(frames), len(everything), int(found[0]), sum(found[1:]), len(found) - 1)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(sys.argv[2], sys.argv[3:])
    elif sys.argv[1] == "sample":
        sample(sys.argv[2])
    else:
        search(sys.argv[2])
