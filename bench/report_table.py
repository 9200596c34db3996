# SPDX-License-Identifier: Apache-2.0
"""Results read, and tables written in Markdown."""

import json
import os


def load(folder, name):
    """The benchmarks of one JSON file as a list of (function, {argument: number}, benchmark); empty if missing."""
    path = os.path.join(folder, name + ".json")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)["benchmarks"]
    rows = []
    for entry in entries:
        parts = entry["name"].split("/")
        arguments = {}
        for part in parts[1:]:
            key, _, value = part.partition(":")
            if value.isdigit():
                arguments[key] = int(value)
        rows.append((parts[0], arguments, entry))
    return rows


def load_codec(folder, name):
    """What codec_bench, codec_engine_bench or the lab's codec-link has left; empty if missing."""
    path = os.path.join(folder, name + ".json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def select(rows, function):
    return [(arguments, entry) for name, arguments, entry in rows if name == function]


# The spread of dirty pages (`one_of`) at which guests and epochs of several sizes are compared.
SPREAD = 4


def at_spread(rows, function):
    return [(arguments, entry) for arguments, entry in select(rows, function) if arguments["one_of"] == SPREAD]


def by_spread(rows, function):
    """Those with the guest and the epoch of the ones at other spreads, in the order of the spread."""
    entries = select(rows, function)
    apart = [(a["guest"], a["pages"]) for a, _ in entries if a["one_of"] != SPREAD]
    return sorted(((a, e) for a, e in entries if (a["guest"], a["pages"]) in apart), key=lambda row: row[0]["one_of"])


def table(head, lines):
    rows = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    return "\n".join(rows + ["| " + " | ".join(line) + " |" for line in lines])


def number(value):
    """Three digits that count, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def spread(values):
    """The median, and between which values the middle half lies."""
    return f"{number(values['median'])} ({number(values['low'])} .. {number(values['high'])})"


def join(words):
    """a, b and c."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def signed(value):
    return f"{value:+.0f}"
