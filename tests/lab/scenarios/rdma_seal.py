# SPDX-License-Identifier: Apache-2.0
"""What somebody on the wire can read of a guest: with --seal nothing, without it all."""

import pathlib
import re
import signal as signals

from haven_lab.protection import DIRECTORY, ENGINE, GROUP, PSK, Pair, Settings
from haven_lab.registry import scenario

_SCRIPT = "/run/wire_search.py"
_RECORD = "/root/wire"
_GUEST_MB = 12
# No page of it is zero, so all of it travels.
_GUEST = f"mem={_GUEST_MB}M,fill=1,dirty=100,output=20,vcpus=1"
# Pages travel as they are: what is looked for is what they hold.
_PLAIN = (f"--psk={PSK}", "--codec=off")


@scenario("rdma-seal", "a recorder on the wire finds the guest's bytes, and none of them with --seal")
def seal(lab, report):
    lab.host("b").put(_SCRIPT, (pathlib.Path(__file__).parent / "in_host" / "wire_search.py").read_bytes())
    lab.host("a").put(_SCRIPT, (pathlib.Path(__file__).parent / "in_host" / "wire_search.py").read_bytes())
    pair = Pair(lab, report, Settings(guest=_GUEST, credentials=(*_PLAIN, "--seal")))
    state, found, wanted = _on_the_wire(pair, report, pair.node("a"))
    report.check("sealed: nothing of the guest's memory is on the wire", found == 0 and wanted > 0, f"{found} of {wanted} samples")
    report.check("sealed: nothing of the guest's state is on the wire", not state)
    _promoted(pair, report)
    _refused(pair, report)
    pair.stop()
    plain = Pair(lab, report, Settings(guest=_GUEST, credentials=_PLAIN))
    plain.psk = pair.psk
    # The register is the last owner's: nobody else may start the group again.
    state, found, wanted = _on_the_wire(plain, report, plain.node("b"))
    report.check("in plain: the guest's memory is on the wire", found > wanted * 9 / 10, f"{found} of {wanted} samples")
    report.check("in plain: the guest's state is on the wire", state)
    plain.stop()


def _on_the_wire(pair, report, owner):
    """Records while a guest is copied and protected: is its state there, how many samples of its memory, of how many."""
    recorder = pair.lab.host("b").start(["python3", _SCRIPT, "record", _RECORD, "rail0", "rail1"])
    recorder.wait_for_output("recording")
    pair.start(owner)
    pid = re.search(rf"guest {GROUP} started, pid=(\d+)", owner.guard.err).group(1)
    samples = owner.host.run(["python3", _SCRIPT, "sample", pid]).out
    recorder.kill(signals.SIGTERM)
    recorder.wait()
    said = pair.lab.host("b").run(f"python3 {_SCRIPT} search {_RECORD} <<'EOF'\n{samples}EOF", timeout_s=120).out
    frames, size, state, found, wanted = (int(word) for word in said.split())
    report.check("the whole guest went by the recorder", size > _GUEST_MB << 20, f"{frames} frames, {size} bytes")
    return bool(state), found, wanted


def _promoted(pair, report):
    """A sealed session ends as any other: the copy is whole, and is protected again, sealed, by what its record says."""
    first, second = pair.node("a"), pair.node("b")
    pair.expect_flow(first)
    first.kill("guard", "engine")
    pair.expect_promoted(second)
    record = second.file(f"{GROUP}.group")
    report.check("the promoted copy's record says sealed", '"seal": true' in record, record[-120:])
    first.start_guard()
    pair.expect_gone(first)
    pair.expect_protected(second)


def _refused(pair, report):
    """A primary that does not seal, at a backup that wants it."""
    a = pair.node("b").host
    to = f"--backup={pair.node('a').address(pair.node('b'))}"
    words = [ENGINE, "protect", "synthetic:name=other,mem=1M,dirty=10", f"--directory={DIRECTORY}-other", "--node=b", to]
    guard = a.start([*words, f"--arbiter={pair.arbiter}", "--epoch-bytes=4M", *_PLAIN])
    pair.wait(lambda: "seal" in guard.err, 60, "the refusal to name what is missing", interval_s=0.3)
    line = next(line for line in guard.err.splitlines() if "seal" in line)
    report.check("a primary that does not seal is refused where it is wanted", "requires" in line or "required" in line, line)
    a.run([ENGINE, "unprotect", f"--directory={DIRECTORY}-other", "other"])
    guard.wait()
    a.run([ENGINE, "synthetic", f"--directory={DIRECTORY}-other", "shutdown", "other"])
