# SPDX-License-Identifier: Apache-2.0
"""Hosts of a real cluster in the place of the lab's: the same commands, over ssh."""

import base64
import dataclasses
import shlex
import socket
import subprocess

from haven_lab import settings
from haven_lab.agent_client import AgentClient

# Runs there: takes the agent's source from the first line of its input, and serves the rest of it.
_BOOTSTRAP = """\
import base64, os, socket, sys, threading
line = b""
while not line.endswith(b"\\n"):
    line += os.read(0, 1)
agent = {"__name__": "agent"}
exec(base64.b64decode(line), agent)
near, far = socket.socketpair()
def copy(take, give, end):
    while data := take(65536):
        give(data)
    end()
threading.Thread(target=copy, args=(lambda size: os.read(0, size), near.sendall, lambda: near.shutdown(socket.SHUT_WR))).start()
threading.Thread(target=copy, args=(near.recv, lambda data: os.write(1, data), lambda: None), daemon=True).start()
agent["Agent"](far.fileno()).serve()
far.shutdown(socket.SHUT_RDWR)
"""


@dataclasses.dataclass(frozen=True)
class RemoteSpec:
    """A host: its name for ssh, its address for the control channel, and for RDMA an address and its device."""

    ssh: str
    lan: str
    rail0: str = ""
    dev: str = ""

    @staticmethod
    def parse(text):
        """From "ssh=NAME,lan=ADDRESS,rail0=ADDRESS,dev=DEVICE"; ValueError or TypeError names what does not fit."""
        return RemoteSpec(**dict(field.split("=", 1) for field in text.split(",")))


class RemoteHost:
    """Has what the scenarios that leave power and network alone use of a Machine."""

    def __init__(self, name, spec, shell=None):
        """`shell`: the words in front of a line for a shell there, if not those of ssh."""
        self.name = name
        self._spec = spec
        near, far = socket.socketpair()
        words = shell or ["ssh", "-o", "BatchMode=yes", spec.ssh]
        line = shlex.join(["exec", "python3", "-c", _BOOTSTRAP])
        self._process = subprocess.Popen([*words, line], stdin=far, stdout=far)
        far.close()
        near.sendall(base64.b64encode((settings.LAB / "image" / "agent.py").read_bytes()) + b"\n")
        self.agent = AgentClient(near)

    def close(self):
        self.agent.close("the end")
        self._process.wait()

    def address(self, network="lan"):
        return getattr(self._spec, network)

    def device(self, _network):
        return self._spec.dev

    def start(self, *arguments, **options):
        return self.agent.start(*arguments, **options)

    def run(self, *arguments, **options):
        return self.agent.run(*arguments, **options)

    def put(self, *arguments, **options):
        self.agent.put(*arguments, **options)

    def get(self, path):
        return self.agent.get(path)


class Cluster:
    """Stands for a Lab: `with Cluster({"a": spec, ...}) as cluster`."""

    def __init__(self, specs, shell=None):
        self._specs = specs
        self._shell = shell
        self._hosts = {}
        self.files = []

    def __enter__(self):
        for name, spec in self._specs.items():
            self._hosts[name] = RemoteHost(name, spec, self._shell)
            self._hosts[name].agent.ping()
        return self

    def __exit__(self, *_):
        for host in self._hosts.values():
            host.close()

    def host(self, name):
        return self._hosts[name]
