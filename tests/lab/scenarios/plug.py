# SPDX-License-Identifier: Apache-2.0
"""The output buffer of Xen guests over real traffic control: a Linux host is enough for it."""

import json
import pathlib

from haven_lab.machine import HostSpec
from haven_lab.registry import scenario

_HOSTS = (HostSpec("a", networks=("lan",), cpus=2),)
_XEN_HOSTS = (HostSpec("a", kind="xen", memory_mb=2048),)
_SCRIPTS = sorted((pathlib.Path(__file__).parent / "in_host").glob("plug_*.py"))


def _run(lab, report, script, *steps):
    """Carries out a script of in_host/, or some of its steps, and reports what it finds."""
    host = lab.host("a")
    for path in _SCRIPTS:
        host.put(f"/tmp/{path.name}", path.read_bytes())
    done = host.run(["python3", "-B", f"/tmp/{script}", *steps], timeout_s=1200, check=False)
    for line in done.out.splitlines():
        found = json.loads(line)
        if "step" in found:
            report.step(found["step"])
        elif "check" in found:
            report.check(found["check"], found["ok"], found["detail"])
        else:
            report.figure(found["figure"], found["value"], found["unit"])
    report.check("the steps came to their end", done.code == 0, done.err[-2000:])


@scenario("plug-output", "the output buffer: epochs, takeover, rebuild, what others do to it, copies, order", hosts=_HOSTS)
def plug(lab, report):
    # The modules must not have been loaded: this step is the first.
    _run(lab, report, "plug_host.py", "modules_that_are_missing")
    _run(
        lab,
        report,
        "plug_host.py",
        "epochs_leave_exactly",
        "a_connection_waits_for_its_epochs",
        "the_limit_drops_and_counts",
        "output_stays_held_without_its_owner",
        "what_others_do_is_noticed",
        "what_would_pass_by_is_refused",
        "held_packets_are_copies",
        "a_stream_leaves_epoch_by_epoch",
        "commands_meet_packets",
    )


@scenario("plug-measure", "the output buffer: how long its calls take, and what it costs", hosts=_HOSTS, in_tests_run=False, alone=True)
def measure(lab, report):
    _run(lab, report, "plug_host.py", "measure")


@scenario("plug-xen", "the output buffer over the NIC of a real guest: held, copied, gone with it", hosts=_XEN_HOSTS)
def on_xen(lab, report):
    _run(lab, report, "plug_xen.py")
