# SPDX-License-Identifier: Apache-2.0
"""The charts of docs/benchmarks.md, by gnuplot."""

import os
import subprocess

from report_remus import remus_chart
from report_table import at_spread, select


def _plot(docs, name, commands, data):
    """One chart; `data` are its inline blocks, one after the other."""
    script = (
        f"set terminal svg size 760,420 font 'sans,13' background 'white'\nset output '{docs}/benchmarks-{name}.svg'\n"
        "set grid\nset key left top\n" + commands + "\n" + "".join(block + "e\n" for block in data)
    )
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
    path = os.path.join(docs, f"benchmarks-{name}.svg")
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip() for line in file]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def _lines_by(entries, key, x, y):
    """{value of key: inline data of (x, y)}."""
    blocks = {}
    for arguments, entry in entries:
        blocks.setdefault(arguments[key], []).append((arguments[x], y(entry)))
    return {value: "".join(f"{a} {b}\n" for a, b in sorted(points)) for value, points in blocks.items()}


def _titles(blocks, unit):
    return ", ".join(f"'-' with linespoints title '{value} {unit}'" for value in sorted(blocks))


def charts(docs, results):
    pause = _lines_by(at_spread(results["epoch"], "BM_EpochAlone"), "guest", "pages", lambda e: e["real_time"] / 1000)
    if pause:
        _plot(docs, "pause", "set xlabel 'dirty pages'\nset ylabel 'pause, ms (p50)'\nset format x '%.0s%c'\n"
              f"plot {_titles(pause, 'GiB')}", [pause[guest] for guest in sorted(pause)])
    copy = [(a, e) for a, e in select(results["harvest"], "BM_CopyPages") if a["run"] == 1]
    if copy:
        blocks = _lines_by(copy, "threads", "pages", lambda e: e["ratio"])
        _plot(docs, "copy", "set logscale x 2\nset yrange [0:*]\nset xlabel 'dirty pages, none adjacent'\n"
              f"set ylabel 'CopyPages / scattered memcpy'\nplot {_titles(blocks, 'threads')}, 0.9 dashtype 2 title 'target'",
              [blocks[threads] for threads in sorted(blocks)])
    held = at_spread(results["promotion"], "BM_PromotionUnapplied")
    if held:
        epochs = sorted({(a["pages"], e["p50_ms"]) for a, e in held if a["guest"] == 4})
        guests = sorted({(a["guest"], e["p50_ms"]) for a, e in held if a["pages"] == 65536})
        _plot(docs, "promotion", "set multiplot layout 1,2\nset yrange [0:*]\nset ylabel 'cut-off to running copy, ms (p50)'\n"
              "set xlabel 'pages of the last epoch, unapplied'\nset format x '%.0s%c'\nset xtics 65536\n"
              "plot '-' with linespoints title 'guest of 4 GiB'\n"
              + "".join(f"{pages} {ms}\n" for pages, ms in epochs)
              + "e\nset xlabel 'guest, GiB'\nset format x '%g'\nset xtics 2\n"
              "plot '-' with linespoints title '65536 pages'", ["".join(f"{guest} {ms}\n" for guest, ms in guests)])
    if results["remus"]:
        _plot(docs, "remus", remus_chart(results["remus"]), [])
