# SPDX-License-Identifier: Apache-2.0
"""What hosts boot from: built once, kept in the cache under a hash of everything it is made by."""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import time

from haven_lab import settings

_UNUSED_DAYS = 14


@dataclasses.dataclass(frozen=True)
class Image:
    """The files of an image, and its folder, in which what depends on it may be kept."""

    folder: pathlib.Path

    @property
    def root(self):
        return self.folder / "root.ext4"

    @property
    def kernel(self):
        return self.folder / "vmlinuz"

    @property
    def initrd(self):
        return self.folder / "initrd.gz"

    @property
    def xen(self):
        return self.folder / "xen"


@contextlib.contextmanager
def exclusive(name):
    """One process at a time builds something in the cache; the others wait."""
    with open(settings.cache_folder() / "lab" / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_image(say=print):
    """The image for the scripts as they are now; builds it if it is not there. Needs root only then."""
    scripts = settings.LAB / "image"
    base = _built("base", _hash([scripts / "build-base", scripts / "packages.txt"]), [scripts / "build-base"], say)
    key = _hash([path for path in sorted(scripts.iterdir()) if path.is_file()])
    return Image(_built("image", key, [scripts / "build", base], say))


def _built(kind, key, command, say):
    """The folder of what `command FOLDER` builds."""
    folder = settings.cache_folder() / "lab" / f"{kind}-{key}"
    with exclusive(kind):
        if not folder.exists():
            if os.geteuid() != 0:
                raise RuntimeError(f"building the lab's {kind} needs root: run this once as root")
            say(f"building the {kind} of the lab's hosts (once)")
            started = time.monotonic()
            unfinished = folder.with_name(f"{kind}-unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            done = subprocess.run([*command, unfinished], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
            unfinished.rename(folder)
            say(f"built in {time.monotonic() - started:.0f} s")
        os.utime(folder)
        _forget_unused(kind)
    return folder


def _forget_unused(kind):
    """Removes what nothing has used for two weeks."""
    for folder in (settings.cache_folder() / "lab").glob(f"{kind}-*"):
        if time.time() - folder.stat().st_mtime > _UNUSED_DAYS * 86400:
            shutil.rmtree(folder, ignore_errors=True)


def _hash(paths):
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
