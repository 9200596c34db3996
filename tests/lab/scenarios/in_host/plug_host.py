#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in a host of the lab: an output buffer over real traffic control (plug_world.py), step by step.

Prints one JSON object a line: {"step"}, {"check", "ok", "detail"} or {"figure", "value", "unit"}.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

from plug_world import (
    Buffer,
    Ear,
    Guest,
    KINDS,
    ZeroCopyNic,
    action_number,
    check,
    figure,
    inside,
    network,
    number_in,
    own_ifbs,
    pin_xdp_program,
    receive_frame,
    sh,
    stop,
    streaming_guest,
    throughput,
    wait_until,
)


def modules_that_are_missing():
    """Must be the first: nothing has loaded the modules yet."""
    helper = open("/proc/sys/kernel/modprobe", encoding="ascii").read().strip()
    try:
        for module, kernel_has in (("ifb", ()), ("sch_plug", ("ifb",)), ("sch_ingress", ("sch_plug",)), ("cls_matchall", ("sch_ingress",))):
            sh(f"echo {helper} >/proc/sys/kernel/modprobe; {' '.join(f'modprobe {name};' for name in kernel_has)} echo /bin/false >/proc/sys/kernel/modprobe")
            buffer = Buffer()
            answer = buffer.ask("hold")
            check(f"a kernel without {module} is told with its remedy", answer.startswith("error") and f"modprobe -a {module}" in answer, answer)
            buffer.end()
    finally:
        sh(f"echo {helper} >/proc/sys/kernel/modprobe")
    buffer = Buffer()
    buffer.do("hold")
    check("what earlier attempts have left is used", sorted(own_ifbs())[0].endswith(".0") and len(own_ifbs()) == 3)
    buffer.do("open", "remove")
    buffer.end()


def epochs_leave_exactly():
    guest, client, host = Guest(), Ear(), Ear("br0", None)
    buffer = Buffer()
    client.expect(guest.send(4), "without a buffer everything leaves at once")
    buffer.do("hold", "hold")
    first = guest.send(32)
    client.expect([], f"nothing of {', '.join(KINDS)} leaves while it is held", quiet_s=0.3)
    host.listen()
    check("the host's own side of the bridge hears nothing either", all(number not in first for number in host.heard))
    check("what is held is counted", buffer.stats()["held_packets"] == 32, buffer.stats())
    buffer.do("barrier")
    second = guest.send(16)
    check("a second barrier before the release is refused", "error" in buffer.ask("barrier"))
    client.expect([], "a barrier lets nothing go")
    buffer.do("release")
    client.expect(first, "a release lets the finished epoch go, in order, and nothing else")
    buffer.do("release")
    client.expect([], "a second release has nothing to release")
    buffer.do("barrier", "release")
    client.expect(second, "the next epoch leaves with its own release")
    buffer.do("barrier", "release")
    client.expect([], "an epoch without output releases nothing")
    finished = []
    for epoch in range(40):
        running = guest.send((epoch * 7) % 23)
        if epoch:
            buffer.do("release")
        got = client.listen(0.02)
        if got != finished:
            check("each of 40 epochs leaves exactly", False, f"epoch {epoch - 1}: wanted {finished}, got {got}")
        buffer.do("barrier")
        finished = running
    buffer.do("release")
    client.expect(finished, "each of 40 epochs leaves exactly")
    check("the buffer is intact", buffer.ask("health") == "ok", buffer.ask("health"))
    late = guest.send(5)
    buffer.do("barrier")
    late += guest.send(5)
    buffer.do("open")
    client.expect(late, "opening lets finished and running epoch go, in order")
    client.expect(guest.send(20), "an open buffer passes everything, in order")
    buffer.do("hold")
    held = guest.send(3)
    client.expect([], "an open buffer can be closed again")
    buffer.do("barrier", "release")
    client.expect(held, "and works as before")
    check("nothing was dropped", buffer.stats()["dropped_packets"] == 0, buffer.stats())
    check("a buffer that holds is not removed", "error" in buffer.ask("remove"))
    buffer.do("open", "remove")
    client.expect(guest.send(4), "without the buffer everything leaves at once again")
    check("nothing of it is left", not own_ifbs() and "ingress" not in sh("tc qdisc"), sh("tc qdisc"))
    buffer.end()


