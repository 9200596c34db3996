#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes to a redis server as a shop would: sessions, counters, carts and logs at random keys.

keyvalue_load.py PORT fill     fills the store once and ends
keyvalue_load.py PORT run      writes until the server goes away
"""
import json
import random
import socket
import sys

KEYS = 100000
WORDS = ("alpha beta gamma delta cart order item price total user session token visit page click view "
         "search filter country language mobile desktop referrer campaign discount shipping").split()


def command(*parts):
    encoded = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in encoded)


def session(source):
    return json.dumps({
        "id": "%032x" % source.getrandbits(128),
        "user": source.randrange(10**7),
        "seen": 1700000000 + source.randrange(10**7),
        "cart": [{"item": source.randrange(10**6), "count": source.randrange(1, 5),
                  "price": source.randrange(10**5) / 100} for _ in range(source.randrange(1, 6))],
        "tags": source.choices(WORDS, k=source.randrange(2, 8)),
        "token": "%064x" % source.getrandbits(256),
    })


def write(source):
    kind = source.random()
    key = source.randrange(KEYS)
    if kind < 0.5:
        return command("SET", "session:%d" % key, session(source))
    if kind < 0.7:
        return command("INCR", "count:%d" % key)
    if kind < 0.85:
        return command("HSET", "user:%d" % key, source.choice(WORDS), source.randrange(10**9))
    return command("LPUSH", "log:%d" % (key % 1000), "%d %s" % (source.randrange(10**9),
                                                              " ".join(source.choices(WORDS, k=4))))


def main():
    source = random.Random(1)
    server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    answers = server.makefile("rb")
    left = KEYS * 2 if sys.argv[2] == "fill" else None
    while left is None or left > 0:
        batch = [write(source) for _ in range(32)]
        try:
            server.sendall(b"".join(batch))
            for _ in batch:
                if not answers.readline():
                    return
        except OSError:
            return
        if left is not None:
            left -= len(batch)


main()
