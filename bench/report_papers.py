# SPDX-License-Identifier: Apache-2.0
"""The figures of the HAVEN papers: what codec_bench and codec_engine_bench have left of them, in tables and in words."""

from report_codec import PLAIN, by_method, verdict
from report_table import join, number, spread, table

# What the papers' loads were like, in our traces.
LOADS = {"web": "network-heavy", "database": "mixed", "keyvalue": "memory-heavy", "compile": "memory-heavy", "idle": "idle"}
# Bytes a second of the papers' link.
PAPERS_LINK = 125e6
# What the papers say of FGBI: less type II downtime than Remus, and a slower guest, on average and at most, in per cent.
LESS_DOWNTIME = 70
SLOWER_MEAN = 8.21
SLOWER_MOST = 13

STEPS = {PLAIN: "dirty pages", "hash 64": "FGBI (hashes)", "fgbi 64": "FGBI (bytes)", "sharing 64": "+ sharing",
         "compression 64": "+ compression", "both 64": "both"}
# The papers' orderings: what should not be above what, and in words.
ORDERINGS = (
    ("hash 64", PLAIN, "FGBI (hashes) ≤ dirty pages"),
    ("fgbi 64", PLAIN, "FGBI (bytes) ≤ dirty pages"),
    ("sharing 64", "fgbi 64", "+ sharing ≤ FGBI (bytes)"),
    ("compression 64", "fgbi 64", "+ compression ≤ FGBI (bytes)"),
    ("both 64", "sharing 64", "both ≤ + sharing"),
    ("both 64", "compression 64", "both ≤ + compression"),
    ("fgbi 64", "fgbi 128", "FGBI (bytes): blocks of 64 ≤ blocks of 128"),
    ("fgbi 128", "fgbi 256", "FGBI (bytes): blocks of 128 ≤ blocks of 256"),
)
# Times are not exact: what differs by less is equal.
SAME_TIME = 0.01


def in_order(traces):
    return sorted(traces, key=lambda trace: list(LOADS).index(trace["trace"]))


def until_sent_us(result):
    """What a dirty page adds to a pause that lasts until everything is sent, as in the papers' systems, over their link."""
    encoded_us = 0 if result["method"] == PLAIN else 4096 / result["encode_gb_s"] / 1e3
    return encoded_us + result["bytes_per_page"] / PAPERS_LINK * 1e6


def papers_table(results):
    lines = []
    for trace in in_order(results["traces"]):
        seen = by_method(trace)
        pages = seen[PLAIN]
        for method, name in STEPS.items():
            result = seen[method]
            lines.append([LOADS[trace["trace"]], trace["trace"], name, number(result["bytes_per_page"]),
                          number(100 * (1 - result["bytes_per_page"] / pages["bytes_per_page"])), number(until_sent_us(result)),
                          number(100 * (1 - until_sent_us(result) / until_sent_us(pages)))])
    return (table(["load", "trace", "step", "bytes per page", "less %", "µs a page until sent", "less %"], lines)
            + "\n\n" + orderings(results) + "\n\n" + downtime(results))


def orderings(results):
    """Which of the papers' orderings hold, of bytes and of the pause, and where they do not."""
    lines = []
    for below, above, words in ORDERINGS:
        cells = [words]
        for measure, slack in ((lambda result: result["bytes_per_page"], 0), (until_sent_us, SAME_TIME)):
            exceptions = []
            for trace in in_order(results["traces"]):
                low, high = (measure(by_method(trace)[method]) for method in (below, above))
                if low > high * (1 + slack):
                    exceptions.append(f"{trace['trace']} ({number(low)}, {number(high)})")
            cells.append(f"not on {join(exceptions)}" if exceptions else "on all loads")
        lines.append(cells)
    return table(["ordering", "bytes per page", "µs a page until sent"], lines)


def downtime(results):
    """On which loads each step takes as much off the pause as the papers say."""
    said = []
    for method, name in STEPS.items():
        if method == PLAIN:
            continue
        loads = []
        for trace in in_order(results["traces"]):
            seen = by_method(trace)
            if until_sent_us(seen[method]) < (1 - LESS_DOWNTIME / 100) * until_sent_us(seen[PLAIN]):
                loads.append(trace["trace"])
        said.append(f"{name}: {join(loads) or 'none'}")
    return f"More than {LESS_DOWNTIME} % less until sent, as the papers say of FGBI's type II downtime against Remus, is reached on: {'; '.join(said)}."


def engine_table(results):
    lines = []
    for trace in in_order(results):
        for row in trace["modes"]:
            lines.append([trace["trace"], row["mode"], str(row["pages"] // row["epochs"]), number(row["bytes_per_page"]), number(row["pause_p50_us"]),
                          number(row["pause_p99_us"]), spread(row["pause_ratio"]), number(row["commit_p50_us"]), number(row["commit_mean_us"]),
                          spread(row["commit_ratio"]), spread(row["guest_percent"]), number(row["cpu_percent"])])
    head = ["trace", "mode", "pages an epoch", "bytes per page", "pause p50 µs", "pause p99 µs", "pause / off", "commit p50 µs",
            "commit mean µs", "commit / off", "guest slower %", "CPU of a core %"]
    return "\n\n".join((table(head, lines), _pauses(results), _automatic(results), _overhead(results)))


def _rows(results, mode):
    """(trace, row) of a mode."""
    return [(trace["trace"], row) for trace in in_order(results) for row in trace["modes"] if row["mode"] == mode]


def _pauses(results):
    rows = [(row["pause_ratio"]["median"], row["mode"], trace["trace"]) for trace in results for row in trace["modes"] if row["mode"] != "off"]
    (low, *fewest), (high, *most) = min(rows), max(rows)
    groups = [row["groups"] for trace in results for row in trace["modes"]]
    return (f"Medians of {min(groups)} to {max(groups)} groups of measurements. `pause / off` lies between {number(low)} (`{fewest[0]}` on {fewest[1]}) "
            f"and {number(high)} (`{most[0]}` on {most[1]}).")


def _automatic(results):
    used = [f"{trace} {row['coded_epochs']} of {row['epochs']}" for trace, row in _rows(results, "auto") if row["coded_epochs"]]
    rows = _rows(results, "auto")
    ratio, trace = max((row["commit_ratio"]["median"], trace) for trace, row in rows)
    coded = f"coded epochs on {join(used)}" if used else "coded none of its epochs"
    return f"`auto` {coded}; its commit takes at most {number(ratio)} of that of `off` ({trace})."


def _overhead(results):
    """Of the papers' own FGBI: by hashes."""
    rows = _rows(results, "hashes")
    slower = [row["guest_percent"]["median"] for _, row in rows]
    most, trace = max((row["guest_percent"]["median"], trace) for trace, row in rows)
    mean = sum(slower) / len(slower)
    return (f"FGBI by hashes, blocks of 64: the guest is {number(mean)} % slower on average over the loads and {number(most)} % at most ({trace}). The papers "
            f"say less than {SLOWER_MEAN} % and at most {SLOWER_MOST} %: {verdict(mean < SLOWER_MEAN and most <= SLOWER_MOST)}.")