def a_connection_waits_for_its_epochs():
    buffer = Buffer()
    buffer.do("hold")
    with inside("client"):
        server = socket.create_server(("10.7.0.2", 7))
    with inside("guest"):
        sender = socket.socket()
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sender.connect(("10.7.0.2", 7))
    check("a connection is not made while its first packet is held", not select.select([server], [], [], 0.5)[0])
    for _ in range(60):
        buffer.do("barrier", "release")
        if select.select([server], [], [], 0.05)[0]:
            break
    accepted, _ = server.accept()
    data = os.urandom(1 << 20)
    sent = received = 0
    got = bytearray()
    for _ in range(4000):
        buffer.do("barrier", "release")
        with contextlib.suppress(BlockingIOError):
            sent += sender.send(data[sent:])
        while select.select([accepted], [], [], 0)[0]:
            got += accepted.recv(1 << 20)
        received = len(got)
        if received == len(data):
            break
    check("a megabyte of TCP crosses epoch by epoch", bytes(got) == data, f"{received} bytes")
    buffer.do("open", "remove")
    buffer.end()


def the_limit_drops_and_counts():
    guest, client = Guest(1), Ear()
    buffer = Buffer(limit=10_000)
    buffer.do("hold")
    sent = guest.send(50, size=900)
    stats = buffer.stats()
    check("what exceeds the limit is dropped and counted", 0 < stats["held_packets"] < 12 and stats["dropped_packets"] == 50 - stats["held_packets"], stats)
    buffer.do("barrier")
    more = guest.send(2)
    buffer.do("release")
    client.expect(sent[: stats["held_packets"]], "what fitted leaves, in order")
    buffer.do("barrier", "release")
    client.expect(more, "drops do not shift the epochs")
    buffer.do("open", "remove")
    buffer.end()


def output_stays_held_without_its_owner():
    guest, client = Guest(), Ear()
    buffer = Buffer()
    buffer.do("hold")
    first = guest.send(10)
    buffer.do("barrier")
    second = guest.send(10)
    buffer.kill()
    third = guest.send(10)
    client.expect([], "after kill -9 of the owner everything stays held", quiet_s=0.5)
    successor = Buffer()
    check("a successor finds the buffer", successor.attached == "ok", successor.attached)
    check("and must hold before it can set barriers", "error" in successor.ask("barrier"))
    successor.do("hold")
    fourth = guest.send(10)
    client.expect([], "nothing leaves while it takes over")
    check("it sees what its predecessor held", successor.stats()["held_packets"] == 40, successor.stats())
    successor.do("barrier")
    fifth = guest.send(10)
    successor.do("release")
    client.expect(first + second + third + fourth, "the first release lets all of it go, in order, and nothing younger")
    successor.do("barrier", "release")
    client.expect(fifth, "then epochs leave as ever")
    guest.send(10)
    successor.do("barrier", "release")
    client.listen()
    sixth = guest.send(10)
    successor.do("barrier")
    seventh = guest.send(10)
    successor.kill()
    heir = Buffer()
    heir.do("open")
    client.expect(sixth + seventh, "a successor that is told to open lets all of it go, in order")
    heir.do("hold")
    eighth = guest.send(4)
    client.expect([], "and can hold again")
    heir.do("barrier", "release")
    client.expect(eighth, "and release")
    heir.kill()
    last = Buffer()
    guest.send(6)
    last.do("hold", "discard")
    client.expect([], "discarding lets nothing go", quiet_s=0.3)
    guest.send(6)
    client.expect([], "and what a NIC that is still there sends is lost", quiet_s=0.3)
    last.end()
    opener = Buffer()
    opener.do("open")
    client.expect(guest.send(4), "opening what was discarded gives the NICs back")
    opener.end()


