# SPDX-License-Identifier: Apache-2.0
"""The packages that this machine needs, for those who start the lab without tests/run."""

import os
import subprocess

from haven_lab import settings


def install_missing(say=print):
    """Installs what tests/packages.txt names and this machine has not; needs root only then."""
    lines = (settings.ROOT / "tests" / "packages.txt").read_text(encoding="utf-8").splitlines()
    names = [line.split()[0] for line in lines if line and not line.startswith("#")]
    missing = [name for name in names if not _installed(name)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise RuntimeError(f"missing packages: install them, or run this once as root: {' '.join(missing)}")
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", "-q", *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"apt-get {arguments[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _installed(name):
    query = ["dpkg-query", "-W", "-f=${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"
