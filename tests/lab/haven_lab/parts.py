# SPDX-License-Identifier: Apache-2.0
"""All that a lab is made of, freshly built: image, hub, and the disk with programs that the hosts see as /lab."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

from haven_lab import image as images
from haven_lab import packages, settings

# What the hosts get, as /lab/bin/NAME.
_HOST_TARGETS = (
    "//engine/cli:haven-engine",
    "//transport/verbs:verbs_check",
    "//xen/tools:xen_probe",
    "//xen/tools:xen_memory",
    "//xen/tools:xen_watch",
    "//tests/lab/guest:guest_ticker",
    "//tests/lab/unlogged:unlogged_pages",
    "//xen/output:plug_check",
    "//xen/backup:xen_replica_trial",
)
_HUB_TARGET = "//tests/lab/hub:hub"
_TSC_TARGET = "//tests/lab/tsc:tsc_khz"
# Always the same: a host that goes on from a saved memory has seen the size of its disks already.
_DISK_SIZE = "256M"
# Measurements of the same clock differ by less; then the earlier one stays, and with it every saved host.
_TSC_TOLERANCE = 0.001


@dataclasses.dataclass(frozen=True)
class Parts:
    """`hub` is the hub's program, `disk` the disk of programs, `tsc_khz` the frequency of this machine's clock."""

    image: images.Image
    hub: pathlib.Path
    disk: pathlib.Path
    tsc_khz: int

    def to_json(self):
        """For another process; from_json() is the way back."""
        return json.dumps([str(self.image.folder), str(self.hub), str(self.disk), self.tsc_khz])

    @staticmethod
    def from_json(text):
        folder, hub, disk, tsc_khz = json.loads(text)
        return Parts(images.Image(pathlib.Path(folder)), pathlib.Path(hub), pathlib.Path(disk), tsc_khz)


@contextlib.contextmanager
def built_parts(say=print):
    """A context with the parts; builds and installs what is missing. The disk goes with it."""
    packages.install_missing(say)
    say("building the programs")
    folder = _build([_HUB_TARGET, _TSC_TARGET, *_HOST_TARGETS])
    work = settings.temporary_folder()
    try:
        disk = work / "programs.ext4"
        make_disk([_output(folder, target) for target in _HOST_TARGETS], disk)
        image = images.ensure_image(say)
        yield Parts(image, _output(folder, _HUB_TARGET), disk, _tsc_khz(_output(folder, _TSC_TARGET)))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def make_disk(programs, path):
    """Writes the image of a read-only disk with these programs in its folder bin, without their debug information."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        tree = pathlib.Path(folder) / "tree"
        (tree / "bin").mkdir(parents=True)
        for program in programs:
            copy = tree / "bin" / program.name
            shutil.copyfile(program, copy)
            copy.chmod(0o755)
            subprocess.run(["strip", "--strip-debug", copy], check=True)
        make = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", tree, "-b", "4096", path, _DISK_SIZE]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)


def _build(targets):
    """Builds, and returns the folder of the outputs."""
    startup = os.environ.get("HAVEN_BAZEL_STARTUP", "").split() or _bazel_startup()
    flags = ["--config=opt", "--color=no", "--curses=no", "--noshow_progress"]
    disk_cache = f"--disk_cache={settings.cache_folder()}/disk"
    _bazel([*startup, "build", *flags, disk_cache, "--", *targets])
    return pathlib.Path(_bazel([*startup, "info", "--config=opt", "bazel-bin"]).strip())


def _bazel_startup():
    """The same server and outputs as those of tests/run."""
    cache = settings.cache_folder() / "bazel"
    tree = hashlib.sha256(str(settings.ROOT).encode()).hexdigest()[:16]
    return [f"--output_user_root={cache}", f"--output_base={cache}/{tree}", "--max_idle_secs=60", "--nohome_rc"]


def _bazel(arguments):
    done = subprocess.run(["bazel", *arguments], cwd=settings.ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"bazel could not build the programs:\n{done.stderr[-8000:]}")
    return done.stdout


def _output(folder, target):
    return folder / target[2:].replace(":", "/")


def _tsc_khz(program):
    measured = int(subprocess.run([program], capture_output=True, text=True, check=True).stdout)
    kept = settings.cache_folder() / "lab" / "tsc_khz"
    if kept.exists():
        earlier = int(kept.read_text(encoding="ascii"))
        if abs(measured - earlier) <= earlier * _TSC_TOLERANCE:
            return earlier
    kept.write_text(f"{measured}\n", encoding="ascii")
    return measured
