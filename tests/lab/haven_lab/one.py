# SPDX-License-Identifier: Apache-2.0
"""Runs one scenario in a process of its own: one.py PLAN, a file of JSON written by tests/lab/run.

Exits with 0 if the scenario passed and 1 if not; leaves report.json and, if it failed or the plan says so, the logs in the
results folder of the plan.
"""

import json
import os
import pathlib
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# pylint: disable=wrong-import-position
from haven_lab import registry
from haven_lab.interrupt import Interrupted, raise_on_signals
from haven_lab.lab import Lab
from haven_lab.parts import Parts
from haven_lab.report import Report
from haven_lab.troubles import troubles


def say(text):
    print(text, flush=True)


def run(plan):
    """The report of the scenario."""
    chosen = registry.scenarios()[plan["scenario"]]
    parameters = registry.chosen_parameters(chosen, plan["words"])
    results = pathlib.Path(plan["results"])
    parts = Parts.from_json(plan["parts"])
    report = Report(chosen.name, say, plan["seed"])
    try:
        with Lab(chosen.hosts, parts, results, plan["cold"], plan["seed"]) as lab:
            report.step(f"{len(lab.hosts)} hosts are up")
            report.figure("hosts up", lab.start_s, "s")
            try:
                chosen.function(lab, report, **parameters)
            except Exception as error:  # pylint: disable=broad-except
                report.fail(error)
                say(traceback.format_exc())
            if plan["keep"] or not report.passed:
                lab.collect(results)
            if not report.passed:
                for host in lab.hosts:
                    console, files = (results / f"{host.name}.{suffix}" for suffix in ("console", "files"))
                    for line in troubles(console.read_text(errors="replace"), files.read_text() if files.exists() else ""):
                        report.step(f"{host.name}: {line}")
            over_s = time.monotonic()
        report.figure("fixed cost of the hosts", lab.start_s + time.monotonic() - over_s, "s")
    except Exception as error:  # pylint: disable=broad-except
        report.fail(error)
        say(traceback.format_exc())
    report.write(results / "report.json")
    return report


def main():
    raise_on_signals()
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    try:
        return 0 if run(plan).passed else 1
    except Interrupted as error:
        say(f"{error}; everything is cleaned up")
        return 1


if __name__ == "__main__":
    sys.exit(main())
