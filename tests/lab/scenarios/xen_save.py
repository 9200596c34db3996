# SPDX-License-Identifier: Apache-2.0
"""Somebody saves a protected guest by the toolstack, which takes the log of its dirty pages away and suspends it meanwhile."""

from haven_lab.guest_client import GuestClient
from haven_lab.registry import scenario
from haven_lab.visible import Visible
from haven_lab.xen_guest import ADDRESS, XenGuest
from haven_lab.xen_pair import XEN_PAIR, XenPair

# Reads all of the guest's memory on emulated processors.
_SAVE_TIMEOUT_S = 300
_EPOCHS = 2


@scenario("xen-save", "a protected guest is saved with xl save -c: that is noticed, it goes on, and outlives its host", hosts=XEN_PAIR)
def save(lab, report):
    pair = XenPair(lab)
    pair.start()
    guest = XenGuest(address=ADDRESS)
    guest.create(pair.a)
    guest.wait_for_turn(pair.a, 1)
    client = GuestClient(pair.c, ADDRESS, 4, 2)
    visible = Visible(pair, report)
    pair.protect(guest)
    pair.wait_until_protected(_EPOCHS)

    heard = pair.ear(pair.a)
    domid = pair.a.run(["xl", "domid", "g1"]).out
    before = client.answers()
    # Whether the toolstack's own request to suspend comes through is chance: the guest is suspended for an epoch now and then.
    saved = pair.a.run(["xl", "save", "-c", "g1", "/dev/null"], timeout_s=_SAVE_TIMEOUT_S, check=False)
    report.step(f"xl save -c ends with {saved.code}: {saved.err[-300:]}")
    noticed = heard("somebody else has used it")
    report.check("the engine says that its log was taken away", "every page is sent again" in noticed, noticed)
    pair.wait_until_protected(_EPOCHS)
    client.wait_for_answers(before)
    report.check("the guest goes on, protected, its connections with it", pair.a.run(["xl", "domid", "g1"]).out == domid)
    visible.check("saved")

    committed = pair.status(pair.a)["epoch"]["committed"]
    pair.a.power_cut()
    before = client.answers()
    events = pair.wait_for_promotion(pair.b)
    client.wait_for_answers(before)
    visible.promoted(pair.b, events)
    report.check("nothing that was committed is lost", events[-1]["epoch"] >= committed, f"{events[-1]['epoch']}, before {committed}")
    report.check("its memory is sound", not guest.damage(pair.b), guest.damage(pair.b))
    report.step(f"{client.verify()} keys as acknowledged")
    client.check_end(report)
