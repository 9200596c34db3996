# SPDX-License-Identifier: Apache-2.0
"""The comparison with `xl remus`: what bench/remus has left.

report_remus.py RESULTS_DIR says whether a promotion takes as long for every size of guest that was measured; exits with 1 if not.
"""

import json
import os
import re
import sys

from report_table import number, table

# The figure's name behind "haven-engine" or "xl remus", its unit there, and what the ratio is to be.
_ROWS = (
    (": suspended to resumed, p50", "ms", "at most 0.2"),
    (": suspended to resumed, p99", "ms", "at most 0.2"),
    (": gap of the guest's ticker, p50", "ms", "at most 0.6"),
    (": gap of the guest's ticker, p90", "ms", "at most 0.6"),
    (": gap of the guest's ticker, longest", "ms", "at most 0.6"),
    (", without a break: checkpoints", "/s", ""),
    (": client", "answers/s", ""),
    (": client, request to answer", "s", ""),
    (": on the wire, a checkpoint", "KiB", ""),
    (": CPU of the first domain, a checkpoint", "ms", ""),
    (": CPU of the backup's first domain, a checkpoint", "ms", ""),
)
_DECISIONS = ("haven-engine: decision to running", "xl remus: end of file to running")
# The longest promotion of all sizes, by the shortest: flat, but for what emulated processors are late.
_FLAT = 1.5


def load_remus(folder):
    """{MiB of the guest: {figure: value}}, of the runs that came to their end; empty if nothing was measured."""
    found = {}
    for name in os.listdir(folder):
        size = re.fullmatch(r"remus-(\d+)[.]json", name)
        if size:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                figures = json.load(file)["figures"]
            if all(name in figures for name in _DECISIONS):
                found[int(size[1])] = {figure: value["value"] for figure, value in figures.items()}
    return dict(sorted(found.items()))


def remus_table(results):
    """Of the smallest guest."""
    figures = next(iter(results.values()))
    lines = []
    for name, unit, target in _ROWS:
        ours, theirs = figures[f"haven-engine{name}"], figures[f"xl remus{name}"]
        others = [figures.get(f"{whose}{name}") for whose in ("unprotected", "haven-engine, output not held")]
        alone, open_ = ("" if value is None else number(value) for value in others)
        what = name.lstrip(":, ").replace(": ", ", ") + f", {unit}"
        lines.append([what, alone, number(ours), open_, number(theirs), number(ours / theirs) if theirs else "", target])
    head = ["figure", "unprotected", "haven-engine, output held", "haven-engine, output not held", "xl remus (output never held)", "ratio", "target"]
    text = (
        "The ratio is of haven-engine with its output held. `output not held`: without output commit, as `xl remus` is; the scenario leads packets "
        "past the buffer, which stays there empty. Both protect the guest from the same host to the same other one."
    )
    return table(head, lines) + "\n\n" + text


def _flatness(results):
    """The longest of our promotions by the shortest; 1 of a single size."""
    times = [figures[_DECISIONS[0]] for figures in results.values()]
    return max(times) / min(times)


def remus_promotion_table(results):
    lines = []
    for size, figures in results.items():
        ours, theirs = (figures[name] for name in _DECISIONS)
        lines.append([str(size), number(ours), number(theirs), number(ours / theirs) if theirs else ""])
    head = ["guest MiB", "haven-engine: grant to running, ms", "xl remus: end of file to running, ms", "ratio (target: at most 0.2)"]
    text = "The hosts are alike, but not the same: haven-engine promotes on one of them, and `xl remus` on the other."
    if len(results) > 1:
        text += (
            f" Over guests of {min(results)} to {max(results)} MiB, haven-engine's longest takes {number(_flatness(results))} times as long as "
            f"its shortest (target: flat, at most {_FLAT})."
        )
    return table(head, lines) + "\n\n" + text


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
        for name, key in (("stopped, p50", _ROWS[0][0]), ("p99", _ROWS[1][0]), ("whole gap, p50", _ROWS[2][0]), ("longest", _ROWS[4][0]))
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


def main(results_dir):
    """The exit code."""
    results = load_remus(results_dir)
    if len(results) < 2:
        print(f"{len(results)} sizes of guests were measured to the end: nothing can be said of how a promotion grows with them")
        return 1
    flatness = _flatness(results)
    sizes = ", ".join(f"{size} MiB {number(figures[_DECISIONS[0]])} ms" for size, figures in results.items())
    print(f"{'ok' if flatness <= _FLAT else 'FAILED'}: a promotion does not grow with the guest: {sizes}; {flatness:.2f} times, at most {_FLAT}")
    return 0 if flatness <= _FLAT else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
