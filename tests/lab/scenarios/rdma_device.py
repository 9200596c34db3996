# SPDX-License-Identifier: Apache-2.0
"""What devices and queue pairs do: every case of verbs_check beside a protection, and devices removed in its middle."""

import re

from haven_lab.protection import GROUP, PSK, Pair, SYNC_TIMEOUT_S
from haven_lab.registry import scenario

_CHECK_PORT = 7002
# The kernel waits for every process that has the device open; emulated hosts are slow.
_REMOVAL_S = 60
_CASE = re.compile(r"\b(PASS|FAIL) ([a-z-]+): (.*)")
# Some of what a link promises can be seen only when devices and peers are given up, which takes seconds.
_CASES_S = 600
# Cases there are at least: less would mean that they are not found in what is printed.
_CASES_MIN = 13


@scenario("rdma-device", "what a link promises, tried over real verbs; devices removed mid-run")
def device(lab, report):
    pair = Pair(lab, report)
    pair.start()
    _transport(pair, report)
    _one_rail_goes(pair, report)
    _last_rail_goes(pair, report)
    pair.stop()


def _transport(pair, report):
    """The transport by itself, beside the protection: sizes, lists, immediates, used tokens, taken permissions, peers that die ..."""
    a, b = pair.node("a").host, pair.node("b").host
    before = pair.expect_protected(pair.node("a"))
    address = f"rdma:{b.address()}:{_CHECK_PORT},dev=rxe_rail0"
    server = b.start(["verbs_check", "serve", address, f"--psk={PSK}"])
    server.wait_for_output("serving at")
    done = a.run(["verbs_check", "run", address, f"--psk={PSK}"], timeout_s=_CASES_S, check=False)
    cases = _CASE.findall(done.out + done.err)
    for verdict, name, note in cases:
        report.check(f"verbs_check {name}", verdict == "PASS", note)
    report.check("verbs_check has run to its end", done.code == 0 and len(cases) >= _CASES_MIN, (done.out + done.err).splitlines()[-1])
    server.kill()
    after = pair.expect_protected(pair.node("a"))
    report.check("the protection beside it was not disturbed", after["session"] == before["session"] and after["pid"] == before["pid"])


def _remove(report, node, rail):
    """The command waits in the kernel until nobody has the device open."""
    done = node.host.run(f"timeout {_REMOVAL_S} rdma link delete rxe_{rail}", timeout_s=2 * _REMOVAL_S, check=False)
    left = node.host.run(["rdma", "link"]).out
    report.check(f"rxe_{rail} is removed from {node.name}", done.code == 0 and f"rxe_{rail}" not in left, (done.err + left).strip())


def _one_rail_goes(pair, report):
    """On either side; a second rail is there, and the epoch goes over it once more."""
    owner = pair.node("a")
    before = pair.expect_protected(owner)
    report.step("the first rail's device is removed from the primary")
    _remove(report, owner, "rail0")
    after = pair.expect_protected(owner)
    same = all(after[name] == before[name] for name in ("session", "pid", "register"))
    report.check("the same session goes on over the other rail", same and after["link"] > before["link"], f"link {before['link']}, then {after['link']}")
    report.check("the primary says which device has gone", _says(owner, "rxe_rail0", "is given up"))


def _last_rail_goes(pair, report):
    """Nothing in common is left: a lost link, with its reason, and a new session once there are devices again."""
    owner, backup = pair.node("a"), pair.node("b")
    before = owner.status()
    report.step("the other rail's device is removed from the backup")
    _remove(report, backup, "rail1")
    pair.wait(lambda: pair.register()["mode"] == "solo", 90, "the register to say solo", interval_s=0.3)
    pair.expect_flow(owner)
    report.check("the backup says which device has gone", "rxe_rail1" in backup.listener.err and "is given up" in backup.listener.err)
    report.step("and from the primary, which has none left")
    _remove(report, owner, "rail1")
    pair.wait(lambda: _says(owner, "no RDMA device of this host owns an address"), 60, "the primary to say why it has no backup", interval_s=0.5)
    report.check("the guest runs on unprotected", owner.status()["state"] == "unprotected", owner.status()["state"])
    pair.expect_flow(owner)
    report.step("the devices come back")
    for node, rail in ((owner, "rail0"), (owner, "rail1"), (backup, "rail1")):
        node.host.run(f"rdma link add rxe_{rail} type rxe netdev {rail}")
    after = pair.expect_protected(owner, SYNC_TIMEOUT_S)
    report.check(f"{GROUP} is protected in a new session, by the same engine", after["session"] != before["session"] and after["pid"] == before["pid"])


def _says(node, *words):
    return any(all(word in line for word in words) for line in node.guard.err.splitlines())
