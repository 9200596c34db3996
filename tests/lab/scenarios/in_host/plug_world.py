# SPDX-License-Identifier: Apache-2.0
"""What plug_host.py needs: namespaces with NICs between them, an output buffer, guests that send, ears that hear.

    guest eth0 ── vif7.0 ─┐
                          br0 ── c0 ── eth0 client
    guest eth1 ── vif7.1 ─┘
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

GROUP = "lab"
DOMID = 7
NICS = ("vif7.0", "vif7.1")
LIMIT = 64 << 20
MARK = b"haven-mark:"
CLONE_NEWNET = 0x40000000


def check(what, ok, detail=""):
    print(json.dumps({"check": what, "ok": bool(ok), "detail": str(detail)}), flush=True)
    if not ok:
        sys.exit(1)


def figure(name, value, unit):
    print(json.dumps({"figure": name, "value": value, "unit": unit}), flush=True)


def sh(line, must=True):
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    if must and done.returncode != 0:
        raise RuntimeError(f"{line}: {done.stderr}")
    return done.stdout


def wait_until(condition, what, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            check(what, False, f"not within {timeout_s} s")
        time.sleep(0.01)


@contextlib.contextmanager
def inside(namespace):
    """What is opened here belongs to the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    assert libc.setns(there, CLONE_NEWNET) == 0
    try:
        yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(there)
        os.close(home)


@contextlib.contextmanager
def network():
    sh("sysctl -qw net.core.netdev_max_backlog=100000")  # A released epoch is a burst; the client is to lose nothing of it.
    for name in ("guest", "client"):
        sh(f"ip netns add {name}")
        sh(f"ip netns exec {name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
    sh("ip link add br0 type bridge mcast_snooping 0 && sysctl -qw net.ipv6.conf.br0.disable_ipv6=1 && ip link set br0 up")
    for number, nic in enumerate(NICS):
        sh(f"ip link add {nic} type veth peer name eth{number} netns guest")
        sh(f"ip -n guest link set eth{number} up && ip link set {nic} master br0 up")
        sh(f"sysctl -qw net.ipv6.conf.{nic.replace('.', '/')}.disable_ipv6=1")
    sh("ip link add c0 type veth peer name eth0 netns client && ip -n client link set eth0 up promisc on && ip link set c0 master br0 up")
    sh("ip -n guest addr add 10.7.0.1/24 dev eth0 && ip -n client addr add 10.7.0.2/24 dev eth0")
    try:
        yield
    finally:
        for name in ("guest", "client"):
            sh(f"ip netns del {name}")
        for link in ("br0", *NICS, "c0", *(f"hvn{n}" for n in own_ifbs())):
            sh(f"ip link del {link}", must=False)


def own_ifbs():
    return re.findall(r"hvn(\w+\.\d)", sh("ip -br link"))


class Buffer:
    """A process that owns an output buffer."""

    def __init__(self, limit=LIMIT, nics=NICS, group=GROUP, domid=DOMID):
        arguments = ["plug_check", group, str(limit), str(domid), *nics]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.attached = self.process.stdout.readline().strip()

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        return self.process.stdout.readline().strip()

    def do(self, *commands):
        for command in commands:
            answer = self.ask(command)
            if not answer.startswith("ok"):
                check(f"the command {command}", False, answer)
        return dict(re.findall(r"(\w+)=(\d+)", answer))

    def stats(self):
        return {name: int(value) for name, value in self.do("stats").items()}

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def action_number(kind):
    return re.search(r"index (\d+)", sh(f"tc actions list action {kind}")).group(1)


def ip_header(protocol, length):
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, protocol, 0, bytes((10, 7, 0, 1)), bytes((10, 7, 0, 2)))


# Every kind of thing a guest may send: what is behind the two hardware addresses.
KINDS = {
    "UDP": lambda data: b"\x08\x00" + ip_header(17, 8 + len(data)) + struct.pack("!HHHH", 9, 9, 8 + len(data), 0) + data,
    "TCP": lambda data: b"\x08\x00" + ip_header(6, 20 + len(data)) + struct.pack("!HHIIBBHHH", 9, 9, 1, 1, 0x50, 0x10, 99, 0, 0) + data,
    "ARP": lambda data: b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + bytes(20) + data,
    "RARP": lambda data: b"\x80\x35" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 3) + bytes(20) + data,
    "IPv6": lambda data: b"\x86\xdd" + struct.pack("!IHBB", 0x60000000, len(data), 59, 64) + bytes(32) + data,
    "VLAN": lambda data: b"\x81\x00\x00\x05\x08\x00" + ip_header(17, 8 + len(data)) + struct.pack("!HHHH", 9, 9, 8 + len(data), 0) + data,
    "LLDP": lambda data: b"\x88\xcc" + data,
    "experimental": lambda data: b"\x88\xb5" + data,
}


