# SPDX-License-Identifier: Apache-2.0
"""Where things are, and which networks and addresses the lab has."""

import glob
import os
import pathlib
import pwd
import shutil
import tempfile

LAB = pathlib.Path(__file__).resolve().parent.parent
ROOT = LAB.parent.parent

# The networks of the lab with their numbers and MTUs. Soft-RoCE is set up on the rails; the guests of Xen hosts and their
# clients are in the guests' network; the LAN carries everything else.
NETWORKS = {"lan": (0, 1500), "rail0": (1, 9000), "rail1": (2, 9000), "guests": (3, 1500)}
# The hosts there can be, in the order of their numbers; image/hosts gives them names.
HOST_NAMES = ("a", "b", "c", "d")


def cache_folder():
    """What survives a run, the same folder as that of tests/run."""
    folder = os.environ.get("HAVEN_CACHE")
    if not folder:
        home = os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
        folder = os.path.join(base, "haven-engine")
    path = pathlib.Path(folder).resolve()
    (path / "lab").mkdir(parents=True, exist_ok=True)
    return path


def address(host, network):
    """The IPv4 address of a host in a network."""
    return f"10.9.{NETWORKS[network][0]}.{HOST_NAMES.index(host) + 1}"


def mac(host, network):
    """The hardware address of a host's card in a network; the prefix is QEMU's own."""
    return f"52:54:00:00:{NETWORKS[network][0]:02x}:{HOST_NAMES.index(host) + 1:02x}"


def temporary_folder():
    """A new folder that its user removes; what users left that were killed is removed here."""
    for left in glob.glob(os.path.join(tempfile.gettempdir(), "haven-lab-*-*")):
        owner = left.rsplit("haven-lab-", 1)[1].split("-")[0]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            shutil.rmtree(left, ignore_errors=True)
    return pathlib.Path(tempfile.mkdtemp(prefix=f"haven-lab-{os.getpid()}-"))
