# SPDX-License-Identifier: Apache-2.0
"""Counts the test cases of one `bazel test`: count_tests.py EVENTS_JSON COUNTS_FILE.

Reads the build events, opens each target's test.xml, appends "passed N", "failed N" and "skipped N" to COUNTS_FILE and
prints a summary. A target that did not build, crashed or timed out is at least one failure; one that passed without
naming cases is one case.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree


def count_cases(xml_path):
    """Returns (passed, failed, skipped) of one test.xml; all 0 when it is missing or broken."""
    passed = failed = skipped = 0
    try:
        root = xml.etree.ElementTree.parse(xml_path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return 0, 0, 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("result") == "skipped":
            skipped += 1
        elif case.get("status") != "notrun":
            passed += 1
    return passed, failed, skipped


def count_events(lines):
    """Returns (counts, targets, cached targets) of a stream of build events, one JSON object a line."""
    verdicts = {}  # label: the overall status, "" as long as none is known
    xml_paths = {}  # label: {(run, shard, attempt): path}
    cached = set()
    for line in lines:
        event = json.loads(line)
        identity = event.get("id", {})
        if "targetConfigured" in identity and event.get("configured", {}).get("testSize"):
            verdicts.setdefault(identity["targetConfigured"]["label"], "")
        elif "testResult" in identity:
            name = identity["testResult"]
            result = event.get("testResult", {})
            if result.get("cachedLocally") or result.get("executionInfo", {}).get("cachedRemotely"):
                cached.add(name["label"])
            for output in result.get("testActionOutput", []):
                if output["name"] == "test.xml":
                    path = urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)
                    key = (name.get("run"), name.get("shard"), name.get("attempt"))
                    xml_paths.setdefault(name["label"], {})[key] = path
        elif "testSummary" in identity:
            verdicts[identity["testSummary"]["label"]] = event["testSummary"].get("overallStatus", "")
    totals = [0, 0, 0]
    for label, verdict in verdicts.items():
        counts = [0, 0, 0]
        for path in xml_paths.get(label, {}).values():
            counts = [a + b for a, b in zip(counts, count_cases(path))]
        if verdict in ("PASSED", "FLAKY"):
            if sum(counts) == 0:
                counts[0] = 1
        else:
            counts[1] = max(counts[1], 1)
        totals = [a + b for a, b in zip(totals, counts)]
    return totals, len(verdicts), len(cached)


def main(events_path, counts_path):
    with open(events_path, encoding="utf-8") as events:
        (passed, failed, skipped), targets, cached = count_events(events)
    with open(counts_path, "a", encoding="utf-8") as counts:
        counts.write(f"passed {passed}\nfailed {failed}\nskipped {skipped}\n")
    print(f"{passed} cases passed, {failed} failed, {skipped} skipped in {targets} targets ({cached} unchanged)")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