def what_others_do_is_noticed():
    guest, client = Guest(), Ear()
    buffer = Buffer()
    buffer.do("hold")
    ifb = f"hvn{sorted(own_ifbs())[0]}"
    damages = {
        "an ifb set down and up": f"ip link set {ifb} down && ip link set {ifb} up",
        "a plug removed": f"tc qdisc del dev {ifb} root",
        "a plug replaced": f"tc qdisc replace dev {ifb} root handle 9: pfifo",
        "an ifb removed": f"ip link del {ifb}",
        "all ifbs removed": "for d in /sys/class/net/hvn*; do ip link del ${d##*/}; done",
        "a filter removed": "tc filter del dev vif7.1 ingress",
        "an ingress qdisc removed": "tc qdisc del dev vif7.1 ingress",
        "a filter added": "tc filter add dev vif7.0 ingress pref 5 matchall action pass && tc filter del dev vif7.0 ingress pref 5",
        "a redirection changed": f"tc actions change action mirred egress redirect dev br0 index {action_number('mirred')}",
        "a drop changed to a pass": f"tc actions change action gact pass index {action_number('gact')}",
        "a NIC set down and up": "ip link set vif7.1 down && ip link set vif7.1 up",
    }
    for what, command in damages.items():
        check(f"the buffer is intact before: {what}", buffer.ask("health").startswith("ok"), buffer.ask("health"))
        guest.send(3)
        sh(command)
        wait_until(lambda: "error" in buffer.ask("health"), f"noticed: {what}")
        check(f"noticed: {what}", "uncommitted" in buffer.ask("health"), buffer.ask("health"))
        buffer.do("rebuild")
        client.listen()
        epoch = guest.send(6)
        client.expect([], f"holds again after: {what}")
        buffer.do("barrier", "release")
        client.expect(epoch, f"releases again after: {what}")
    sh("mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf")
    pin_xdp_program("/sys/fs/bpf/pass")
    sh("ip link set dev vif7.0 xdpgeneric pinned /sys/fs/bpf/pass")
    wait_until(lambda: "error" in buffer.ask("health"), "an XDP program is noticed")
    check("an XDP program is noticed", "XDP" in buffer.ask("health"), buffer.ask("health"))
    check("and a NIC that has one is refused", "xdpgeneric off" in buffer.ask("rebuild"))
    sh("ip link set dev vif7.0 xdpgeneric off; rm /sys/fs/bpf/pass")
    buffer.do("rebuild")
    sh("ip link add vif7.2 type veth peer name eth2 netns guest && ip link set vif7.2 master br0 && ip -n guest link set eth2 up && ip link set vif7.2 up")
    wait_until(lambda: "error" in buffer.ask("health"), "a NIC that comes is noticed")
    check("a NIC that comes is noticed", "vif7.2" in buffer.ask("health"), buffer.ask("health"))
    buffer.do("rebuild")
    client.listen()
    more = Guest(3)
    more.number = guest.number + 1000
    epoch = more.send(9)
    client.expect([], "the new NIC is held after a rebuild")
    buffer.do("barrier", "release")
    client.expect(epoch, "and released with the others, in order")
    sh("ip link del vif7.2")
    wait_until(lambda: "error" in buffer.ask("health"), "a NIC that goes is noticed")
    buffer.do("rebuild")
    check("and forgotten by a rebuild", buffer.ask("health").startswith("ok"), buffer.ask("health"))
    sh("ip link add unrelated0 type dummy && tc qdisc add dev unrelated0 ingress && ip link del unrelated0")
    check("other devices do not matter", buffer.ask("health").startswith("ok"), buffer.ask("health"))
    buffer.do("open", "remove")
    buffer.end()


