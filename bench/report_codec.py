# SPDX-License-Identifier: Apache-2.0
"""What codec_bench has left: tables, and what follows from them in words."""

from report_table import join, number, table

PLAIN = "plain (no codec)"
RAW = "raw pages"
PEERS = (RAW, PLAIN, "xbzrle", "lz4", "igzip -1", "zstd -1")
# The engine's modes of the papers' ablation, the first of them also by hashes, and the levels of its policy.
LEVELS = ("level blocks", "level lz4", "level dense")
MODES = ("hash", "fgbi", "sharing", "compression", "both") + LEVELS
# Steps between these, which no operator can choose.
PARTS = ("fgbi+runs", "fgbi+lz4", "fgbi+zstd")
IGZIP = ("fgbi+igzip", "level blocks+igzip")
UNPACKED = {"level lz4": "level lz4 unpacked", "level dense": "level dense unpacked"}
SIZES = (64, 128, 256)

# What encoding does beyond comparing with the version before: (in words, steps, what decode + apply by encode has to be).
CLASSES = (
    ("finds changes by hashes", ("hash",), 2),
    ("looks blocks up by hashes", ("sharing", "level blocks"), 2),
    ("compresses", ("compression", "both", "level lz4", "level dense", "fgbi+lz4", "fgbi+zstd"), 2),
    ("compresses by igzip, which is in no level", IGZIP, None),
    ("neither hashes nor compresses", ("fgbi", "fgbi+runs"), None),
)

# Of traces that write more than they read: times fewer bytes than page tracking without a codec.
WRITE_HEAVY = {"keyvalue": 3, "database": 3}

# Of finding changed lines, against memcmp of both versions.
DETECTION = 0.8


def step_of(method):
    """A method without the size of its blocks."""
    step, _, size = method.rpartition(" ")
    return step if step and size.isdigit() else method


def by_method(trace):
    return {result["method"]: result for result in trace["results"]}


def verdict(met):
    return "met" if met else "not met"


def facts_table(results):
    lines = [
        [trace["trace"], str(trace["pages"]), number(100 * trace["known_share"]), number(100 * trace["unchanged_share"]),
         number(100 * trace["zero_share"]), number(trace["bound_bytes"])]
        for trace in results["traces"]
    ]
    return table(["trace", "dirty pages", "with a version before %", "of these bytes unchanged %", "bytes zero %", "new bytes a page"], lines)


def factor_table(results):
    """The fewest bytes of a level, against page tracking without a codec."""
    lines = []
    said = []
    for trace in results["traces"]:
        seen = by_method(trace)
        best = min((seen[f"{step} 64"] for step in MODES if step.startswith("level")), key=lambda one: one["bytes_per_page"])
        tracking = seen[PLAIN]["bytes_per_page"]
        factor = tracking / best["bytes_per_page"]
        target = WRITE_HEAVY.get(trace["trace"])
        lines.append([trace["trace"], number(tracking), best["method"], number(best["bytes_per_page"]), number(factor),
                      f"at least {target}" if target else ""])
        if target:
            said.append(f"{trace['trace']} {number(factor)} times fewer, {verdict(factor >= target)}")
    return (table(["trace", "page tracking, bytes per page", "smallest level", "bytes per page", "times fewer", "target"], lines)
            + f"\n\nWrite-heavy loads: {join(said)}.")


def best_table(results):
    """For each peer: of what is at least as fast as it, what needs the fewest bytes."""
    lines = []
    rows = []
    for trace in results["traces"]:
        best_peer = min((one for one in trace["results"] if one["method"] in PEERS), key=lambda one: one["bytes_per_page"])["method"]
        # Without the codec the engine sends plain runs: that is one of its levels.
        ours = [one for one in trace["results"] if one["method"] == PLAIN or step_of(one["method"]) in MODES + PARTS]
        for peer in trace["results"]:
            if peer["method"] not in PEERS or peer["method"] == PLAIN:
                continue
            fast = [one for one in ours if one["encode_gb_s"] >= peer["encode_gb_s"]]
            best = min(fast, key=lambda one: (one["bytes_per_page"], step_of(one["method"]) in PARTS), default=None)
            cells = [trace["trace"], peer["method"], number(peer["bytes_per_page"]), number(peer["encode_gb_s"])]
            lines.append(cells + ([best["method"], number(best["bytes_per_page"]), number(best["encode_gb_s"])] if best else ["none", "", ""]))
            if peer["method"] == RAW:
                continue
            good = [one for one in fast if one["bytes_per_page"] <= peer["bytes_per_page"]]
            rows.append({"name": f"{peer['method']} on {trace['trace']}", "met": bool(good), "best_peer": peer["method"] == best_peer,
                         "by_choice": any(step_of(one["method"]) not in PARTS for one in good)})
    header = ["trace", "peer", "bytes per page", "encode GB/s", "ours, no slower", "bytes per page", "encode GB/s"]
    return table(header, lines) + "\n\n" + verdicts(results, rows)


