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
    """What codec_bench or codec_engine_bench has left; empty if missing."""
    path = os.path.join(folder, name + ".json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def select(rows, function):
    return [(arguments, entry) for name, arguments, entry in rows if name == function]


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


def signed(value):
    return f"{value:+.0f}"