def what_would_pass_by_is_refused():
    sh("tc qdisc add dev vif7.0 clsact && tc filter add dev vif7.0 ingress pref 9 matchall action pass")
    buffer = Buffer()
    answer = buffer.ask("hold")
    check("a NIC with an ingress filter of its own is refused", "ingress filter" in answer, answer)
    buffer.end()
    sh("tc filter del dev vif7.0 ingress && tc filter add dev vif7.0 egress pref 9 matchall action pass")
    buffer = Buffer()
    buffer.do("hold", "open", "remove")
    check("filters for what goes to the guest stay", "pref 9" in sh("tc filter show dev vif7.0 egress"))
    buffer.end()
    sh("tc qdisc del dev vif7.0 clsact")
    first, second = Buffer(), Buffer(group="other")
    first.do("hold")
    check("a NIC can not be in two buffers", "error" in second.ask("hold"))
    first.do("open", "remove")
    first.end()
    second.end()
    missing = Buffer(nics=("vif7.9",))
    check("a NIC that is not there is refused", "no network device vif7.9" in missing.ask("hold"))
    missing.ask("discard")
    missing.end()


def held_packets_are_copies():
    """With its control: what a plain redirection holds is still the sender's memory."""
    sh("modprobe vhost_net experimental_zcopytx=1 && modprobe tun")
    ear = Ear()
    plain = ZeroCopyNic("vif8.0")
    sh("ip link add plain0 type ifb && sysctl -qw net.ipv6.conf.plain0.disable_ipv6=1 && ip link set plain0 up && tc qdisc add dev plain0 root plug limit 1000000")
    sh("tc qdisc add dev vif8.0 ingress && tc filter add dev vif8.0 ingress matchall action mirred egress redirect dev plain0")
    plain.fill(b"old!")
    plain.send()
    wait_until(lambda: "backlog 1400b 1p" in sh("tc -s qdisc show dev plain0"), "the control's packet to be held")
    check("control: behind a plain redirection the sender does not get its memory back", not plain.given_back())
    plain.fill(b"NEW!")
    sh("tc qdisc change dev plain0 root plug release_indefinite")
    frame = receive_frame(ear)
    check("control: and what leaves is what it has written since", b"NEW!" in frame and b"old!" not in frame, frame[196:208])
    sh("ip link del vif8.0; ip link del plain0")

    nic = ZeroCopyNic("vif9.0")
    buffer = Buffer(nics=("vif9.0",), group="zero-copy", domid=9)
    buffer.do("hold")
    nic.fill(b"old!")
    nic.send()
    wait_until(lambda: buffer.stats()["held_packets"] == 1, "the packet to be held")
    check("the sender gets its memory back while its packet is held", nic.given_back())
    nic.fill(b"NEW!")
    check("nothing has left", receive_frame(ear, 0.2) == b"")
    buffer.do("barrier", "release")
    frame = receive_frame(ear)
    check("what leaves is what was sent, not what was written since", b"old!" in frame and b"NEW!" not in frame, frame[196:208])
    buffer.do("open", "remove")
    buffer.end()
    sh("ip link del vif9.0")


def a_stream_leaves_epoch_by_epoch(epochs=100):
    """As the engine does it: the guest stands still for the barrier and runs during the release."""
    client = Ear()
    buffer = Buffer(limit=256 << 20)
    buffer.do("hold")
    early = 0
    with streaming_guest() as (pid, counter):
        for _ in range(epochs):
            stop(pid)
            buffer.do("barrier")
            bound = number_in(counter)
            os.kill(pid, signal.SIGCONT)
            buffer.do("release")
            early += sum(1 for number in client.listen(0.001) if number >= bound)
        stop(pid)
        buffer.do("barrier", "release")
        client.listen(0.5)
        sent = number_in(counter)
    check(f"of a stream of packets none leaves before its epoch is released, in {epochs} epochs", early == 0, f"{early} did")
    check("all leave, once and in order", client.heard == list(range(len(client.heard))) and sent - 1 <= len(client.heard) <= sent, f"{len(client.heard)} of {sent}")
    stats = buffer.stats()
    check("nothing is left and nothing was dropped", stats["held_packets"] == stats["dropped_packets"] == stats["overtaken"] == 0, stats)
    buffer.do("open", "remove")
    buffer.end()


