# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/benchmarks.md and its charts: report.py RESULTS_DIR DOCS_DIR.

RESULTS_DIR is what bench/run has left. In benchmarks.md the text between `<!-- table NAME -->` and `<!-- end -->` is
replaced; the charts are docs/benchmarks-NAME.svg. A result that is missing leaves its tables as they are.
"""

import json
import os
import re
import subprocess
import sys


def load(folder, name):
    """The benchmarks of one JSON file as a list of (function, {argument: number}, benchmark); empty if missing."""
    path = os.path.join(folder, name + ".json")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)["benchmarks"]
    rows = []
    for entry in entries:
        parts = entry["name"].split("/")
        arguments = {}
        for part in parts[1:]:
            key, _, value = part.partition(":")
            if value.isdigit():
                arguments[key] = int(value)
        rows.append((parts[0], arguments, entry))
    return rows


def select(rows, function):
    return [(arguments, entry) for name, arguments, entry in rows if name == function]


def table(head, lines):
    rows = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    return "\n".join(rows + ["| " + " | ".join(line) + " |" for line in lines])


def number(value):
    """Three digits that count, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def solve(matrix, right):
    """The solution of a small system of linear equations (Gauss)."""
    size = len(right)
    rows = [list(matrix[i]) + [right[i]] for i in range(size)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, size):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i])]
    result = [0.0] * size
    for i in reversed(range(size)):
        result[i] = (rows[i][size] - sum(rows[i][j] * result[j] for j in range(i + 1, size))) / rows[i][i]
    return result


def fit(points):
    """Least squares of y = a + b * pages + c * guest over (pages, guest, y); with R squared."""
    rows = [(1.0, pages, guest) for pages, guest, _ in points]
    values = [y for _, _, y in points]
    matrix = [[sum(row[i] * row[j] for row in rows) for j in range(3)] for i in range(3)]
    right = [sum(row[i] * y for row, y in zip(rows, values)) for i in range(3)]
    factors = solve(matrix, right)
    mean = sum(values) / len(values)
    errors = sum((y - sum(f * x for f, x in zip(factors, row))) ** 2 for row, y in zip(rows, values))
    return factors, 1 - errors / sum((y - mean) ** 2 for y in values)


def copy_table(rows):
    lines = [
        [str(a["pages"]), str(a["run"]), str(a["threads"]), number(e["copy_GB/s"]), number(e["memcpy_GB/s"]), number(e["ratio"])]
        for a, e in select(rows, "BM_CopyPages")
    ]
    return table(["pages", "run", "threads", "CopyPages GB/s", "memcpy GB/s", "ratio"], lines)


def epoch_table(rows):
    lines = [
        [str(a["guest"]), str(a["pages"]), number(e["real_time"]), number(e["pause_p99_us"]), number(e["bitmap_us"]),
         number(e["copy_us"]), number(e["commit_us"]), number(e["epochs/s"]), number(e["Mpages/s"])]
        for a, e in select(rows, "BM_EpochOverShm")
    ]
    head = ["guest GiB", "dirty pages", "pause p50 µs", "pause p99 µs", "bitmap µs", "copy µs", "commit µs", "epochs/s", "Mpages/s"]
    points = [(a["pages"], a["guest"], e["real_time"]) for a, e in select(rows, "BM_EpochOverShm")]
    (base, page, guest), r2 = fit(points)
    text = (f"Fit: pause = {base:.0f} µs + {page * 1000:.0f} ns × dirty pages + {guest:.0f} µs × GiB of guest "
            f"(R² = {r2:.4f}).")
    return table(head, lines) + "\n\n" + text


def plan_table(rows):
    lines = [
        [str(a["guest"]), str(a["pages"]), number(e["real_time"]), number(e["bitmap_us"]), number(e["plan_us"])]
        for a, e in select(rows, "BM_Plan") if a["guest"] >= 64
    ]
    return table(["guest GiB", "dirty pages", "total µs", "bitmap µs", "plan µs"], lines)


def backup_table(rows):
    lines = [
        [str(a["pages"]), str(a["run"]), str(a["recheck"]), str(a["threads"]), number(e["bytes_per_second"] / 1e9),
         number(e["crc_memcpy_GBps"]), number(e["ratio"])]
        for a, e in select(rows, "BM_VerifyAndApply")
    ]
    return table(["pages", "run", "recheck", "threads", "verify + apply GB/s", "CRC + memcpy GB/s", "ratio"], lines)


def promotion_table(rows):
    seen = {(a["guest"], a["pages"]): e for a, e in select(rows, "BM_Promotion")}
    lines = [
        [str(guest), str(pages), number(e["p50_ms"]), number(e["max_ms"]), number(e["register_ms"]), number(e["cut_off_ms"])]
        for (guest, pages), e in sorted(seen.items())
    ]
    return table(["guest GiB", "pages per epoch", "promotion p50 ms", "longest ms", "register ms", "cut-off ms"], lines)


