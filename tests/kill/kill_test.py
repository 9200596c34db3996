#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills engines, guards, sessions and listeners of protected pairs over shared memory, at random moments.

kill_test.py --program HAVEN-ENGINE [--rounds N] [--seed N] [--only-kind KIND] [--self-test]

Several rounds run in one pair of nodes in a scratch directory of its own, two pairs side by side. A pair that fails is
kept in --keep, with its logs; seed and pair are printed. Choices follow from the seed; times are those of the machine.
"""

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time

import kill_breakages
import kill_processes
import kill_rounds
import kill_world
from kill_checks import Violation

_PAIRS_AT_ONCE = 2
_ROUNDS_PER_PAIR = 10
_TAIL_LINES = 25
# A healthy engine that the machine lets wait for longer than the detection time is deposed: rightly, but not often.
_UNPROVOKED_SHARE = 0.02


def _tail(directory):
    lines = []
    for name in sorted(os.listdir(directory)):
        if name.endswith(".log"):
            with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
                lines += [f"--- {name}"] + file.read().splitlines()[-_TAIL_LINES:]
    return "\n".join("      " + line for line in lines)


class Pair:
    """One world from its start to its end. Results are dictionaries, written as one JSON line each."""

    def __init__(self, options, number, out):
        self.options = options
        self.directory = os.path.join(options.work, f"pair{number}")
        self.number = number
        self.out = out
        self.world = kill_world.World(options.program, self.directory, options.mark)

    def say(self, **fields):
        self.out.write(json.dumps(dict(fields, pair=self.number)) + "\n")
        self.out.flush()

    def rounds(self, count):
        done = 0
        kind = None
        try:
            self.world.start()
            kinds = [self.options.only_kind] if self.options.only_kind else kill_rounds.KINDS
            rounds = kill_rounds.Rounds(self.world, random.Random(f"{self.options.seed}/{self.number}"), kinds)
            while done < count:
                kind = rounds.choose()
                outcome = rounds.run(kind)
                done += 1
                self.say(result="passed", **vars(outcome))
            kind = None
            self.world.stop()
            self.say(result="stopped")
        except Violation as violation:
            self._failed(f"round {done + 1}, kind {kind}: {violation}" if kind else f"after {done} rounds: {violation}")
        finally:
            self._clean()

    def breakage(self, name, break_it, check):
        try:
            self.world.start()
            node = self.world.expect_protected(0)
            break_it(self.world, node)
            self._failed(f"breakage {name} went unnoticed")
        except Violation as violation:
            if violation.check == check:
                self.say(result="caught", name=name, message=str(violation))
            else:
                self._failed(f"breakage {name} was to be caught by [{check}]: {violation}")
        finally:
            self._clean()

    def _failed(self, message):
        for process in kill_processes.processes_under(self.directory):
            message += f"\n      process {process.pid}: {' '.join(process.words)[:200]}"
        message += "\n" + _tail(self.directory)
        self.say(result="failed", message=message)
        # Before its processes die: they would go on writing.
        self._kill()
        os.makedirs(self.options.keep, exist_ok=True)
        kept = os.path.join(self.options.keep, f"seed{self.options.seed}-pair{self.number}")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.directory, kept, ignore=lambda folder, names: [
            name for name in names if not os.path.isfile(os.path.join(folder, name))
            and not os.path.isdir(os.path.join(folder, name))])

    def _kill(self):
        def gone():
            left = kill_processes.processes_under(self.directory)
            for process in left:
                kill_processes.kill_now(process.pid)
            self.world.children.reap()
            return not left

        kill_processes.wait_until(gone, kill_world.WAIT_S)

    def _clean(self):
        self._kill()
        self.world.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def _work(options, jobs, first, out):
    """Every _PAIRS_AT_ONCE-th job, in a process of its own."""
    kill_processes.become_subreaper()
    for number in range(first, len(jobs), _PAIRS_AT_ONCE):
        jobs[number](Pair(options, number + options.first_pair, out))


def _start_worker(options, jobs, first):
    """Returns the worker's pid and the pipe of its results."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid > 0:
        os.close(writer)
        return pid, os.fdopen(reader, encoding="utf-8")
    code = 1
    try:
        os.close(reader)
        with os.fdopen(writer, "w", encoding="utf-8") as out:
            _work(options, jobs, first, out)
        code = 0
    except KeyboardInterrupt:
        pass
    except BaseException:  # pylint: disable=broad-except
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _figures(passed, seconds):
    print(f"{len(passed)} kills in {seconds:.0f} s, {sum(r['promoted'] for r in passed)} promotions, "
          f"{sum(r['unprovoked'] for r in passed)} unprovoked ones")
    for kind in kill_rounds.KINDS:
        mine = [result for result in passed if result["kind"] == kind]
        if mine:
            print(f"  {kind}: {len(mine)} kills, {sum(r['early'] for r in mine)} of them early, "
                  f"{sum(r['promoted'] for r in mine)} promotions")
    for key, what in (("running_ms", "kill to running copy"), ("output_ms", "kill to its first packet")):
        values = [result[key] for result in passed if result[key] is not None]
        if values:
            print(f"  {what}: p50 {_quantile(values, .5):.1f} ms, p99 {_quantile(values, .99):.1f} ms, "
                  f"max {max(values):.1f} ms (detection time {kill_world.DETECT_MS} ms)")


