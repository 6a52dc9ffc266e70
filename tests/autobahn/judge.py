"""Turns a report of the Autobahn TestSuite, as client or as server, into a verdict.

    judge.py sample|full BACKEND REPORT_DIR

Answers for one rule: each of the 517 cases (385 of the sample) is there and OK, but for three which the suite itself never grades. It reads the suite's JSON and nothing else: no server, no suite.
Prints one line of counts, then a line for each failing case. Status 0 only if no case fails.
"""

import json
import pathlib
import sys
from collections import Counter

# Cases of each section, of suite 25.10.1. Counted by section, so that a part of the suite which did
# not run cannot be made up for by another.
CASES_PER_SECTION = {
    "1": 16,
    "2": 11,
    "3": 7,
    "4": 10,
    "5": 20,
    "6": 145,
    "7": 37,
    "9": 54,
    "10": 1,
    "12": 90,
    "13": 126,
}
# What is left of these without large messages: 7 of each 18.
SAMPLE_PER_SECTION = {**CASES_PER_SECTION, "12": 35, "13": 49}
# RFC 6455 leaves the answer open, and the suite only reports what it saw.
MAY_BE_INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


def main(selection, backend, report_dir):
    per_section = SAMPLE_PER_SECTION if selection == "sample" else CASES_PER_SECTION
    report_dir = pathlib.Path(report_dir)
    index = json.loads((report_dir / "index.json").read_text(encoding="utf-8"))
    agents = list(index.values())
    cases = agents[0] if len(agents) == 1 else {}
    counts, failures = judge(cases, per_section)

    total = sum(per_section.values())
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    print(f"autobahn {backend}: {total} cases: {text}")
    for case, verdict in failures:
        print(f"  {verdict} {case}{detail(report_dir, cases.get(case))}")
    return 1 if failures else 0


def judge(cases, per_section):
    """Counts verdicts, and lists what fails as (case or section, verdict)."""
    counts = Counter()
    failures = []
    for case in sorted(cases, key=case_order):
        verdict = verdict_of(cases[case])
        counts[verdict] += 1
        if verdict != "OK" and not (verdict == "INFORMATIONAL" and case in MAY_BE_INFORMATIONAL):
            failures.append((case, verdict))

    present = Counter(case.split(".")[0] for case in cases)
    for section, expected in per_section.items():
        missing = expected - present.pop(section, 0)
        if missing > 0:
            counts["MISSING"] += missing
            failures.append((f"section {section}", f"{missing} MISSING"))
        elif missing < 0:
            failures.append((f"section {section}", f"{-missing} UNEXPECTED"))
    failures.extend((f"section {section}", "UNEXPECTED") for section in present)
    return counts, failures


def verdict_of(entry):
    """The worse of the two verdicts of a case: on what came back, and on how it was closed."""
    pair = (entry["behavior"], entry["behaviorClose"])
    for verdict in pair:
        if verdict not in ("OK", "INFORMATIONAL"):
            return verdict
    return "INFORMATIONAL" if "INFORMATIONAL" in pair else "OK"


def detail(report_dir, entry):
    if entry is None:
        return ""
    text = f": behavior {entry['behavior']}, close {entry['behaviorClose']}, code {entry['remoteCloseCode']}"
    try:
        page = json.loads((report_dir / entry["reportfile"]).read_text(encoding="utf-8"))
        return f"{text}; {page['result']} / {page['resultClose']}"
    except (OSError, ValueError, KeyError):
        return text


def case_order(case):
    return [int(part) for part in case.split(".")]


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("sample", "full"):
        sys.exit("usage: judge.py sample|full BACKEND REPORT_DIR")
    sys.exit(main(*sys.argv[1:]))
