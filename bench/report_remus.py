# SPDX-License-Identifier: Apache-2.0
"""The comparison with `xl remus`: what bench/remus has left."""

import json
import os
import re

from report_table import number, table

# The figure's name behind "haven-engine" or "xl remus", its unit there, and what the ratio is to be.
_ROWS = (
    (": suspended to resumed, p50", "ms", "at most 0.2"),
    (": suspended to resumed, p99", "ms", "at most 0.2"),
    (": gap of the guest's ticker, p50", "ms", "at most 0.6"),
    (": gap of the guest's ticker, longest", "ms", "at most 0.6"),
    (", without a break: checkpoints", "/s", ""),
    (": client", "answers/s", ""),
    (": client, request to answer", "s", ""),
    (": on the wire, a checkpoint", "KiB", ""),
    (": CPU of the first domain, a checkpoint", "ms", ""),
    (": CPU of the backup's first domain, a checkpoint", "ms", ""),
)
_DECISIONS = ("haven-engine: decision to running", "xl remus: end of file to running")


def load_remus(folder):
    """{MiB of the guest: {figure: value}}; empty if nothing was measured."""
    found = {}
    for name in os.listdir(folder):
        size = re.fullmatch(r"remus-(\d+)[.]json", name)
        if size:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                figures = json.load(file)["figures"]
            found[int(size[1])] = {figure: value["value"] for figure, value in figures.items()}
    return dict(sorted(found.items()))


def remus_table(results):
    """Of the smallest guest."""
    figures = next(iter(results.values()))
    lines = []
    for name, unit, target in _ROWS:
        ours, theirs = figures[f"haven-engine{name}"], figures[f"xl remus{name}"]
        alone = figures.get(f"unprotected{name}")
        what = name.lstrip(":, ").replace(": ", ", ") + f", {unit}"
        lines.append([what, number(alone) if alone else "", number(ours), number(theirs), number(ours / theirs) if theirs else "", target])
    return table(["figure", "unprotected", "haven-engine", "xl remus", "ratio", "target"], lines)


def remus_promotion_table(results):
    lines = []
    for size, figures in results.items():
        ours, theirs = (figures[name] for name in _DECISIONS)
        lines.append([str(size), number(ours), number(theirs), number(ours / theirs)])
    return table(["guest MiB", "haven-engine: grant to running, ms", "xl remus: end of file to running, ms", "ratio (target: at most 0.2)"], lines)


def remus_phases_table(results):
    """Power cut to the first answer, of the smallest guest."""
    figures = next(iter(results.values()))
    phases = {name.split(": ", 1)[1]: value for name, value in figures.items() if name.startswith("power cut: ")}
    return table(["from the power cut", "ms"], [[name, number(value * 1000)] for name, value in phases.items()])


def remus_chart(results):
    """The chart's commands, with their data."""
    figures = next(iter(results.values()))
    bars = "".join(
        f'"{name}" {figures["haven-engine" + key]} {figures["xl remus" + key]}\n'
        for name, key in (("stopped, p50", _ROWS[0][0]), ("p99", _ROWS[1][0]), ("whole gap, p50", _ROWS[2][0]))
    )
    points = "".join(f"{size} {values[_DECISIONS[0]]} {values[_DECISIONS[1]]}\n" for size, values in results.items())
    return (
        f"$bars << end\n{bars}end\n$points << end\n{points}end\n"
        "set multiplot layout 1,2\nset key above\nset logscale y\nset style data histograms\nset style fill solid 0.7\n"
        "set ylabel 'guest stopped by a checkpoint, ms'\n"
        "plot $bars using 2:xtic(1) title 'haven-engine', $bars using 3 title 'xl remus'\n"
        "set ylabel 'decision to running guest, ms'\nset xlabel 'guest, MiB'\nset xtics 128\n"
        "plot $points using 1:2 with linespoints title 'haven-engine', $points using 1:3 with linespoints title 'xl remus'"
    )