def _jobs(options):
    if options.self_test:
        return [lambda pair, breakage=breakage: pair.breakage(*breakage) for breakage in kill_breakages.BREAKAGES]
    counts = [min(_ROUNDS_PER_PAIR, options.rounds - at) for at in range(0, options.rounds, _ROUNDS_PER_PAIR)]
    return [lambda pair, count=count: pair.rounds(count) for count in counts]


def _collect(options, workers):
    """The results of all workers, which are printed as they come. A worker that dies is a failure."""
    results = []
    for pid, pipe in workers:
        for line in pipe:
            result = json.loads(line)
            results.append(result)
            if result["result"] == "failed":
                print(f"FAILED seed {options.seed} pair {result['pair']}: {result['message']}", flush=True)
            elif result["result"] == "caught":
                print(f"caught {result['name']}: {result['message']}", flush=True)
        if os.waitpid(pid, 0)[1] != 0:
            results.append({"result": "failed"})
            print("FAILED: a worker died", flush=True)
    return results


def _run(options):
    """The results of all workers, and the figures."""
    jobs = _jobs(options)
    started = time.monotonic()
    workers = [_start_worker(options, jobs, first) for first in range(min(_PAIRS_AT_ONCE, len(jobs)))]
    try:
        results = _collect(options, workers)
    except KeyboardInterrupt:
        # They end their pairs themselves.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for pid, _ in workers:
            kill_processes.kill_now(pid, signal.SIGTERM)
        for pid, _ in workers:
            kill_processes.wait_until(lambda pid=pid: kill_processes.find_process(pid) is None, kill_world.WAIT_S)
        raise
    passed = [result for result in results if result["result"] == "passed"]
    if passed:
        _figures(passed, time.monotonic() - started)
    unprovoked = sum(result["unprovoked"] for result in passed)
    if unprovoked > max(1, _UNPROVOKED_SHARE * len(passed)):
        results.append({"result": "failed"})
        print(f"FAILED: {unprovoked} promotions that no kill explains")
    return results


def _count(options, results):
    good = sum(result["result"] in ("passed", "caught", "stopped") for result in results)
    bad = sum(result["result"] == "failed" for result in results)
    print(f"{good} passed, {bad} failed")
    if options.counts:
        with open(options.counts, "a", encoding="ascii") as file:
            file.write(f"passed {good}\nfailed {bad}\n")
    return bad == 0 and good > 0


def _parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the haven-engine binary")
    parser.add_argument("--rounds", type=int, default=200, help="kills in all (200)")
    parser.add_argument("--seed", type=int, default=None, help="of the choices; drawn if not given")
    parser.add_argument("--pair", type=int, default=None, help="only this pair of the seed")
    parser.add_argument("--only-kind", choices=kill_rounds.KINDS, help="kill nothing else")
    parser.add_argument("--self-test", action="store_true", help="break things on purpose; each must be caught")
    parser.add_argument("--work", help="folder for scratch directories; a temporary one if not given")
    parser.add_argument("--keep", help="folder for what has failed; next to the scratch directories if not given")
    parser.add_argument("--counts", help="file to which \"passed N\" and \"failed N\" are appended")
    options = parser.parse_args()
    options.program = os.path.abspath(options.program)
    options.seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    options.mark = f"{os.getpid()}-{secrets.token_hex(8)}"
    options.first_pair = 0
    if options.pair is not None:
        options.first_pair = options.pair
        options.rounds = _ROUNDS_PER_PAIR
    return options


def main():
    options = _parse()
    print(f"seed {options.seed}", flush=True)
    temporary = None
    if options.work is None:
        options.work = temporary = tempfile.mkdtemp(prefix="haven-kill.")
    options.work = os.path.abspath(options.work)
    options.keep = os.path.abspath(options.keep or f"{options.work}-failed")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    good = False
    try:
        good = _count(options, _run(options))
    except KeyboardInterrupt:
        print("stopped by a signal")
    finally:
        left = kill_processes.marked_processes(options.mark)
        if not kill_processes.kill_marked(options.mark):
            print(f"processes that do not die: {kill_processes.marked_processes(options.mark)}")
        if left and good:
            print(f"FAILED: processes {left} were left behind")
            good = False
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
