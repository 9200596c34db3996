# SPDX-License-Identifier: Apache-2.0
"""Bad keys, bad peers, bad limits: clear errors, and the running protection is not disturbed."""

import re

from haven_lab.protection import ENGINE, PORT, PSK, Pair, WAIT_S
from haven_lab.registry import scenario

# Attempts by others keep their files and guests here.
_OTHER = "/var/lib/haven-other"
_AUTHORITY = "/root/ca"
_TLS_PORT = 7001
_FAKE_PORT = 7002
# Of a certificate authority as `openssl ca` wants it.
_CA_CONFIG = """\
[ca]
default_ca = lab
[lab]
database = /root/index
serial = /root/serial
new_certs_dir = /root
default_md = sha256
policy = any
[any]
commonName = supplied
"""
# A backup of another release: it answers a greeting with a version that nobody speaks yet.
_OTHER_RELEASE = """\
import socket, struct
listener = socket.create_server(("0.0.0.0", PORT))
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    greeting = peer.recv(64)
    peer.sendall(greeting[:4] + struct.pack("<H", 2) + greeting[6:])
    peer.recv(64)
"""
# Somebody on the network who means no good: tries every port at every address, talks nonsense, and holds on. Prints how many ports
# took a connection, and how many refused it.
_STRANGER = """\
import random, socket, sys
random.seed(sys.argv[1])
addresses, ports = sys.argv[2].split(","), [int(port) for port in sys.argv[3:]]
held, talked, refused = [], 0, 0
for place in ((address, port) for address in addresses for port in ports):
    try:
        for size in (0, 1, 5, 300, 20000, 0, 70000):
            peer = socket.create_connection(place, timeout=5)
            held.append(peer)
            try:
                peer.sendall(random.randbytes(size) if size != 300 else b"\\x16\\x03\\x01\\x01\\x27\\x01" + random.randbytes(294))
                if random.random() < 0.5: peer.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # It has hung up already.
        talked += 1
    except ConnectionRefusedError:
        refused += 1
print(talked, refused)
"""


@scenario("rdma-hostile", "wrong keys, releases and limits, strangers at the control port")
def hostile(lab, report):
    pair = Pair(lab, report)
    pair.start()
    before = pair.expect_protected(pair.node("a"))
    _credentials(pair, report)
    _other_release(pair, report)
    _locked_memory(pair, report)
    _strangers(pair, report)
    after = pair.expect_protected(pair.node("a"))
    same = all(after[name] == before[name] for name in ("session", "pid", "register"))
    report.check("the running protection was not disturbed: same session, same engine", same, f"link {before['link']}, then {after['link']}")
    pair.stop()


def _expect_complaint(pair, report, what, complaint, *words, wrap=(), at_once=False):
    """Protects another guest in a way that can not work. It is told why: `at_once`, before anything is started, or by a
    protection that goes on trying while the guest runs, until it is ended."""
    host = pair.node("a").host
    base = [*wrap, ENGINE, "protect", "synthetic:name=other,mem=1M,dirty=10", f"--directory={_OTHER}", "--node=a"]
    guard = host.start([*base, f"--arbiter={pair.arbiter}", "--epoch-bytes=4M", "--copy-threads=0", *words])
    pair.wait(lambda: complaint in guard.err or not guard.running, WAIT_S, f"{complaint!r} to be told", interval_s=0.3)
    line = next((line for line in guard.err.splitlines() if complaint in line), None)
    report.check(what, line is not None, line or guard.err)
    if at_once:
        report.check("the command fails", guard.wait().code != 0)
    else:
        said = host.run([ENGINE, "status", f"--directory={_OTHER}", "other"], check=False).out
        report.check("the status says that the guest is not protected", "unprotected" in said)
        host.run([ENGINE, "unprotect", f"--directory={_OTHER}", "other"])
        guard.wait()
        host.run([ENGINE, "synthetic", f"--directory={_OTHER}", "shutdown", "other"])