class Guest:
    """Sends numbered frames of every kind in turn, from both NICs in turn."""

    def __init__(self, nics=2):
        self.number = 0
        self.sockets = []
        with inside("guest"):
            for nic in range(nics):
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                sock.bind((f"eth{nic}", 0))
                self.sockets.append(sock)

    def send(self, count=1, size=0):
        first = self.number
        with on_one_processor():
            for _ in range(count):
                kind = list(KINDS)[self.number // len(self.sockets) % len(KINDS)]
                data = (MARK + f"{self.number};".encode()).ljust(size, b".")
                frame = b"\xff" * 6 + b"\x02\x07\x00\x00\x00\x01" + KINDS[kind](data)
                self.sockets[self.number % len(self.sockets)].send(frame.ljust(60, b"\0"))
                self.number += 1
        return list(range(first, self.number))


class Ear:
    """Hears numbered frames: in the client, or on the host's own side of the bridge."""

    def __init__(self, device="eth0", namespace="client"):
        with inside(namespace) if namespace else contextlib.nullcontext():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
            self.socket.bind((device, 0))
        self.heard = []

    def listen(self, quiet_s=0.05):
        """All that has come until nothing came for a while; what came since the last call."""
        begin = len(self.heard)
        while select.select([self.socket], [], [], quiet_s)[0]:
            found = re.search(MARK + rb"(\d+);", self.socket.recv(70000))
            if found:
                self.heard.append(int(found.group(1)))
        return self.heard[begin:]

    def expect(self, numbers, what, quiet_s=0.1):
        end = time.monotonic() + 10
        got = []
        while len(got) < len(numbers) and time.monotonic() < end:
            got += self.listen(0.01)
        got += self.listen(quiet_s)
        check(what, got == numbers, f"{len(got)} packets" if got == numbers else f"wanted {numbers}, got {got}")


class ZeroCopyNic:
    """A tap device that takes packets from memory without copying them, as Xen's back end does: by vhost_net, from a ring of virtio."""

    ENTRIES = 64
    DESCRIPTORS, AVAILABLE, USED, HEADER, FRAME, BYTES = 0, 4096, 8192, 12288, 16384, 65536

    def __init__(self, name):
        self.tap = os.open("/dev/net/tun", os.O_RDWR)
        # TUNSETIFF; IFF_TAP, IFF_NO_PI, IFF_VNET_HDR.
        fcntl.ioctl(self.tap, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000 | 0x4000))
        sh(f"sysctl -qw net.ipv6.conf.{name.replace('.', '/')}.disable_ipv6=1; ip link set {name} master br0 up")
        self.memory = mmap.mmap(-1, self.BYTES)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.base = base
        self.vhost = os.open("/dev/vhost-net", os.O_RDWR)
        self.kick = os.eventfd(0)
        self.call = os.eventfd(0)
        for request, argument in (
            (0xAF01, b""),  # VHOST_SET_OWNER
            (0x4008AF00, struct.pack("Q", 0)),  # VHOST_SET_FEATURES
            (0x4008AF03, struct.pack("IIQQQQ", 1, 0, base, self.BYTES, base, 0)),  # VHOST_SET_MEM_TABLE
            (0x4008AF10, struct.pack("II", 1, self.ENTRIES)),  # VHOST_SET_VRING_NUM
            (0x4008AF12, struct.pack("II", 1, 0)),  # VHOST_SET_VRING_BASE
            (0x4028AF11, struct.pack("IIQQQQ", 1, 0, base, base + self.USED, base + self.AVAILABLE, 0)),  # VHOST_SET_VRING_ADDR
            (0x4008AF20, struct.pack("Ii", 1, self.kick)),  # VHOST_SET_VRING_KICK
            (0x4008AF21, struct.pack("Ii", 1, self.call)),  # VHOST_SET_VRING_CALL
            (0x4008AF30, struct.pack("Ii", 1, self.tap)),  # VHOST_NET_SET_BACKEND
        ):
            fcntl.ioctl(self.vhost, request, argument) if argument else fcntl.ioctl(self.vhost, request)

    def fill(self, word):
        """The part of the frame behind what every driver copies."""
        self.memory[self.FRAME + 200 : self.FRAME + 1400] = word * (1200 // len(word))

    def send(self):
        self.memory[self.FRAME : self.FRAME + 14] = b"\xff" * 6 + b"\x02\x07\x00\x00\x00\x05\x88\xb5"
        self.memory[self.DESCRIPTORS : self.DESCRIPTORS + 32] = struct.pack(
            "QIHHQIHH", self.base + self.HEADER, 10, 1, 1, self.base + self.FRAME, 1400, 0, 0
        )
        self.memory[self.AVAILABLE : self.AVAILABLE + 6] = struct.pack("HHH", 0, 1, 0)
        os.eventfd_write(self.kick, 1)

    def given_back(self):
        """Whether the memory belongs to the sender again."""
        return struct.unpack("H", self.memory[self.USED + 2 : self.USED + 4])[0] == 1


def pin_xdp_program(path):
    """Loads an XDP program that passes everything, for ip(8) to attach by its path."""
    instructions = ctypes.create_string_buffer(b"\xb7\0\0\0\x02\0\0\0" + b"\x95\0\0\0\0\0\0\0")  # r0 = XDP_PASS; exit
    name = ctypes.create_string_buffer(path.encode())
    attributes = struct.pack("IIQQ104x", 6, 2, ctypes.addressof(instructions), ctypes.addressof(name))  # BPF_PROG_TYPE_XDP; any licence
    libc = ctypes.CDLL(None, use_errno=True)
    program = libc.syscall(321, 5, attributes, len(attributes))  # bpf(BPF_PROG_LOAD)
    pin = struct.pack("QI116x", ctypes.addressof(name), program)
    if program < 0 or libc.syscall(321, 6, pin, len(pin)) != 0:  # bpf(BPF_OBJ_PIN)
        raise OSError(ctypes.get_errno(), "bpf")
    os.close(program)


def receive_frame(ear, timeout_s=10):
    """The next frame of such a NIC; the host has small things of its own to say."""
    end = time.monotonic() + timeout_s
    while select.select([ear.socket], [], [], max(0, end - time.monotonic()))[0]:
        frame = ear.socket.recv(70000)
        if len(frame) == 1400:
            return frame
    return b""


def stream(counter, nic_socket, size):
    """Sends numbered frames in small bursts; the number that comes next is in shared memory before it is sent."""
    number = 0
    while True:
        counter[:8] = struct.pack("=Q", number + 1)
        frame = b"\xff" * 6 + b"\x02\x07\x00\x00\x00\x01\x88\xb5" + (MARK + f"{number};".encode()).ljust(size, b".")
        try:
            nic_socket.send(frame)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        else:
            number += 1
        if number % 25 == 0:
            time.sleep(0.0005)  # More than the ear can hear proves nothing.


@contextlib.contextmanager
def on_one_processor():
    """What is sent meanwhile stays in order: two processors would put packets out of order by themselves."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {os.cpu_count() - 1})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def streaming_guest():
    """The process of a guest that sends without a break, and the shared memory with the number of its next packet."""
    counter = mmap.mmap(-1, 8)
    sender = Guest(1).sockets[0]
    pid = os.fork()
    if pid == 0:
        try:
            with on_one_processor():
                stream(counter, sender, 100)
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        yield pid, counter
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def number_in(counter):
    return struct.unpack("=Q", counter[:8])[0]


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)


def throughput(seconds=3):
    """Mbit/s of TCP from guest to client."""
    with inside("client"):
        server = socket.create_server(("10.7.0.2", 8))
    pid = os.fork()
    if pid == 0:
        try:
            with inside("guest"):
                sender = socket.create_connection(("10.7.0.2", 8))
            while True:
                sender.sendall(bytes(1 << 20))
        finally:
            os._exit(1)
    accepted, _ = server.accept()
    begun, total = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        total += len(accepted.recv(1 << 20))
    accepted.close()
    server.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return total * 8 / seconds / 1e6