def fabric_table(rows):
    memcpy = {e["name"].split("/")[1]: e["bytes_per_second"] for _, e in select(rows, "BM_Memcpy")}
    lines = []
    for name in ("BM_PostWrite", "BM_PostWriteList"):
        for _, e in select(rows, name):
            size = e["name"].split("/")[1]
            rate = e["bytes_per_second"]
            lines.append([name[3:], str(int(size) // 1024), number(rate / 1e9), number(memcpy[size] / 1e9), number(rate / memcpy[size])])
    return table(["call", "KiB per write", "GB/s", "memcpy GB/s", "ratio"], lines)


CODEC_PLAIN = "plain (no codec)"
CODEC_PEERS = ("raw pages", "plain (no codec)", "xbzrle", "lz4", "igzip -1", "zstd -1")
CODEC_STEPS = ("hash", "fgbi", "fgbi+share", "fgbi+runs", "fgbi+lz4", "fgbi+igzip", "fgbi+zstd", "all none", "all lz4", "all igzip", "all zstd")


def load_codec(folder, name):
    """What codec_bench or codec_engine_bench has left; empty if missing."""
    path = os.path.join(folder, name + ".json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def codec_table(results):
    lines = []
    for trace in results["traces"]:
        seen = {result["method"]: result for result in trace["results"]}
        for method in CODEC_PEERS + tuple(f"{step} 64" for step in CODEC_STEPS):
            result = seen[method]
            decode = result["decode_gb_s"]
            lines.append([trace["trace"], method, number(result["bytes_per_page"]), number(result["encode_gb_s"]),
                          number(decode) if decode else ""])
    return table(["trace", "method", "bytes per page", "encode GB/s", "decode + apply GB/s"], lines)


def codec_facts_table(results):
    lines = [
        [trace["trace"], str(trace["pages"]), number(100 * trace["known_share"]), number(100 * trace["unchanged_share"]),
         number(100 * trace["zero_share"]), number(trace["bound_bytes"])]
        for trace in results["traces"]
    ]
    return table(["trace", "dirty pages", "with a version before %", "of these bytes unchanged %", "bytes zero %", "new bytes a page"], lines)


def codec_blocks_table(results):
    lines = []
    for trace in results["traces"]:
        seen = {result["method"]: result["bytes_per_page"] for result in trace["results"]}
        for step in ("fgbi", "fgbi+share", "fgbi+zstd", "all zstd"):
            lines.append([trace["trace"], step] + [number(seen[f"{step} {size}"]) for size in (64, 128, 256)])
    memory = ", ".join(f"{number(mib)} MiB with blocks of {size}" for size, mib in zip((64, 128, 256), results["hash_mib_per_gib"]))
    return table(["trace", "step", "64", "128", "256"], lines) + f"\n\nHashes of 1 GiB of guest memory: {memory}."


def codec_best_table(results):
    """For each peer: of what is at least as fast as it, what needs the fewest bytes."""
    lines = []
    for trace in results["traces"]:
        # Without the codec the engine sends plain runs: that is one of its levels. igzip is none.
        ours = [result for result in trace["results"]
                if result["method"] == CODEC_PLAIN or (result["method"] not in CODEC_PEERS and "igzip" not in result["method"])]
        for peer in trace["results"]:
            if peer["method"] not in CODEC_PEERS or peer["method"] == CODEC_PLAIN:
                continue
            best = min((one for one in ours if one["encode_gb_s"] >= peer["encode_gb_s"]),
                       key=lambda one: one["bytes_per_page"], default=None)
            cells = [trace["trace"], peer["method"], number(peer["bytes_per_page"]), number(peer["encode_gb_s"])]
            if best is None:
                lines.append(cells + ["none", "", ""])
                continue
            lines.append(cells + [best["method"], number(best["bytes_per_page"]), number(best["encode_gb_s"])])
    return table(["trace", "peer", "bytes per page", "encode GB/s", "ours, no slower", "bytes per page", "encode GB/s"], lines)


# What the papers' loads were like, in our traces.
CODEC_LOADS = {"web": "network-heavy", "database": "mixed", "keyvalue": "memory-heavy", "compile": "memory-heavy", "idle": "idle"}
# Bytes a second of the papers' link.
CODEC_PAPERS_LINK = 125e6


def codec_papers_table(results):
    """A page's part of a pause that lasts until everything is sent, as in the papers' systems, over their link."""
    lines = []
    for trace in sorted(results["traces"], key=lambda trace: list(CODEC_LOADS).index(trace["trace"])):
        seen = {result["method"]: result for result in trace["results"]}
        pages = None
        for method, name in ((CODEC_PLAIN, "dirty pages"), ("hash 64", "FGBI (hashes)"), ("fgbi 64", "FGBI (bytes)"),
                             ("fgbi+share 64", "+ sharing"), ("fgbi+zstd 64", "+ compression"), ("all zstd 64", "both, and byte runs")):
            result = seen[method]
            sent_us = result["bytes_per_page"] / CODEC_PAPERS_LINK * 1e6
            paused_us = sent_us + (0 if method == CODEC_PLAIN else 4096 / result["encode_gb_s"] / 1e3)
            pages = pages or (result["bytes_per_page"], paused_us)
            lines.append([CODEC_LOADS[trace["trace"]], trace["trace"], name, number(result["bytes_per_page"]), number(100 * (1 - result["bytes_per_page"] / pages[0])),
                          number(paused_us), number(100 * (1 - paused_us / pages[1]))])
    return table(["load", "trace", "step", "bytes per page", "less %", "µs a page until sent", "less %"], lines)


def codec_engine_table(results):
    lines = []
    for trace in sorted(results, key=lambda trace: list(CODEC_LOADS).index(trace["trace"])):
        for row in trace["modes"]:
            lines.append([trace["trace"], row["mode"], str(row["pages"] // row["epochs"]), number(row["bytes_per_page"]), number(row["pause_p50_us"]),
                          number(row["pause_p99_us"]), number(row["commit_p50_us"]), number(row["commit_mean_us"]), number(row["guest_percent"]),
                          number(row["cpu_percent"])])
    return table(["trace", "mode", "pages an epoch", "bytes per page", "pause p50 µs", "pause p99 µs", "commit p50 µs", "commit mean µs",
                  "guest slower %", "CPU of a core %"], lines)


def codec_detection_table(results):
    lines = []
    for row in results["detection"]:
        best = max((row[name], name) for name in ("avx512", "avx2", "sse2") if name in row)
        lines.append([str(row["kib"]), number(row["memcmp_gb_s"]), best[1], number(best[0]), number(best[0] / row["memcmp_gb_s"]),
                      number(row["hash_64"]), number(row["hash_128"]), number(row["hash_256"])])
    return table(["KiB of each version", "memcmp GB/s", "kernel", "GB/s", "ratio", "hash 64", "hash 128", "hash 256"], lines)


def plot(docs, name, commands, data):
    """One chart by gnuplot; `data` are its inline blocks, one after the other."""
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


def lines_by(entries, key, x, y):
    """{value of key: inline data of (x, y)}."""
    blocks = {}
    for arguments, entry in entries:
        blocks.setdefault(arguments[key], []).append((arguments[x], y(entry)))
    return {value: "".join(f"{a} {b}\n" for a, b in sorted(points)) for value, points in blocks.items()}


def charts(docs, results):
    pause = lines_by(select(results["pair"], "BM_EpochOverShm"), "guest", "pages", lambda e: e["real_time"] / 1000)
    if pause:
        plots = ", ".join(f"'-' with linespoints title '{guest} GiB'" for guest in sorted(pause))
        plot(docs, "pause", "set xlabel 'dirty pages'\nset ylabel 'pause, ms (p50)'\nset format x '%.0s%c'\n"
             f"plot {plots}", [pause[guest] for guest in sorted(pause)])
    copy = [(a, e) for a, e in select(results["harvest"], "BM_CopyPages") if a["run"] == 1]
    if copy:
        blocks = lines_by(copy, "threads", "pages", lambda e: e["ratio"])
        plots = ", ".join(f"'-' with linespoints title '{threads} threads'" for threads in sorted(blocks))
        plot(docs, "copy", "set logscale x 2\nset yrange [0:*]\nset xlabel 'dirty pages, none adjacent'\n"
             f"set ylabel 'CopyPages / scattered memcpy'\nplot {plots}, 0.9 dashtype 2 title 'target'",
             [blocks[threads] for threads in sorted(blocks)])
    flat = [(a, e) for a, e in select(results["pair"], "BM_Promotion") if a["pages"] == 65536]
    if flat:
        block = "".join(f"{a['guest']} {e['p50_ms']}\n" for a, e in flat)
        plot(docs, "promotion", "set yrange [0:*]\nset xlabel 'guest, GiB'\nset ylabel 'cut-off to running copy, ms (p50)'\n"
             "plot '-' with linespoints title '65536 dirty pages per epoch'", [block])


TABLES = {
    "copy": ("harvest", copy_table),
    "epoch": ("pair", epoch_table),
    "promotion": ("pair", promotion_table),
    "plan": ("plan", plan_table),
    "backup": ("backup", backup_table),
    "fabric": ("fabric", fabric_table),
    "codec-facts": ("codec", codec_facts_table),
    "codec": ("codec", codec_table),
    "codec-best": ("codec", codec_best_table),
    "codec-blocks": ("codec", codec_blocks_table),
    "codec-detection": ("codec", codec_detection_table),
    "codec-papers": ("codec", codec_papers_table),
    "codec-engine": ("codec_engine", codec_engine_table),
}


def main(results_dir, docs):
    results = {name: load(results_dir, name) for name in ("harvest", "plan", "backup", "fabric", "pair")}
    results.update({name: load_codec(results_dir, name) for name in ("codec", "codec_engine")})
    path = os.path.join(docs, "benchmarks.md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    texts = {name: make(results[source]) for name, (source, make) in TABLES.items() if results[source]}
    with open(os.path.join(results_dir, "conditions"), encoding="utf-8") as file:
        texts["conditions"] = "".join(f"- {line}" for line in file).rstrip()
    for name, content in texts.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"{path}: there is no place for the table {name}")
        text = pattern.sub(lambda match, content=content: match[1] + content + "\n" + match[2], text)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    charts(docs, results)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
