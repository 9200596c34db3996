# SPDX-License-Identifier: Apache-2.0
"""Prints the table of docs/benchmarks-rdma.md about failover: report_failover.py REPORT.

REPORT is the report.json that a run of rdma-soak or rdma-failover has left.
"""

import json
import re
import sys

from report_table import number, table

_FIGURE = re.compile(r"(.+): (rounds|(?:detection|promotion|output), (?:median|longest))$")
_COLUMNS = {
    "detection, median": "detection median s",
    "detection, longest": "longest",
    "promotion, median": "promotion median s",
    "promotion, longest": "longest",
    "output, median": "first output median s",
    "output, longest": "longest",
}


def failover_table(report):
    """A line for each kind of cut; a kind after which nobody was promoted has no times."""
    kinds = {}
    for name, figure in report["figures"].items():
        match = _FIGURE.match(name)
        if match:
            kinds.setdefault(match[1], {})[match[2]] = figure["value"]
    lines = [
        [kind, str(found["rounds"]), *(number(found[column]) if column in found else "" for column in _COLUMNS)]
        for kind, found in kinds.items()
    ]
    return table(["what was cut", "rounds", *_COLUMNS.values()], lines)


def main(path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    print(failover_table(report))
    print(f"\n`{report['scenario']}`, seed {report['seed']}: {'passed' if report['passed'] else 'FAILED'} in {report['seconds']:.0f} s.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