def _credentials(pair, report):
    a, b = pair.node("a").host, pair.node("b").host
    to = f"--backup={pair.node('b').address(pair.node('a'))}"
    a.run([ENGINE, "keygen", "psk", "/root/wrong.psk"])
    _expect_complaint(pair, report, "a wrong key is told", "key", to, "--psk=/root/wrong.psk")
    listening = pair.node("b").listener.err
    report.check("the backup says so, too", "need the same pre-shared key" in listening)
    a.run(["mkdir", "-p", _AUTHORITY])
    a.run([ENGINE, "keygen", "ca", _AUTHORITY])
    for name in ("a", "b"):
        a.run([ENGINE, "keygen", "node", _AUTHORITY, name])
    for name in ("ca.crt", "b.crt", "b.key"):
        b.put(f"/root/{name}", a.get(f"{_AUTHORITY}/{name}"), mode=0o600)
    certified = ["--ca=/root/ca.crt", "--certificate=/root/b.crt", "--key=/root/b.key"]
    listen = f"--listen=rdma:{b.address()}:{_TLS_PORT},dev=rxe_rail0"
    listener = b.start([ENGINE, "backup", f"--directory={_OTHER}", "--node=b", listen, f"--arbiter={pair.arbiter}", *certified])
    listener.wait_for_output("listens at")
    a.put("/root/ca.cnf", _CA_CONFIG.encode())
    a.run("cd /root && : >index && echo 01 >serial")
    for name in ("a", "b"):
        a.run(
            f"cd /root && openssl req -new -key ca/{name}.key -subj /CN={name} -out {name}.req && "
            f"openssl ca -batch -config ca.cnf -cert ca/ca.crt -keyfile ca/ca.key -in {name}.req -out old-{name}.crt -notext "
            "-startdate 20200101000000Z -enddate 20210101000000Z"
        )
    to = f"--backup=rdma:{b.address()}:{_TLS_PORT},dev=rxe_rail0"
    own = [f"--ca={_AUTHORITY}/ca.crt", f"--key={_AUTHORITY}/a.key"]
    _expect_complaint(pair, report, "an expired certificate is told", "expired", to, *own, "--certificate=/root/old-a.crt", at_once=True)
    _expired_peers(pair, report, listener, own)
    _expired_listener(pair, report, listener, (to, *own, f"--certificate={_AUTHORITY}/a.crt"))
    listener.kill()


def _expired_peers(pair, report, listener, own):
    """Certificates that expired while they were in use, shown by another program: on either side the peer says why it refuses."""
    a, c = pair.node("a").host, pair.lab.host("c")
    for name in ("ca/ca.crt", "ca/a.key", "old-a.crt"):
        c.put(f"/root/{name.rpartition('/')[2]}", a.get(f"/root/{name}"), mode=0o600)
    shown = "-cert /root/old-a.crt -key /root/a.key -CAfile /root/ca.crt -tls1_3"
    to = f"{pair.node('b').host.address()}:{_TLS_PORT}"
    client = c.run(f"sleep 2 | openssl s_client -connect {to} {shown}", check=False)
    report.check("a primary whose certificate has expired is refused, and told why", "certificate expired" in client.err, client.err.splitlines()[-1])
    pair.wait(lambda: "certificate has expired" in listener.err, WAIT_S, "the backup to say why it refuses")
    # It ends with its input.
    server = c.start(f"tail -f /dev/null | openssl s_server -accept {_FAKE_PORT + 1} {shown} -Verify 1")
    server.wait_for_output("ACCEPT")
    to = f"--backup=rdma:{c.address()}:{_FAKE_PORT + 1},dev=rxe_rail0"
    certified = [*own, f"--certificate={_AUTHORITY}/a.crt"]
    _expect_complaint(pair, report, "a backup whose certificate has expired is refused", "certificate has expired", to, *certified)
    report.check("it is told why", "certificate expired" in server.err, server.err.splitlines()[-1])
    server.kill()


