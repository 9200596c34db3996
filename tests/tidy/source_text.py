# SPDX-License-Identifier: Apache-2.0
"""Reading the tree: which files belong to it, and C++ text without its comments and literals."""

import os
import re
import subprocess

# Folders that hold data in formats of their own: fuzzers' seeds and recorded inputs.
_DATA_FOLDERS = ("corpus", "testdata")

_CPP_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'',
    re.DOTALL,
)


def tree_files(root):
    """The paths, relative to `root`, of all text files of the tree: what git tracks or would track."""
    listing = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if listing.returncode == 0:
        names = [name for name in listing.stdout.decode().split("\0") if name]
    else:
        names = []
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name != ".git"]
            names += [os.path.relpath(os.path.join(folder, name), root) for name in files]
    return sorted(name for name in set(names) if _is_text(root, name))


def _is_text(root, name):
    if any(part in _DATA_FOLDERS for part in name.split("/")[:-1]):
        return False
    path = os.path.join(root, name)
    if not os.path.isfile(path) or os.path.islink(path):
        return False
    with open(path, "rb") as file:
        return b"\0" not in file.read(8192)


def read(root, name):
    """The text of a file; bytes that are not UTF-8 become a replacement character."""
    with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def code_only(text):
    """C++ text in which comments and literals are blanked; line numbers stay."""

    def blank(match):
        token = match.group(0)
        kept = '""' if token[0] in 'R"' else "' '" if token[0] == "'" else ""
        return kept + "\n" * token.count("\n")

    return _CPP_TOKEN.sub(blank, text)


def line_of(text, offset):
    """The number, from 1, of the line at a character offset."""
    return text.count("\n", 0, offset) + 1
