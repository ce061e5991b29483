"""What the report makes of what was measured: python3 -m unittest discover loadtest/tests -t loadtest"""

import unittest

from compare import plots, report
from compare.measure import Figure, Result, Rounds


def result(cpu_us=10.0, others=0.0, p50=100.0, unexpected=0, rate=1000.0):
    answers = 1000
    return Result({
        "completed": answers, "rate": rate, "unexpected": unexpected, "failures": {}, "bytes": 2**30,
        "latency_us": {"p50": p50, "p99": 2 * p50, "steps": [[50.0, p50], [99.0, 2 * p50], [100.0, 3 * p50]]},
        "lateness_us": {"p99": 1.0},
        "cpu": {
            "services": [{"cpu_seconds": cpu_us * answers / 1e6, "user_seconds": 1.0, "system_seconds": 3.0,
                          "threads": [["worker-0", cpu_us * answers / 2e6]], "resident_kib": 5}],
            "others_share_of_a_core": others,
        },
    })


class OneMeasurement(unittest.TestCase):
    def test_cpu_is_an_answers_and_its_user_part_is_in_proportion(self):
        one = result(cpu_us=20.0)
        self.assertAlmostEqual(one.cpu_us, 20.0)
        self.assertAlmostEqual(one.user_us, 5.0)
        self.assertAlmostEqual(one.threads_us["worker-0"], 10.0)


class SeveralRounds(unittest.TestCase):
    def rounds(self, *pairs):
        rounds = Rounds()
        for edge, nginx in pairs:
            rounds.add({"edge": edge, "nginx": nginx})
        return rounds

    def test_a_ratio_is_taken_within_each_round(self):
        # The machine was half as fast in the second round: for both.
        rounds = self.rounds((result(9.0), result(10.0)), (result(18.0), result(20.0)))
        ratio = rounds.ratio("edge", "nginx", lambda one: one.cpu_us)
        self.assertEqual([round(value, 6) for value in ratio.values], [0.9, 0.9])

    def test_a_disturbed_round_is_in_no_figure(self):
        rounds = self.rounds((result(9.0), result(10.0)), (result(50.0, others=0.2), result(10.0)))
        self.assertEqual(rounds.disturbed("edge"), 1)
        figure = rounds.figure("edge", lambda one: one.cpu_us)
        self.assertEqual((len(figure.values), figure.trusted), (1, True))
        ratio = rounds.ratio("nginx", "edge", lambda one: one.cpu_us)
        self.assertEqual((len(ratio.values), ratio.trusted), (1, True))

    def test_who_was_undisturbed_counts_whatever_happened_to_others(self):
        rounds = self.rounds((result(9.0), result(10.0, others=0.2)), (result(9.0), result(10.0)))
        self.assertEqual(len(rounds.figure("edge", lambda one: one.cpu_us).values), 2)
        self.assertEqual(len(rounds.figure("nginx", lambda one: one.cpu_us).values), 1)

    def test_who_is_disturbed_on_purpose_is_excused(self):
        for calm, counted in [(0.0, 1), (0.2, 0)]:
            rounds = Rounds(excused=lambda name: name == "beside a writer")
            rounds.add({"edge": result(others=calm), "beside a writer": result(others=0.9)})
            calm, trusted = rounds.quiet("edge", "beside a writer")
            self.assertEqual(len(calm) if trusted else 0, counted)

    def test_figures_of_disturbed_rounds_alone_are_marked(self):
        rounds = self.rounds((result(9.0, others=0.2), result(10.0)))
        figure = rounds.ratio("edge", "nginx", lambda one: one.cpu_us)
        self.assertFalse(figure.trusted)
        self.assertIn("disturbed", figure.show())
        self.assertEqual(report.Budget("x", figure, 1.0).verdict, "disturbed")

    def test_a_budget_is_met_by_its_median(self):
        figure = Figure([0.8, 0.9, 1.2])
        self.assertEqual(report.Budget("x", figure, 0.9).verdict, "met")
        self.assertEqual(report.Budget("x", figure, 0.89).verdict, "NOT met")


class TheReport(unittest.TestCase):
    def section(self):
        rounds = Rounds()
        rounds.add({"edge": result(9.0, unexpected=3), "nginx": result(10.0)})
        columns = [("CPU us an answer", lambda one: one.cpu_us)]
        section = report.Section("Admitted", "What is   admitted.", rounds, columns, reference="nginx")
        section.curves = True
        section.budget(report.Budget("CPU, of nginx", rounds.ratio("edge", "nginx", columns[0][1]), 0.92))
        return section

    def test_it_has_budgets_tables_and_what_went_wrong(self):
        text = report.markdown({"cpu": "x"}, {"nginx": "1"}, ["Envoy"], [self.section()])
        self.assertIn("| CPU, of nginx | 0.92 | 0.90 | met |", text)
        self.assertIn("| edge | 9.0 | 0.90 |", text)
        self.assertIn("- left out: Envoy", text)
        self.assertIn("edge: 3 answers were not what was expected.", text)

    def test_the_page_needs_nothing_else(self):
        page = plots.page("t", "text <b>", [self.section()])
        self.assertIn("<svg", page)
        self.assertIn("text &lt;b&gt;", page)
        self.assertNotIn("http://", page.replace("http://www.w3.org/2000/svg", ""))
        self.assertNotIn("https://", page)

    def test_json_has_every_round(self):
        found = self.section().as_json()
        self.assertEqual(found["rounds"][0]["edge"]["completed"], 1000)
        self.assertEqual(found["budgets"][0]["verdict"], "met")


if __name__ == "__main__":
    unittest.main()