def commands_meet_packets(epochs=100):
    """Harsher than the engine: the guest sends on during the barrier as well, on another processor."""
    client = Ear()
    buffer = Buffer(limit=256 << 20)
    buffer.do("hold")
    early = 0
    with streaming_guest() as (pid, counter):
        for _ in range(epochs):
            buffer.do("barrier")
            bound = number_in(counter)
            buffer.do("release")
            early += sum(1 for number in client.listen(0.001) if number >= bound)
        stop(pid)
        # A packet that a processor carried past a barrier waits for the next turn of its queue.
        buffer.do("barrier", "release", "barrier", "release", "barrier", "release")
        client.listen(0.5)
        sent = number_in(counter)
    check(f"none leaves early even if the guest is not stopped, in {epochs} epochs", early == 0, f"{early} did")
    heard = sorted(client.heard)
    check("none is lost or doubled", heard == list(range(len(heard))) and sent - 1 <= len(heard) <= sent, f"{len(heard)} of {sent}; {buffer.stats()}")
    figure("packets out of order where a barrier met traffic", sum(after < before for before, after in zip(client.heard, client.heard[1:])), "")
    buffer.do("open", "remove")
    buffer.end()


def measure():
    figure("TCP without a buffer", round(throughput(), 1), "Mbit/s")
    buffer = Buffer()
    buffer.do("hold")
    for name, count, interval_us in (("back to back", 2000, 0), ("epochs of 5 ms", 200, 5000)):
        times = buffer.do(f"epochs {count} {interval_us}")
        for call in ("barrier", "release"):
            for part in ("p50", "p99"):
                figure(f"{call}, {name}, {part}", round(int(times[f"{call}_{part}_ns"]) / 1000, 1), "us")
    check("a barrier is one request, a release two", int(times["requests"]) <= 3 * 200, times["requests"])
    log = "/tmp/plug.strace"
    tracer = subprocess.Popen(["strace", "-f", "-q", "-o", log, "-p", str(buffer.process.pid)], stderr=subprocess.DEVNULL)
    wait_until(lambda: os.path.exists(log), "strace to begin")
    time.sleep(0.5)
    buffer.do("barrier", "release")
    tracer.send_signal(signal.SIGINT)
    tracer.wait()
    calls = [line.split("(")[0].split()[-1] for line in open(log, encoding="ascii")]
    figure("system calls of Barrier and ReleaseOne together", sum(call in ("sendto", "recvmsg", "ppoll") for call in calls), "")
    # A stranger who changes the network all the time holds the lock that every request needs.
    churn = subprocess.Popen("while :; do ip link add x0 type veth peer name x1; ip link del x0; done", shell=True, start_new_session=True)
    times = buffer.do("epochs 200 5000")
    os.killpg(churn.pid, signal.SIGKILL)
    churn.wait()
    figure("barrier while others change the network, p50", round(int(times["barrier_p50_ns"]) / 1000, 1), "us")
    figure("barrier while others change the network, p99", round(int(times["barrier_p99_ns"]) / 1000, 1), "us")
    buffer.do("open")
    figure("TCP with an open buffer", round(throughput(), 1), "Mbit/s")
    for interval_us in (5000, 20000):
        buffer.do("hold")
        buffer.process.stdin.write(f"epochs {8_000_000 // interval_us} {interval_us}\n")
        figure(f"TCP held in epochs of {interval_us // 1000} ms", round(throughput(), 1), "Mbit/s")
        buffer.process.stdout.readline()
        buffer.do("open")
    buffer.do("remove")
    buffer.end()


STEPS = (
    modules_that_are_missing,
    epochs_leave_exactly,
    a_connection_waits_for_its_epochs,
    the_limit_drops_and_counts,
    output_stays_held_without_its_owner,
    what_others_do_is_noticed,
    what_would_pass_by_is_refused,
    held_packets_are_copies,
    a_stream_leaves_epoch_by_epoch,
    commands_meet_packets,
    measure,
)

if __name__ == "__main__":
    for step in STEPS:
        if len(sys.argv) > 1 and step.__name__ not in sys.argv[1:]:
            continue
        print(json.dumps({"step": step.__name__.replace("_", " ")}), flush=True)
        with network():
            step()
