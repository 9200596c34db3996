# SPDX-License-Identifier: Apache-2.0
"""Which folder may include which: the arrows of docs/ARCHITECTURE.md.

Tests and benchmarks are free to include what they need; production code is not.
"""

import re

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)

_BASE = ("engine/base/",)
_REPLICA = _BASE + ("engine/replica/",)
# The seam itself (transport/fabric.h and the headers beside it), not an implementation behind it.
_SEAM = ("transport/*.h",)
_PROTOCOL = _REPLICA + _SEAM + ("engine/codec/", "engine/membership/")
_CONTROL = _PROTOCOL + ("engine/primary/", "engine/backup/")

# Folder of the including file: what it may include besides itself. The longest folder that matches counts.
_ALLOWED = {
    "engine/base/": (),
    "engine/replica/": _BASE,
    "engine/codec/": _REPLICA,
    "engine/membership/": _REPLICA,
    "engine/primary/": _PROTOCOL,
    "engine/backup/": _PROTOCOL,
    "engine/control/": _CONTROL,
    "engine/synthetic/": _CONTROL,
    # The one place that picks implementations.
    "engine/cli/": ("engine/", "transport/", "xen/"),
    "transport/": _REPLICA,
    "transport/shm/": _CONTROL + ("engine/control/",),
    "transport/sim/": _CONTROL + ("engine/control/",),
    "transport/tls/": _CONTROL + ("engine/control/",),
    "transport/verbs/": _CONTROL + ("engine/control/", "transport/tls/"),
    "xen/": _CONTROL + ("engine/control/",),
}


def _matches(include, pattern):
    if pattern.endswith("*.h"):
        folder = pattern[: -len("*.h")]
        return include.startswith(folder) and "/" not in include[len(folder) :]
    return include.startswith(pattern)


def is_test(name):
    """True for files that only tests and benchmarks are made of."""
    return name.startswith(("tests/", "bench/")) or re.search(r"_(test|benchmark|testing)\.(cc|h)$", name) is not None


def violations(name, text):
    """Yields (line, message) for each include of `name` against the arrows."""
    if is_test(name):
        return
    folders = [folder for folder in _ALLOWED if name.startswith(folder)]
    if not folders:
        return
    folder = max(folders, key=len)
    for match in _INCLUDE.finditer(text):
        include = match.group(1)
        ours = include.startswith(("engine/", "transport/", "xen/", "bench/", "tests/"))
        if not ours or include.startswith(folder):
            continue
        if not any(_matches(include, pattern) for pattern in _ALLOWED[folder]):
            line = text.count("\n", 0, match.start(1)) + 1
            yield line, f"{folder} must not include {include}: dependencies point from cli down to base"
