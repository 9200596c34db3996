# SPDX-License-Identifier: Apache-2.0
"""The tables of what codec_bench and codec_engine_bench have left."""

from report_table import number, table

CODEC_PLAIN = "plain (no codec)"
CODEC_PEERS = ("raw pages", "plain (no codec)", "xbzrle", "lz4", "igzip -1", "zstd -1")
CODEC_STEPS = ("hash", "fgbi", "fgbi+share", "fgbi+runs", "fgbi+lz4", "fgbi+igzip", "fgbi+zstd", "all none", "all lz4", "all igzip", "all zstd")


def works(method):
    """Whether a method of the engine hashes or compresses: it does more than compare with the version before."""
    return method not in CODEC_PEERS and "igzip" not in method and method.split(" ")[0] not in ("fgbi", "fgbi+runs")


def codec_table(results):
    lines = []
    for trace in results["traces"]:
        seen = {result["method"]: result for result in trace["results"]}
        for method in CODEC_PEERS + tuple(f"{step} 64" for step in CODEC_STEPS):
            result = seen[method]
            decode = result["decode_gb_s"]
            lines.append([trace["trace"], method, number(result["bytes_per_page"]), number(result["encode_gb_s"]),
                          number(decode) if decode else ""])
    ratio, name = min((result["decode_gb_s"] / result["encode_gb_s"], f"`{result['method']}` on {trace['trace']}")
                      for trace in results["traces"] for result in trace["results"] if works(result["method"]))
    return (table(["trace", "method", "bytes per page", "encode GB/s", "decode + apply GB/s"], lines)
            + f"\n\nLeast decode + apply by encode where encoding hashes or compresses, all block sizes: {number(ratio)}, {name}.")


def facts_table(results):
    lines = [
        [trace["trace"], str(trace["pages"]), number(100 * trace["known_share"]), number(100 * trace["unchanged_share"]),
         number(100 * trace["zero_share"]), number(trace["bound_bytes"])]
        for trace in results["traces"]
    ]
    return table(["trace", "dirty pages", "with a version before %", "of these bytes unchanged %", "bytes zero %", "new bytes a page"], lines)


def blocks_table(results):
    lines = []
    for trace in results["traces"]:
        seen = {result["method"]: result["bytes_per_page"] for result in trace["results"]}
        for step in ("fgbi", "fgbi+share", "fgbi+zstd", "all zstd"):
            lines.append([trace["trace"], step] + [number(seen[f"{step} {size}"]) for size in (64, 128, 256)])
    memory = ", ".join(f"{number(mib)} MiB with blocks of {size}" for size, mib in zip((64, 128, 256), results["hash_mib_per_gib"]))
    return table(["trace", "step", "64", "128", "256"], lines) + f"\n\nHashes of 1 GiB of guest memory: {memory}."


def best_table(results):
    """For each peer: of what is at least as fast as it, what needs the fewest bytes."""
    lines = []
    good = 0
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
            good += best["bytes_per_page"] <= peer["bytes_per_page"]
            lines.append(cells + [best["method"], number(best["bytes_per_page"]), number(best["encode_gb_s"])])
    return (table(["trace", "peer", "bytes per page", "encode GB/s", "ours, no slower", "bytes per page", "encode GB/s"], lines)
            + f"\n\nOurs needs no more bytes than the peer in {good} of {len(lines)} rows.")


# What the papers' loads were like, in our traces.
CODEC_LOADS = {"web": "network-heavy", "database": "mixed", "keyvalue": "memory-heavy", "compile": "memory-heavy", "idle": "idle"}
# Bytes a second of the papers' link.
CODEC_PAPERS_LINK = 125e6


def papers_table(results):
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


def spread(values):
    """The median, and between which values the middle half lies."""
    return f"{number(values['median'])} ({number(values['low'])} .. {number(values['high'])})"


def engine_table(results):
    lines = []
    for trace in sorted(results, key=lambda trace: list(CODEC_LOADS).index(trace["trace"])):
        for row in trace["modes"]:
            lines.append([trace["trace"], row["mode"], str(row["pages"] // row["epochs"]), number(row["bytes_per_page"]), number(row["pause_p50_us"]),
                          number(row["pause_p99_us"]), spread(row["pause_ratio"]), number(row["commit_p50_us"]), number(row["commit_mean_us"]),
                          spread(row["commit_ratio"]), spread(row["guest_percent"]), number(row["cpu_percent"])])
    return table(["trace", "mode", "pages an epoch", "bytes per page", "pause p50 µs", "pause p99 µs", "pause / off", "commit p50 µs",
                  "commit mean µs", "commit / off", "guest slower %", "CPU of a core %"], lines)


def detection_table(results):
    lines = []
    for row in results["detection"]:
        best = max((row[name], name) for name in ("avx512", "avx2", "sse2") if name in row)
        lines.append([str(row["kib"]), number(row["memcmp_gb_s"]), best[1], number(best[0]), number(best[0] / row["memcmp_gb_s"]),
                      number(row["hash_64"]), number(row["hash_128"]), number(row["hash_256"])])
    return table(["KiB of each version", "memcmp GB/s", "kernel", "GB/s", "ratio", "hash 64", "hash 128", "hash 256"], lines)
