# SPDX-License-Identifier: Apache-2.0
"""What the pages of benchmarks say follows from the results, whatever these are."""

import unittest

import report
import report_codec
import report_link
import report_papers

_TRACES = ("compile", "database", "idle", "keyvalue", "web")
_METHODS = report_codec.PEERS + tuple(
    f"{step} {size}" for step in report_codec.MODES + report_codec.PARTS + report_codec.IGZIP for size in report_codec.SIZES
) + tuple(f"{step} 64" for step in report_codec.UNPACKED.values())


def codec(changes=()):
    """Results of codec_bench in which every target is met, but for {(trace, method): {figure: value}}."""
    traces = []
    for name in _TRACES:
        results = []
        for method in _METHODS:
            peer = method in report_codec.PEERS
            result = {"trace": name, "method": method, "bytes_per_page": 4000.0 if peer else 400.0, "encode_gb_s": 1.0,
                      "decode_gb_s": 0.0 if peer else 3.0}
            result.update(dict(changes).get((name, method), {}))
            results.append(result)
        traces.append({"trace": name, "pages": 10, "known_share": 1.0, "unchanged_share": 0.9, "zero_share": 0.5, "bound_bytes": 100.0,
                       "results": results})
    detection = [{"kib": kib, "memcmp_gb_s": 10.0, "avx2": 9.0, "sse2": 5.0, "hash_64": 5.0, "hash_128": 6.0, "hash_256": 7.0} for kib in (256, 8192)]
    return {"traces": traces, "detection": detection, "hash_mib_per_gib": [128.0, 64.0, 32.0]}


def engine(changes=()):
    """The same of codec_engine_bench, with {(trace, mode): {figure: value}}."""
    one = {"low": 0.9, "median": 1.0, "high": 1.1}
    traces = []
    for name in _TRACES:
        modes = []
        for mode in ("without", "off", "auto", "fgbi", "hashes", "sharing", "compression", "both"):
            row = {"mode": mode, "groups": 20, "epochs": 100, "coded_epochs": 0, "pages": 1000, "bytes_per_page": 500.0, "pause_p50_us": 40.0,
                   "pause_p99_us": 60.0, "pause_ratio": one, "commit_p50_us": 300.0, "commit_mean_us": 400.0, "commit_ratio": one,
                   "guest_percent": {"low": 1.0, "median": 2.0, "high": 3.0}, "cpu_percent": 2.0}
            row.update(dict(changes).get((name, mode), {}))
            modes.append(row)
        traces.append({"trace": name, "modes": modes})
    return traces


class CodecTest(unittest.TestCase):
    def test_steps(self):
        self.assertEqual([report_codec.step_of(method) for method in ("hash 64", "level dense 256", "zstd -1", "raw pages", "lz4")],
                         ["hash", "level dense", "zstd -1", "raw pages", "lz4"])

    def test_targets_that_are_met(self):
        results = codec()
        said = report_codec.best_table(results)
        self.assertIn("in 20 of 20 rows", said)
        self.assertIn("needs fewer bytes: nowhere.", said)
        self.assertIn("at its speed or faster: met on all traces.", said)
        self.assertIn("keyvalue 10.0 times fewer, met", report_codec.factor_table(results))
        self.assertIn("compresses: met", report_codec.decode_table(results))
        self.assertIn("least ratio: 0.90, at 256 KiB; target 0.8: met", report_codec.detection_table(results))
        self.assertIn("5.00 (1.00)", report_codec.detection_table(results))

    def test_peers_that_are_better_are_named(self):
        better = {("compile", "igzip -1"): {"bytes_per_page": 399.0}, ("web", "xbzrle"): {"encode_gb_s": 1.1}}
        said = report_codec.best_table(codec(better))
        self.assertIn("in 18 of 20 rows; in 18 of them", said)
        self.assertIn("Not in: igzip -1 on compile and xbzrle on web.", said)
        self.assertIn("at its speed or faster: not met against igzip -1 on compile.", said)
        self.assertIn("| web | xbzrle | 4000 | 1.10 | none |", said)
        self.assertIn("igzip -1 against level blocks 64 on compile, igzip -1 against level lz4 64 on compile and igzip -1 against level dense 64", said)

    def test_a_part_is_no_mode(self):
        only = {("web", method): {"encode_gb_s": 0.5} for method in _METHODS if method not in report_codec.PEERS + ("fgbi+runs 64",)}
        self.assertIn("in 20 of 20 rows; in 16 of them", report_codec.best_table(codec(only | {("web", "plain (no codec)"): {"encode_gb_s": 0.5}})))

    def test_targets_that_are_not_met(self):
        results = codec({("database", f"level {level} 64"): {"bytes_per_page": 2000.0} for level in ("blocks", "lz4", "dense")}
                        | {("idle", "hash 128"): {"decode_gb_s": 1.5}})
        results["detection"][1]["avx2"] = 7.0
        self.assertIn("database 2.00 times fewer, not met", report_codec.factor_table(results))
        decode = report_codec.decode_table(results)
        self.assertIn("| finds changes by hashes | `hash` | 1.50 | `hash 128` on idle | at least 2 |", decode)
        self.assertIn("finds changes by hashes: not met", decode)
        self.assertIn("least ratio: 0.70, at 8192 KiB; target 0.8: not met", report_codec.detection_table(results))

    def test_other_tables(self):
        results = codec({("compile", "level lz4 unpacked 64"): {"bytes_per_page": 800.0, "encode_gb_s": 0.5}})
        self.assertEqual(report_codec.blocks_table(results).count("| 400 | 400 | 400 | 1.00 | 1.00 | 1.00 |"), 55)
        self.assertIn("| compile | level lz4 | 800 | 400 | 0.50 | 0.50 | 1.00 | 0.50 |", report_codec.packing_table(results))
        self.assertIn("| compile | level dense 64 | 400 | 1.00 | 3.00 |", report_codec.codec_table(results))


