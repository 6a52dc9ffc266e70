"""The gate's own tests: it opens for a perfect report and closes for each way to be less."""

import unittest

import judge as gate
from judge import CASES_PER_SECTION, MAY_BE_INFORMATIONAL, SAMPLE_PER_SECTION


def judge(cases):
    return gate.judge(cases, CASES_PER_SECTION)


def entry(behavior="OK", close="OK"):
    return {"behavior": behavior, "behaviorClose": close}


def perfect_report():
    cases = {
        f"{section}.{number}": entry()
        for section, count in CASES_PER_SECTION.items()
        for number in range(1, count + 1)
    }
    for number, case in enumerate(sorted(MAY_BE_INFORMATIONAL), start=1):
        del cases[f"7.{number}"]
        cases[case] = entry("INFORMATIONAL", "INFORMATIONAL")
    return cases


class GateTest(unittest.TestCase):
    def test_perfect_report_passes(self):
        counts, failures = judge(perfect_report())
        self.assertEqual(dict(counts), {"OK": 514, "INFORMATIONAL": 3})
        self.assertEqual(failures, [])

    def test_every_other_verdict_fails_in_either_place(self):
        for verdict in ("NON-STRICT", "FAILED", "UNIMPLEMENTED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "new"):
            for bad in (entry(behavior=verdict), entry(close=verdict)):
                with self.subTest(verdict=verdict, bad=bad):
                    cases = perfect_report()
                    cases["6.10"] = bad
                    self.assertEqual(judge(cases)[1], [("6.10", verdict)])

    def test_informational_fails_where_a_grade_is_due(self):
        cases = perfect_report()
        cases["6.10"] = entry("INFORMATIONAL")
        self.assertEqual(judge(cases)[1], [("6.10", "INFORMATIONAL")])

    def test_informational_does_not_hide_a_bad_close(self):
        cases = perfect_report()
        cases["7.1.6"] = entry("INFORMATIONAL", "UNCLEAN")
        self.assertEqual(judge(cases)[1], [("7.1.6", "UNCLEAN")])

    def test_missing_case_fails(self):
        cases = perfect_report()
        del cases["9.54"]
        counts, failures = judge(cases)
        self.assertEqual(counts["MISSING"], 1)
        self.assertEqual(failures, [("section 9", "1 MISSING")])

    def test_sample_is_not_taken_for_the_whole(self):
        self.assertEqual(sum(SAMPLE_PER_SECTION.values()), 385)
        failures = gate.judge(perfect_report(), SAMPLE_PER_SECTION)[1]
        self.assertEqual(failures, [("section 12", "55 UNEXPECTED"), ("section 13", "77 UNEXPECTED")])

    def test_empty_report_fails(self):
        counts, failures = judge({})
        self.assertEqual(counts["MISSING"], 517)
        self.assertEqual(len(failures), len(CASES_PER_SECTION))


if __name__ == "__main__":
    unittest.main()
