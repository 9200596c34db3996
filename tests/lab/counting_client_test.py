# SPDX-License-Identifier: Apache-2.0
"""The client that scenarios believe: content with a guest that does right, and with no other."""

import asyncio
import hashlib
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time
import unittest

_CLIENT = pathlib.Path(__file__).resolve().parent / "scenarios" / "in_host" / "counting_client.py"
_PAGE = b"a page that never changes"
# So many requests are answered rightly before the fault.
_GOOD_REQUESTS = 40
_TIMEOUT_S = 30


class FakeGuest:
    """Keys, values and pages, with one fault."""

    def __init__(self, fault):
        self._fault = fault
        self._values = {}
        self._requests = 0
        self._count = 1000
        self._writers = []
        self.ports = {}
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(_TIMEOUT_S)

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        servers = []
        for name, serve in (("kv", self._keys), ("http", self._pages)):
            server = self._loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
            self.ports[name] = server.sockets[0].getsockname()[1]
            servers.append(server)
        self._ready.set()
        self._loop.run_forever()
        for server in servers:
            server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self):
        for writer in self._writers:
            writer.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    def _now(self, fault):
        return self._fault == fault and self._requests > _GOOD_REQUESTS

    async def _keys(self, reader, writer):
        self._writers.append(writer)
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            self._requests += 1
            if self._now("connection lost"):
                break
            writer.write(self._answer(*words))
        writer.close()

    def _answer(self, name, key, value=None):
        if name == b"INCR":
            step = {"lost": 0, "twice": 2}.get(self._fault, 1) if self._now(self._fault) else 1
            if self._now("shared counter") and key == b"all":
                step = 0
            self._values[key] = int(self._values.get(key, 0)) + step
            return b":%d\r\n" % self._values[key]
        if name == b"SET":
            if not self._now("write forgotten"):
                self._values[key] = value
            return b"+OK\r\n"
        found = self._values.get(key)
        if found is None:
            return b"$-1\r\n"
        found = b"%d" % found if isinstance(found, int) else found
        return b"$%d\r\n%s\r\n" % (len(found), found)

    async def _pages(self, reader, writer):
        self._writers.append(writer)
        while request := await reader.readline():
            while (await reader.readline()).strip():
                pass
            self._requests += 1
            self._count += -10 if self._now("count goes back") else 1
            if b"/page.md5" in request:
                body = hashlib.md5(_PAGE).hexdigest().encode()
            elif b"/page" in request:
                body = _PAGE[1:] if self._now("another page") else _PAGE
            else:
                body = b"%d\n" % self._count
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()


def _talk(fault):
    """The client's exit code and last word after a talk with such a guest."""
    guest = FakeGuest(fault)
    words = [sys.executable, "-B", _CLIENT, "127.0.0.1", "3", "2", str(guest.ports["kv"]), str(guest.ports["http"])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
        deadline = time.monotonic() + _TIMEOUT_S
        for line in client.stdout:
            if '"violation"' in line:
                break
            counts = json.loads(line).get("stat", {}).get("answers", {})
            if sum(counts.values()) > 3 * _GOOD_REQUESTS or time.monotonic() > deadline:
                client.send_signal(signal.SIGTERM)
                line = client.stdout.read().splitlines()[-1]
                break
        code = client.wait(_TIMEOUT_S)
    guest.close()
    return code, json.loads(line)


class CountingClientTest(unittest.TestCase):
    def test_is_content_with_a_guest_that_does_right(self):
        code, said = _talk(None)
        self.assertEqual((code, list(said)), (0, ["end"]))
        self.assertGreater(sum(said["end"]["answers"].values()), 3 * _GOOD_REQUESTS)
        self.assertEqual(sum(said["end"]["answers"].values()), said["end"]["asked"])
        self.assertEqual(said["end"]["kept"], 5)

    def test_tells_what_a_guest_does_wrong(self):
        for fault, told in (
            ("lost", "was counted as"),
            ("twice", "was counted as"),
            ("shared counter", "common counter"),
            # Whichever comes first: a request that happens to read it, or the verification at the end.
            ("write forgotten", "was written|was acknowledged"),
            ("connection lost", "was lost"),
            ("count goes back", "was told after"),
            ("another page", "another one"),
        ):
            with self.subTest(fault):
                code, said = _talk(fault)
                self.assertEqual(code, 1)
                self.assertRegex(said["violation"], told)


if __name__ == "__main__":
    unittest.main()
