"""Every PromQL query of an alert or of the dashboard parses, and asks only for
metrics and outcomes that the edge has.

Every alert has its section in the runbook.

usage: queries.py TERRAFORM_DIR METRICS_SOURCE REFUSALS_SOURCE RUNBOOK
"""

import pathlib
import re
import sys

import promql_parser

terraform, metrics_source, refusals_source, runbook = map(pathlib.Path, sys.argv[1:])

names = re.findall(
    r'describe_(\w+) \w+ = "(\w+)"', metrics_source.read_text(encoding="utf-8")
)
known = set()
for kind, name in names:
    suffixes = ["_bucket", "_sum", "_count"] if kind == "histogram" else [""]
    known |= {f"cypheron_edge_{name}{suffix}" for suffix in suffixes}
outcomes = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', refusals_source.read_text(encoding="utf-8")))
outcomes |= {"admitted"}

# A query is a string that holds a metric's name; one line each, as `terraform fmt` has it.
strings = re.compile(r'"((?:[^"\\]|\\.)*cypheron_edge_(?:[^"\\]|\\.)*)"')
found, problems = 0, []
for file in sorted(terraform.glob("*.tf")):
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            continue
        for text in strings.findall(line):
            query = text.replace('\\"', '"').replace("$${__interval}", "5m")
            query = query.replace("${local.job}", 'job="edge"')
            found += 1
            # What Terraform computes: a pattern of outcomes, part of a name, a number.
            query = query.replace("${local.with_a_key}", "rate-limited")
            query = query.replace("cypheron_edge_usage_${name}_total", "cypheron_edge_usage_stored_total")
            query = re.sub(r"\$\{[^}]*\}", "1", query)
            try:
                promql_parser.parse(query)
            except ValueError as error:
                problems.append(f"{file.name}: {query}: {error}")
                continue
            for metric in set(re.findall(r"cypheron_edge_\w+", query)) - known:
                problems.append(f"{file.name}: no metric is called {metric}")
            for pattern in re.findall(r'outcome=~?"([^"]*)"', query):
                if "directory_reads" in query:
                    continue
                for outcome in set(pattern.split("|")) - outcomes:
                    problems.append(f"{file.name}: no outcome is called {outcome}")

with_a_key = re.search(r'with_a_key = "([^"]*)"', (terraform / "monitoring.tf").read_text(encoding="utf-8"))
for outcome in set(with_a_key.group(1).split("|")) - outcomes:
    problems.append(f"with_a_key: no outcome is called {outcome}")

alerts = re.findall(
    r"^    ([a-z-]+) += \{$", (terraform / "monitoring.tf").read_text(encoding="utf-8"), re.MULTILINE
)
sections = re.findall(r"^### (\S+)$", runbook.read_text(encoding="utf-8"), re.MULTILINE)
problems += [f"{runbook}: no section on {alert}" for alert in set(alerts) - set(sections)]
problems += [f"{runbook}: there is no alert {section}" for section in set(sections) - set(alerts)]

print(f"{found} queries, {len(alerts)} alerts, each with its section in {runbook}")
if problems or not found:
    sys.exit("\n".join(problems) or "no query was found")