def _expired_listener(pair, report, listener, words):
    """One that was good when it began, and whose certificate is an expired one now."""
    a, b = pair.node("a").host, pair.node("b").host
    b.put("/root/b.crt", a.get("/root/old-b.crt"), mode=0o600)
    _expect_complaint(pair, report, "a listener whose certificate expires while it runs: the primary is told", "certificate has expired", *words)
    told = all(word in listener.err for word in ("/root/b.crt has expired on 2021-01-01", "does not accept this host's certificate"))
    report.check("and its own log says which certificate, since when, and what to do", told and "keygen" in listener.err)


def _other_release(pair, report):
    c = pair.lab.host("c")
    fake = c.start(["python3", "-c", _OTHER_RELEASE.replace("PORT", str(_FAKE_PORT))])
    fake.wait_for_output("ready")
    to = f"--backup=rdma:{c.address()}:{_FAKE_PORT},dev=rxe_rail0"
    _expect_complaint(pair, report, "another release is told", "speaks version 2", to, "--insecure")
    fake.kill()


def _locked_memory(pair, report):
    limited = ["setpriv", "--bounding-set=-ipc_lock", "prlimit", "--memlock=2097152"]
    to = f"--backup={pair.node('b').address(pair.node('a'))}"
    _expect_complaint(pair, report, "too little locked memory is told", "RLIMIT_MEMLOCK", to, f"--psk={PSK}", wrap=limited)
    b = pair.node("b").host
    listen = f"rdma:{b.address()}:{_TLS_PORT},dev=rxe_rail0"
    words = [ENGINE, "backup", f"--directory={_OTHER}", "--node=b", f"--listen={listen}", f"--arbiter={pair.arbiter}", f"--psk={PSK}"]
    listener = b.start([*limited, *words])
    listener.wait_for_output("listens at")
    _expect_complaint(pair, report, "the backup's is told to the primary", "RLIMIT_MEMLOCK", f"--backup={listen}", f"--psk={PSK}")
    report.check("and in the backup's log", "RLIMIT_MEMLOCK" in listener.err)
    listener.kill()


def _strangers(pair, report):
    """From host c at the nodes' own addresses; at the backup's on the rails, where c is not, from the primary's host."""
    c = pair.lab.host("c")
    # The backup's session has a door of its own.
    for node, least in ((pair.node("b"), 2), (pair.node("a"), 1)):
        ports = _open_ports(node)
        report.check(f"the control port of host {node.name} is open", str(PORT) in ports and len(ports) >= least, " ".join(ports))
        talked, refused = _stranger(pair, c, [node.host.address()], ports)
        report.check(f"a stranger has talked nonsense to every port of host {node.name}", talked == len(ports) and refused == 0, f"{talked} ports")
        complaint = rf"{c.address()}:\d+: the peer does not speak TLS 1.3"
        pair.wait(lambda n=node, text=complaint: re.search(text, n.listener.err), WAIT_S, f"{node.name} to say who talks nonsense")
    rails = [pair.node("b").host.address(rail) for rail in ("rail0", "rail1")]
    talked, refused = _stranger(pair, pair.node("a").host, rails, _open_ports(pair.node("b")))
    report.check("the backup's ports are closed at its addresses on the rails", talked == 0 and refused > 0, f"{refused} refused")
    pair.expect_flow(pair.node("a"))


def _open_ports(node):
    """The TCP ports that anything on a host listens at, whatever the address."""
    return node.host.run("ss -Hltn | awk '{print $4}' | sed 's/.*://' | sort -u").out.split()


def _stranger(pair, host, addresses, ports):
    """How many ports took connections from this host, and how many did not."""
    words = ["python3", "-c", _STRANGER, f"{pair.lab.seed} {host.name}", ",".join(addresses), *ports]
    talked, refused = host.run(words, timeout_s=120).out.split()
    return int(talked), int(refused)
