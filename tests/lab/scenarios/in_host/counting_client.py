#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client of the guest that counts: counting_client.py ADDRESS KV_CONNECTIONS HTTP_CONNECTIONS [KV_PORT HTTP_PORT].

Every connection is opened once and kept. Requests to Redis are numbered, each answer has to be the one that follows from
all requests and answers before: none lost, none twice, none that contradicts an earlier one, on this or another connection.
Prints lines of JSON: {"stat": ...} several times a second and at the first answer after a silence, {"violation": text}
before it ends with 1. SIGUSR1: reads on a new connection what was acknowledged so far, and prints {"verified": keys}.
SIGTERM: lets every request be answered, verifies, prints {"end": stat} and ends with 0. That stat also has the number of
requests, `asked`, and of connections that were open until then, `kept`.
"""

import asyncio
import hashlib
import json
import random
import signal
import sys
import time

PORTS = {"kv": 6379, "http": 80}
SLOTS = 32
STAT_S = 0.25
SILENCE_S = 1.0
PAGE_EVERY = 4
# Between an answer and the next request: emulated hosts have other things to do as well.
THINK_S = 0.1


class Violation(Exception):
    """The guest did what a guest that has never failed would not do."""


def say(**line):
    print(json.dumps(line), flush=True)


def expect(condition, text):
    if not condition:
        raise Violation(text)


class Tally:
    """What all connections know together."""

    def __init__(self):
        self.answers = {}  # Of each connection.
        self.asked = 0
        self.kept = 0  # Connections that were open to the end.
        self.waits = []  # Seconds from request to answer since the last stat.
        self.last_answer = time.monotonic()
        self.silence = 0.0  # The longest time without any answer since the last stat.
        self.all_seen = set()  # Values of the common counter.
        self.all_floor = 0  # The greatest of them so far.
        self.count_floor = 0  # Of the page that counts.
        self.stopping = False

    def answered(self, name, asked_s, count=1):
        now = time.monotonic()
        silence, self.last_answer = now - self.last_answer, now
        self.silence = max(self.silence, silence)
        self.answers[name] = self.answers.get(name, 0) + count
        self.waits.append(now - asked_s)
        if silence >= SILENCE_S:
            self.tell("stat")

    def tell(self, what, **more):
        waits = sorted(self.waits)
        middle = waits[len(waits) // 2] if waits else None
        silence = max(self.silence, time.monotonic() - self.last_answer)
        say(**{what: {"answers": self.answers, "wait_s": middle, "silence_s": silence, "time": time.time(), **more}})
        self.waits, self.silence = [], 0.0


class Keys:
    """A connection to Redis. A batch is four requests, and `depth` batches are on their way at once."""

    def __init__(self, tally, number, depth):
        self._tally = tally
        self._depth = depth
        self.name = f"kv{number}"
        self.sent = 0
        self.acknowledged = 0
        self.slots = {}  # What was last written to each, by requests sent.
        self.known = {}  # The same, by requests acknowledged.

    def key(self, slot):
        return f"{self.name}:{slot}"

    async def run(self, address):
        reader, writer = await asyncio.open_connection(address, PORTS["kv"])
        self._tally.answers[self.name] = 0
        waiting = []
        while waiting or not self._tally.stopping:
            while len(waiting) < self._depth and not self._tally.stopping:
                batch, expected = self._next()
                waiting.append((time.monotonic(), self._tally.all_floor, expected))
                writer.write(batch)
            await writer.drain()
            await self._check(reader, *waiting.pop(0))
            await asyncio.sleep(THINK_S)
        self._tally.kept += 1
        writer.close()

    def _next(self):
        self.sent += 1
        self._tally.asked += 4
        slot, other = self.sent % SLOTS, random.randrange(SLOTS)
        value = f"{self.sent}.{random.getrandbits(64):016x}"
        self.slots[slot] = value
        batch = [("INCR", self.name), ("INCR", "all"), ("SET", self.key(slot), value), ("GET", self.key(other))]
        encoded = b"".join(command(*words) for words in batch)
        return encoded, (self.sent, slot, value, self.slots.get(other))

    async def _check(self, reader, asked_s, floor, expected):
        number, slot, value, read = expected
        got = int((await answer(reader))[1:])
        expect(got == number, f"{self.name}: request {number} was counted as {got}")
        common = int((await answer(reader))[1:])
        expect(common > floor, f"{self.name}: request {number} got {common} of the common counter, {floor} was given before it was sent")
        expect(common not in self._tally.all_seen, f"{self.name}: request {number} got {common} of the common counter, as another one")
        self._tally.all_seen.add(common)
        self._tally.all_floor = max(self._tally.all_floor, common)
        done = await answer(reader)
        expect(done == b"+OK", f"{self.name}: request {number} could not write: {done}")
        found = await bulk(reader)
        expect(found == read, f"{self.name}: request {number} read {found}, {read} was written")
        self.acknowledged = number
        self.known[slot] = value
        self._tally.answered(self.name, asked_s, 4)


class Pages:
    """A connection to the HTTP server."""

    def __init__(self, tally, number, checksum):
        self._tally = tally
        self._checksum = checksum
        self.name = f"http{number}"

    async def run(self, address):
        reader, writer = await asyncio.open_connection(address, PORTS["http"])
        self._tally.answers[self.name] = 0
        number = 0
        while not self._tally.stopping:
            number += 1
            self._tally.asked += 1
            path = "page" if number % PAGE_EVERY == 0 else "count"
            asked_s, floor = time.monotonic(), self._tally.count_floor
            body = await page(reader, writer, f"/{path}?{self.name}.{number}")
            if path == "page":
                expect(hashlib.md5(body).hexdigest() == self._checksum, f"{self.name}: page {number} is another one")
            else:
                expect(body.strip().isdigit(), f"{self.name}: request {number} for a number got {body[:40]}")
                expect(int(body) >= floor, f"{self.name}: turn {int(body)} was told after turn {floor}")
                self._tally.count_floor = max(self._tally.count_floor, int(body))
            self._tally.answered(self.name, asked_s)
            await asyncio.sleep(THINK_S)
        self._tally.kept += 1
        writer.close()


def command(*words):
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)


async def answer(reader):
    return (await reader.readuntil(b"\r\n"))[:-2]


async def bulk(reader):
    head = await answer(reader)
    expect(head.startswith(b"$"), f"a value was wanted, {head[:60]} came")
    if head == b"$-1":
        return None
    return (await reader.readexactly(int(head[1:]) + 2))[:-2].decode()


async def page(reader, writer, path):
    writer.write(f"GET {path} HTTP/1.1\r\nHost: guest\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    expect(head.startswith(b"HTTP/1.1 200 "), f"GET {path}: {head[:60]}")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return await reader.readexactly(int(fields[b"content-length"]))


async def verify(address, connections):
    """What was acknowledged is there, seen from a connection that did not exist before."""
    before = [(each, each.acknowledged, dict(each.known)) for each in connections]
    reader, writer = await asyncio.open_connection(address, PORTS["kv"])
    keys = 0
    # All at once: on a busy host each way there and back takes its time.
    for each, _, known in before:
        writer.write(b"".join(command("GET", key) for key in (each.name, *(each.key(slot) for slot in known))))
    for each, acknowledged, known in before:
        count = int(await bulk(reader) or 0)
        expect(acknowledged <= count <= each.sent, f"{each.name}: the guest has counted {count}, acknowledged {acknowledged}")
        for slot, value in known.items():
            found = await bulk(reader)
            newer = found is not None and int(found.split(".")[0]) > int(value.split(".")[0])
            expect(found == value or newer, f"{each.key(slot)} is {found}, {value} was acknowledged")
            keys += 1
    writer.close()
    return keys


async def run(address, kv_count, http_count):
    tally = Tally()
    reader, writer = await asyncio.open_connection(address, PORTS["http"])
    checksum = (await page(reader, writer, "/page.md5")).split()[0].decode()
    writer.close()
    # Every fourth one keeps several batches on their way.
    keys = [Keys(tally, number, 3 if number % 4 == 3 else 1) for number in range(kv_count)]
    pages = [Pages(tally, number, checksum) for number in range(http_count)]
    loop = asyncio.get_running_loop()
    verifying = set()

    async def verified():
        say(verified=await verify(address, keys))

    def start_verifying():
        verifying.add(loop.create_task(verified()))

    loop.add_signal_handler(signal.SIGUSR1, start_verifying)
    loop.add_signal_handler(signal.SIGTERM, lambda: setattr(tally, "stopping", True))

    async def tell():
        while not tally.stopping:
            tally.tell("stat")
            await asyncio.sleep(STAT_S)
            for done in [each for each in verifying if each.done()]:
                verifying.remove(done)
                done.result()

    async def connection(each):
        try:
            await each.run(address)
        except (OSError, EOFError) as error:
            raise Violation(f"connection {each.name} was lost: {type(error).__name__} {error}") from error

    await asyncio.gather(tell(), *(connection(each) for each in [*keys, *pages]))
    await verified()
    expect(tally.all_floor == sum(each.sent for each in keys), "the common counter is not the number of requests")
    tally.tell("end", asked=tally.asked, kept=tally.kept)


def main():
    if len(sys.argv) > 4:
        PORTS.update(kv=int(sys.argv[4]), http=int(sys.argv[5]))
    try:
        asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    except Violation as violation:
        say(violation=str(violation))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
