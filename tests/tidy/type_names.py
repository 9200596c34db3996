# SPDX-License-Identifier: Apache-2.0
"""The types that a C++ file defines for the whole program, as far as its text tells."""

import re

from source_text import code_only, line_of

_TOKEN = re.compile(
    r"\bnamespace\b(?P<space>[\s\w:]*)\{"
    r"|\benum\s+(?:class\s+|struct\s+)?(?P<enum>\w+)[^;{}()]*\{"
    r"|\b(?:class|struct|union)\s+(?:\[\[[^\]]*\]\]\s*|alignas\([^)]*\)\s*)?(?P<type>\w+)(?:\s+final)?(?:\s*:(?!:)[^;{}()]*)?\s*\{"
    r"|(?P<open>\{)|(?P<close>\})"
)


def definitions(text):
    """(qualified name, line) of each type defined in a named namespace, not within another type or a function."""
    code = code_only(text)
    spaces = []  # Of each open brace: the name of a namespace, None if it is something else.
    for match in _TOKEN.finditer(code):
        if match["close"]:
            if spaces:
                spaces.pop()
            continue
        if match["space"] is not None:
            spaces.append(match["space"].strip())
            continue
        name = match["enum"] or match["type"]
        # In an unnamed namespace, or within a type or function, a name is nobody else's business.
        if name and all(spaces):
            yield "::".join([*spaces, name]), line_of(code, match.start())
        spaces.append(None)
