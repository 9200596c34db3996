# SPDX-License-Identifier: Apache-2.0
"""What the logs of a scenario that failed tell of guests in trouble. Why a client was not answered is often there."""

import re

# By a host's hypervisor, of a guest that ended so: here the emulator's work as a rule (docs/lab.md, Traps).
_OF_HYPERVISOR = re.compile(r"d\d+v\d+ Triple fault|RIP: .*|CONTEXT: .*")
# By a guest's kernel.
_OF_KERNEL = re.compile(r"^\[ *\d+\.\d+\] .*(?:Out of memory|Kernel panic|BUG: |Oops: |general protection).*", re.MULTILINE)


def troubles(console, files):
    """Lines that tell of some: from a host's console, and from the files that were collected of it, its guests' consoles among them."""
    return (_OF_HYPERVISOR.findall(console) if "Triple fault" in console else []) + _OF_KERNEL.findall(files)
