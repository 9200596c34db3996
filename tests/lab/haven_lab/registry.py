# SPDX-License-Identifier: Apache-2.0
"""The scenarios there are: functions of the files in scenarios/ with @scenario in front."""

import dataclasses
import importlib
import typing

from haven_lab import settings
from haven_lab.machine import HostSpec

_SCENARIOS = {}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """`function(lab, report, **parameters)`; `parameters` holds the defaults of what --NAME VALUE changes. One that is
    `alone` wants the machine for itself: it measures, or keeps every processor busy."""

    name: str
    about: str
    hosts: tuple
    in_tests_run: bool
    parameters: dict
    function: typing.Callable
    alone: bool = False


# Two hosts with two rails, and a third on the LAN for the arbiter or a client.
PAIR_AND_ARBITER = (HostSpec("a"), HostSpec("b"), HostSpec("c", networks=("lan",), memory_mb=512))


def scenario(name, about, hosts=PAIR_AND_ARBITER, in_tests_run=True, alone=False, **parameters):
    """Registers the function below it."""

    def register(function):
        if name in _SCENARIOS:
            raise ValueError(f"two scenarios are called {name}")
        busy = alone or any(spec.kind == "xen" for spec in hosts)  # A hypervisor's hosts are never idle.
        _SCENARIOS[name] = Scenario(name, about, tuple(hosts), in_tests_run, parameters, function, busy)
        return function

    return register


def scenarios():
    """All of them by name, in the order of names."""
    for path in sorted((settings.LAB / "scenarios").glob("*.py")):
        if path.name != "__init__.py":
            importlib.import_module(f"scenarios.{path.stem}")
    return dict(sorted(_SCENARIOS.items()))


def next_to_start(waiting, running, jobs):
    """Which of the waiting scenarios may join the running ones; None: none yet. Those that want to be alone come last."""
    if len(running) >= jobs or any(one.alone for one in running):
        return None
    able = [one for one in waiting if not one.alone] or ([] if running else waiting)
    return able[0] if able else None


def chosen_parameters(chosen, words):
    """Splits `--NAME VALUE` words into the parameters of a scenario; ValueError names what does not fit."""
    values = dict(chosen.parameters)
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for option, value in zip(words[::2], [*words[1::2], None][: len(words[::2])]):
        name = option[2:].replace("-", "_")
        if not option.startswith("--") or name not in values:
            raise ValueError(f"{chosen.name} has no parameter {option}")
        if value is None:
            raise ValueError(f"{option} needs a value")
        values[name] = type(values[name])(value)
    return values
