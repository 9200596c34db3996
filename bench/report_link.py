# SPDX-License-Identifier: Apache-2.0
"""What the lab's scenario codec-link has left."""

from report_table import number, spread, table

# The place in the figures' names, and what auto by off may be there.
_PLACES = (("new pages, full link", "at most 1.05"), ("small changes, full link", ""), ("small changes, a tenth of it", "at most 0.5"))


def link_table(report):
    figures = {name: figure["value"] for name, figure in report["figures"].items()}
    lines = []
    for place, target in _PLACES:
        cells = [place]
        for mode in ("off", "auto"):
            cells += [_spread(figures, f"{place}: commit, {mode}"), number(figures[f"{place}: bytes a dirty page, {mode}"])]
        lines.append(cells + [_spread(figures, f"{place}: auto / off"), target])
    head = ["guest and link", "off: commit ms", "bytes per page", "auto: commit ms", "bytes per page", "auto / off", "target"]
    return table(head, lines) + f"\n\nThe full link carries {number(figures['the full link carries'])} Mb/s in emulation."


def _spread(figures, name):
    return spread({which: figures[f"{name}, {which}"] for which in ("low", "median", "high")})
