# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/benchmarks.md and docs/benchmarks-codec.md and their charts: report.py RESULTS_DIR DOCS_DIR.

RESULTS_DIR is what bench/run has left. In these pages the text between `<!-- table NAME -->` and `<!-- end -->` is
replaced, with the conditions under which it was measured; the charts are docs/benchmarks-NAME.svg. A result that is
missing leaves its tables and charts as they are.
"""

import os
import re
import sys

import report_codec
import report_papers
from report_charts import charts
from report_fit import fit, log_spread, relative_fit
from report_link import link_table
from report_remus import load_remus, remus_phases_table, remus_promotion_table, remus_table
from report_table import SPREAD, at_spread, by_spread, load, load_codec, number, select, signed, table


def copy_table(rows):
    lines = [
        [str(a["pages"]), str(a["run"]), str(a["threads"]), number(e["copy_GB/s"]), number(e["memcpy_GB/s"]), number(e["ratio"])]
        for a, e in select(rows, "BM_CopyPages")
    ]
    return table(["pages", "run", "threads", "CopyPages GB/s", "memcpy GB/s", "ratio"], lines)


PAUSE_FORMULA = "pause = {:.1f} µs + {:.0f} ns × dirty page + {:.1f} µs × GiB of guest"


def pause_fit(rows):
    """(factors, {(guest, pages): what the fit says}) of the pauses of epochs that meet no other."""
    points = [((1.0, a["pages"], a["guest"]), e["real_time"]) for a, e in at_spread(rows, "BM_EpochAlone")]
    factors = relative_fit(points)
    return factors, {(int(x[2]), int(x[1])): sum(f * v for f, v in zip(factors, x)) for x, _ in points}


def pause_table(rows):
    factors, fitted = pause_fit(rows)
    lines = []
    ratios = []
    for a, e in at_spread(rows, "BM_EpochAlone"):
        says = fitted[a["guest"], a["pages"]]
        ratios.append(e["real_time"] / says)
        lines.append([str(a["guest"]), str(a["pages"]), number(e["real_time"]), number(e["pause_p99_us"]), number(e["pause_max_us"]),
                      str(int(e["epochs"])), number(e["bitmap_us"]), number(e["copy_us"]), number(says), signed(100 * (ratios[-1] - 1))])
    head = ["guest GiB", "dirty pages", "pause p50 µs", "p99 µs", "longest µs", "epochs", "bitmap µs", "copy µs", "fit µs", "off %"]
    text = (f"Fit, by least squares of the relative errors: {PAUSE_FORMULA.format(factors[0], factors[1] * 1000, factors[2])}. "
            f"Half of the {len(ratios)} points lie within {number(100 * log_spread(ratios, 0.5))} % of it, all within "
            f"{number(100 * log_spread(ratios, 1.0))} %.")
    spreads = [[str(a["one_of"]), number(e["real_time"]), number(e["copy_us"]), number(e["copy_us"] * 1000 / a["pages"])]
               for a, e in by_spread(rows, "BM_EpochAlone")]
    spread = ("The same epoch, 65536 pages of a guest of 8 GiB, its pages nearer together and farther apart:\n\n"
              + table(["one page of", "pause p50 µs", "copy µs", "copy ns per page"], spreads))
    return "\n\n".join((table(head, lines), text, spread))


def epochs_table(rows):
    lines = [
        [str(a["guest"]), str(a["pages"]), number(e["real_time"]), number(e["pause_p99_us"]), number(e["encode_us"]), number(e["wire_us"]),
         number(e["commit_us"]), number(e["epochs/s"]), number(e["Mpages/s"]), number(e["Mpages/s"] * 4.096)]
        for a, e in select(rows, "BM_EpochsWithoutBreak")
    ]
    head = ["guest GiB", "dirty pages", "pause p50 µs", "p99 µs", "encode µs", "wire µs", "commit µs", "epochs/s", "Mpages/s", "GB/s"]
    return table(head, lines)


def plan_table(rows):
    lines = []
    for a, e in select(rows, "BM_Plan"):
        if a["guest"] < 64:
            continue
        read = e["read_us"]
        lines.append([str(a["guest"]), str(a["pages"]), number(e["real_time"]), number(e["bitmap_us"]), number(e["plan_us"]), number(read),
                      "" if a["pages"] else number(e["real_time"] / (2 * read))])
    return table(["guest GiB", "dirty pages", "total µs", "bitmap µs", "plan µs", "read once µs", "total / read twice"], lines)


def backup_table(rows):
    lines = [
        [str(a["pages"]), str(a["run"]), str(a["recheck"]), str(a["threads"]), number(e["bytes_per_second"] / 1e9),
         number(e["crc_memcpy_GBps"]), number(e["ratio"])]
        for a, e in select(rows, "BM_VerifyAndApply")
    ]
    return table(["pages", "run", "recheck", "threads", "verify + apply GB/s", "CRC + memcpy GB/s", "ratio"], lines)


def promotion_line(held, arguments, entry):
    return [held, str(arguments["guest"]), str(arguments["pages"]), str(arguments["one_of"]), str(entry["iterations"]), number(entry["p50_ms"]),
            number(entry["max_ms"]), number(entry["apply_ms"]), number(entry["register_ms"]), number(entry["cut_off_ms"])]


def seal_table(rows):
    lines = [
        [what, str(a["chunks"]), str(a.get("threads", 1)), number(e[rate]), number(e["gcm_GBps"]), number(e["ratio"]), number(e["crc_GBps"])]
        for function, what, rate in (("BM_Seal", "seal", "seal_GBps"), ("BM_Open", "open", "open_GBps"))
        for a, e in select(rows, function)
    ]
    return table(["what", "chunks", "threads", "GB/s", "AES-256-GCM alone GB/s", "ratio", "CRC32C alone GB/s"], lines)


def promotion_table(rows):
    """Applier held back first, then not; last what the worst case says: proportional to the epoch, flat over the guest."""
    held = sorted(select(rows, "BM_PromotionUnapplied"), key=lambda row: tuple(row[0][key] for key in ("one_of", "guest", "pages")))
    lines = [promotion_line("yes", a, e) for a, e in held] + [promotion_line("no", a, e) for a, e in select(rows, "BM_Promotion")]
    head = ["applier held", "guest GiB", "pages of the last epoch", "one page of", "rounds", "promotion p50 ms", "longest ms", "of it applying ms",
            "register ms", "cut-off ms"]
    points = [(a["guest"], a["pages"], e["apply_ms"], e["p50_ms"]) for a, e in at_spread(rows, "BM_PromotionUnapplied")]
    (base, page), r2 = fit([((1.0, pages), apply) for _, pages, apply, _ in points])
    same = [p50 for _, pages, _, p50 in points if pages == 65536]
    (_, gib), _ = fit([((1.0, guest), p50) for guest, pages, _, p50 in points if pages == 65536])
    text = (f"With one page of {SPREAD} dirty: applying = {base:.2f} ms + {page * 1e6:.0f} ns × page of the last epoch (R² = {r2:.4f}). Over guests "
            f"of 1 to 8 GiB with the same last epoch of 65536 pages: {min(same):.1f} to {max(same):.1f} ms, {gib:+.2f} ms per GiB.")
    return table(head, lines) + "\n\n" + text


def fabric_table(rows):
    memcpy = {e["name"].split("/")[1]: e["bytes_per_second"] for _, e in select(rows, "BM_Memcpy")}
    lines = []
    for name in ("BM_PostWrite", "BM_PostWriteList"):
        for _, e in select(rows, name):
            size = e["name"].split("/")[1]
            rate = e["bytes_per_second"]
            lines.append([name[3:], str(int(size) // 1024), number(rate / 1e9), number(memcpy[size] / 1e9), number(rate / memcpy[size])])
    trips = [
        ["processes" if name == "BM_RoundTripProcesses" else "threads", "sleeping" if a["sleeping"] else "polling", number(e["real_time"] / 1000)]
        for name in ("BM_RoundTripProcesses", "BM_RoundTripThreads") for a, e in select(rows, name)
    ]
    return (table(["call", "KiB per write", "GB/s", "memcpy GB/s", "ratio"], lines) + "\n\n"
            + table(["between two", "waiting by", "round trip of 8 bytes µs"], trips))


# What a table's chart shows.
CHARTS = {
    "copy": ("copy", "Copying dirty pages, against memcpy"),
    "pause": ("pause", "Pause per epoch by dirty pages"),
    "promotion": ("promotion", "Promotion time by pages of the last epoch and by guest size"),
    "remus-promotion": ("remus", "Pauses and promotion beside xl remus"),
}

PAGES = ("benchmarks.md", "benchmarks-codec.md")

# The result that a table is made from, and how.
TABLES = {
    "copy": ("harvest", copy_table),
    "pause": ("epoch", pause_table),
    "epochs": ("epoch", epochs_table),
    "promotion": ("promotion", promotion_table),
    "plan": ("plan", plan_table),
    "backup": ("backup", backup_table),
    "seal": ("seal", seal_table),
    "fabric": ("fabric", fabric_table),
    "codec-facts": ("codec", report_codec.facts_table),
    "codec-factor": ("codec", report_codec.factor_table),
    "codec-best": ("codec", report_codec.best_table),
    "codec": ("codec", report_codec.codec_table),
    "codec-decode": ("codec", report_codec.decode_table),
    "codec-blocks": ("codec", report_codec.blocks_table),
    "codec-packing": ("codec", report_codec.packing_table),
    "codec-detection": ("codec", report_codec.detection_table),
    "codec-papers": ("codec", report_papers.papers_table),
    "codec-engine": ("codec_engine", report_papers.engine_table),
    "codec-link": ("codec_link", link_table),
    "remus": ("remus", remus_table),
    "remus-phases": ("remus", remus_phases_table),
    "remus-promotion": ("remus", remus_promotion_table),
}


def conditions(folder, name):
    """One line for the reader."""
    with open(os.path.join(folder, name + ".conditions"), encoding="utf-8") as file:
        return "Measured: " + "; ".join(line.strip() for line in file) + "."


def put(pages, name, content):
    """Puts a table where its name stands, in whichever of the pages {file: text} that is."""
    pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    places = [page for page, text in pages.items() if pattern.search(text)]
    if len(places) != 1:
        sys.exit(f"there are {len(places)} pages with a place for the table {name}, of {', '.join(pages)}")
    pages[places[0]] = pattern.sub(lambda match: match[1] + content + "\n" + match[2], pages[places[0]])


def main(results_dir, docs):
    results = {name: load(results_dir, name) for name in ("harvest", "plan", "backup", "seal", "fabric", "epoch", "promotion")}
    results.update({name: load_codec(results_dir, name) for name in ("codec", "codec_engine", "codec_link")})
    results["remus"] = load_remus(results_dir)
    pages = {}
    for page in PAGES:
        with open(os.path.join(docs, page), encoding="utf-8") as file:
            pages[page] = file.read()
    for name, (source, make) in TABLES.items():
        if not results[source]:
            continue
        content = make(results[source]) + "\n\n" + conditions(results_dir, source)
        if name in CHARTS:
            chart, title = CHARTS[name]
            content += f"\n\n![{title}](benchmarks-{chart}.svg)"
        put(pages, name, content)
    for page, text in pages.items():
        with open(os.path.join(docs, page), "w", encoding="utf-8") as file:
            file.write(text)
    charts(docs, results)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