def verdicts(results, rows):
    """What the rows of the best table say together. By choice: by what an operator can choose, a mode or a level."""
    beaten = [row["name"] for row in rows if row["best_peer"] and not row["by_choice"]]
    missed = [row["name"] for row in rows if not row["met"]]
    said = [
        "In a mode or at a level never more bytes than the peer that needs the fewest on a trace, at its speed or faster: "
        + (f"not met against {join(beaten)}." if beaten else "met on all traces."),
        f"Of all peers, each at its speed, ours needs no more bytes in {len(rows) - len(missed)} of {len(rows)} rows; "
        + f"in {sum(row['by_choice'] for row in rows)} of them so does a mode or a level, which an operator can choose. "
        + f"Not in: {join(missed) or 'none'}.",
        "The other way round, where a peer is at least as fast as a level of the policy and needs fewer bytes: "
        + f"{join(beaten_levels(results)) or 'nowhere'}.",
        f"Rows of {RAW} are not counted: the peer copies each page once, while `{PLAIN}` looks for zero pages and sends the others from where "
        + "they were captured, as the engine does.",
    ]
    return " ".join(said)


def beaten_levels(results):
    """Levels of the policy, with the engine's smallest blocks, for which a peer would be the better choice on a trace."""
    return [f"{peer['method']} against {level['method']} on {trace['trace']}"
            for trace in results["traces"] for level in trace["results"]
            if step_of(level["method"]) in LEVELS and level["method"].endswith(f" {SIZES[0]}")
            for peer in trace["results"]
            if peer["method"] in PEERS and peer["encode_gb_s"] >= level["encode_gb_s"]
            and peer["bytes_per_page"] < level["bytes_per_page"]]


def codec_table(results):
    lines = []
    for trace in results["traces"]:
        seen = by_method(trace)
        for method in PEERS + tuple(f"{step} 64" for step in MODES + PARTS + IGZIP):
            result = seen[method]
            decode = result["decode_gb_s"]
            lines.append([trace["trace"], method, number(result["bytes_per_page"]), number(result["encode_gb_s"]),
                          number(decode) if decode else ""])
    return table(["trace", "method", "bytes per page", "encode GB/s", "decode + apply GB/s"], lines)


def decode_table(results):
    """For each class of encodings, all block sizes: where decode + apply is least against encode."""
    lines = []
    said = []
    for words, steps, target in CLASSES:
        ratio, cell = min((result["decode_gb_s"] / result["encode_gb_s"], f"`{result['method']}` on {trace['trace']}")
                          for trace in results["traces"] for result in trace["results"]
                          if step_of(result["method"]) in steps and result["decode_gb_s"])
        lines.append([words, ", ".join(f"`{step}`" for step in steps), number(ratio), cell, f"at least {target}" if target else ""])
        if target:
            said.append(f"{words}: {verdict(ratio >= target)}")
    return table(["encoding", "steps", "least decode + apply by encode", "in", "target"], lines) + f"\n\nWhere encoding {'; '.join(said)}."


def blocks_table(results):
    lines = []
    for trace in results["traces"]:
        seen = by_method(trace)
        for step in MODES + PARTS:
            cells = [seen[f"{step} {size}"] for size in SIZES]
            lines.append([trace["trace"], step] + [number(cell["bytes_per_page"]) for cell in cells] + [number(cell["encode_gb_s"]) for cell in cells])
    memory = ", ".join(f"{number(mib)} MiB with blocks of {size}" for size, mib in zip(SIZES, results["hash_mib_per_gib"]))
    head = ["trace", "step"] + [f"{size}: bytes" for size in SIZES] + [f"{size}: GB/s" for size in SIZES]
    return table(head, lines) + f"\n\nHashes of 1 GiB of guest memory: {memory}."


def packing_table(results):
    """What comes of leaving the zero words of the literals out before they are compressed."""
    lines = []
    for trace in results["traces"]:
        seen = by_method(trace)
        for step, unpacked in UNPACKED.items():
            packed, whole = seen[f"{step} 64"], seen[f"{unpacked} 64"]
            lines.append([trace["trace"], step, number(whole["bytes_per_page"]), number(packed["bytes_per_page"]),
                          number(packed["bytes_per_page"] / whole["bytes_per_page"]), number(whole["encode_gb_s"]), number(packed["encode_gb_s"]),
                          number(whole["encode_gb_s"] / packed["encode_gb_s"])])
    return table(["trace", "level", "with zero words: bytes per page", "without", "ratio", "with: encode GB/s", "without", "time, ratio"], lines)


def detection_table(results):
    lines = []
    least = None
    for row in results["detection"]:
        memcmp = row["memcmp_gb_s"]
        speed, kernel = max((row[name], name) for name in ("avx512", "avx2", "sse2") if name in row)
        least = min(least or (speed / memcmp, row["kib"]), (speed / memcmp, row["kib"]))
        lines.append([str(row["kib"]), number(memcmp), kernel, number(speed), number(speed / memcmp)]
                     + [f"{number(row[f'hash_{size}'])} ({number(2 * row[f'hash_{size}'] / memcmp)})" for size in SIZES])
    head = ["KiB of each version", "memcmp GB/s", "kernel", "GB/s", "ratio"] + [f"hash {size} GB/s (pages by memcmp's)" for size in SIZES]
    return (table(head, lines) + f"\n\nComparing both versions, least ratio: {number(least[0])}, at {least[1]} KiB; target {DETECTION}: "
            + f"{verdict(least[0] >= DETECTION)}.")
