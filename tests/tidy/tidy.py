# SPDX-License-Identifier: Apache-2.0
"""Checks the rules of the tree: tidy.py [--root FOLDER] [--counts FILE].

Prints each violation as FILE:LINE: RULE: MESSAGE and exits with 1 if there is one. A rule is one case of the count.
"""

import argparse
import os
import sys

import rules
import source_text

# (rule, file, pattern in the line, reason)
ALLOWANCES = [
    ("banned_calls", "bench/bench_pair.cc", r"usleep\(static_cast<useconds_t>\(look_ns",
     "looks again for another process' progress, seldom enough not to compete with what is measured"),
    ("banned_calls", "engine/membership/arbiter_deadline.h", r"SleepFor\(std::min\(interval, Remaining",
     "a lock or a file of another host tells nobody that it has changed: looked at again, up to a deadline"),
    ("banned_calls", "engine/primary/copy_pool_test.cc", r"sleep_for",
     "workers go to sleep by themselves after a while, and nothing announces that they have"),
    ("banned_calls", "engine/synthetic/guest_life_test.cc", r"usleep\(static_cast<useconds_t>\(random",
     "kills at a random moment: the moment is the test's input"),
    ("banned_calls", "engine/synthetic/synthetic_benchmark.cc", r"usleep",
     "lets the guest write for a while between two measurements"),
    ("banned_calls", "engine/synthetic/testing.h", r"usleep",
     "looks again for another process' condition, up to a deadline"),
    ("banned_calls", "xen/backup/replica_trial.cc", r"usleep\(kPollUs\)",
     "a trial that looks again for another process' condition, up to a deadline"),
    ("datapath", "engine/backup/applier_datapath.cc", r"DataLossError", "only on the way out with an error"),
    ("datapath", "engine/primary/epoch_builder_datapath.cc", r"InternalError", "only on the way out with an error"),
    ("datapath", "engine/primary/epoch_builder_datapath.cc", r"chunks_\.resize", "within the capacity reserved for the largest epoch"),
    ("datapath", "engine/primary/epoch_plan_datapath.cc", r"push_back", "within the capacity reserved for the largest epoch"),
]


def check(root, allowances):
    """Returns {rule: [(file, line, message), ...]} and the number of files."""
    names = source_text.tree_files(root)
    tree = rules.Tree(root, {name: source_text.read(root, name) for name in names})
    found = {}
    for rule in rules.RULES:
        found[rule.__name__] = [
            (name, line, message)
            for name, line, message in rule(tree)
            if not allowances.covers(rule.__name__, name, tree.texts[name].split("\n")[line - 1])
        ]
    found["allowances"] = [
        (name, 1, f"the allowance for {rule} is not needed any more: {pattern}")
        for rule, name, pattern, _ in allowances.unused()
    ]
    return found, len(names)


def main():
    parser = argparse.ArgumentParser(description="Checks the rules of the tree.")
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    parser.add_argument("--counts", help="append the numbers of rules kept and broken to this file")
    options = parser.parse_args()
    found, files = check(options.root, rules.Allowances(ALLOWANCES))
    broken = 0
    for rule, places in found.items():
        broken += bool(places)
        for name, line, message in places:
            print(f"{name}:{line}: {rule}: {message}")
    print(f"{len(found) - broken} rules kept and {broken} broken in {files} files")
    if options.counts:
        with open(options.counts, "a", encoding="utf-8") as counts:
            counts.write(f"passed {len(found) - broken}\nfailed {broken}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