class PapersTest(unittest.TestCase):
    def test_orderings(self):
        changes = {("web", "sharing 64"): {"bytes_per_page": 401.0}, ("idle", "both 64"): {"encode_gb_s": 0.1}}
        said = report_papers.papers_table(codec(changes))
        self.assertIn("| FGBI (hashes) ≤ dirty pages | on all loads | on all loads |", said)
        # A hundredth of a time is none.
        self.assertIn("| + sharing ≤ FGBI (bytes) | not on web (401, 400) | on all loads |", said)
        self.assertIn("| both ≤ + sharing | on all loads | not on idle (44.2, 7.30) |", said)

    def test_downtime(self):
        said = report_papers.papers_table(codec({("web", "hash 64"): {"bytes_per_page": 2000.0}}))
        self.assertIn("FGBI (hashes): database, keyvalue, compile and idle;", said)
        self.assertIn("FGBI (bytes): web, database, keyvalue, compile and idle;", said)

    def test_engine(self):
        said = report_papers.engine_table(engine())
        self.assertIn("`auto` coded none of its epochs", said)
        self.assertIn("2.00 % slower on average over the loads and 2.00 % at most", said)
        self.assertIn("13 %: met", said)
        slow = {"low": 9.0, "median": 14.0, "high": 20.0}
        said = report_papers.engine_table(engine({("web", "hashes"): {"guest_percent": slow}, ("idle", "auto"): {"coded_epochs": 7}}))
        self.assertIn("4.40 % slower on average over the loads and 14.0 % at most (web)", said)
        self.assertIn("13 %: not met", said)
        self.assertIn("`auto` coded epochs on idle 7 of 100", said)
        self.assertIn("14.0 (9.00 .. 20.0)", said)


class PagesTest(unittest.TestCase):
    def test_link(self):
        figures = {"the full link carries": 125.0}
        for place in ("new pages, full link", "small changes, full link", "small changes, a tenth of it"):
            for name in ("commit, off", "commit, auto", "auto / off"):
                figures.update({f"{place}: {name}, {which}": value for which, value in (("low", 1.0), ("median", 2.0), ("high", 3.0))})
            figures.update({f"{place}: bytes a dirty page, {mode}": 4100.0 for mode in ("off", "auto")})
        said = report_link.link_table({"figures": {name: {"value": value, "unit": ""} for name, value in figures.items()}})
        self.assertIn("| new pages, full link | 2.00 (1.00 .. 3.00) | 4100 | 2.00 (1.00 .. 3.00) | 4100 | 2.00 (1.00 .. 3.00) | at most 1.05 |", said)
        self.assertIn("125 Mb/s", said)

    def test_put(self):
        pages = {"a": "x\n<!-- table t -->\nold\n<!-- end -->\ny\n", "b": "<!-- table t2 -->\n<!-- end -->\n"}
        report.put(pages, "t", "new")
        self.assertEqual(pages["a"], "x\n<!-- table t -->\nnew\n<!-- end -->\ny\n")
        with self.assertRaises(SystemExit):
            report.put(pages, "t3", "new")


if __name__ == "__main__":
    unittest.main()
