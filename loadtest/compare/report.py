"""What was measured, as Markdown and JSON."""

from . import machine


class Budget:
    """A figure, and what it may be at most."""

    def __init__(self, what, figure, limit, digits=2):
        self.what = what
        self.figure = figure
        self.limit = limit
        self.digits = digits

    @property
    def verdict(self):
        if not self.figure.trusted:
            return "disturbed"
        return "met" if self.figure.median <= self.limit else "NOT met"


class Section:
    """One experiment."""

    def __init__(self, title, about, rounds=None, columns=(), reference=None):
        self.title = title
        self.about = " ".join(about.split())
        self.rounds = rounds
        self.columns = list(columns)
        self.reference = reference if rounds and reference in rounds.names else None
        self.notes = []
        self.budgets = []
        self.tables = []
        self.lines = None
        self.curves = False

    def note(self, text):
        self.notes.append(text)

    def budget(self, budget):
        self.budgets.append(budget)

    def table(self, head, rows):
        self.tables.append((head, rows))

    def all_tables(self):
        tables = list(self.tables)
        if self.rounds:
            head = ["who", *[name for name, _ in self.columns]]
            if self.reference:
                head.append(f"CPU, of {self.reference}")
            tables.insert(0, (head, [self.row(name) for name in self.rounds.names]))
        return tables

    def row(self, name):
        row = [name, *[self.rounds.figure(name, value).show(1) for _, value in self.columns]]
        if self.reference:
            row.append(self.rounds.ratio(name, self.reference, lambda result: result.cpu_us).show())
        return row

    def all_notes(self):
        notes = list(self.notes)
        if self.rounds:
            rounds = len(self.rounds.rounds)
            for name in self.rounds.names:
                if thrown := self.rounds.disturbed(name):
                    notes.append(f"{name} was disturbed in {thrown} of {rounds} rounds"
                                 + (", which are in no figure of it." if thrown < rounds else ": ALL, so its figures say little."))
                if wrong := self.rounds.unexpected(name):
                    notes.append(f"{name}: {wrong:,} answers were not what was expected.")
        return notes

    def as_json(self):
        found = {"title": self.title, "notes": self.all_notes()}
        if self.rounds:
            found["figures"] = {
                name: {column: self.rounds.figure(name, value).as_json() for column, value in self.columns}
                for name in self.rounds.names
            }
            found["rounds"] = [
                {name: result.printed for name, result in one.items()} for one in self.rounds.rounds
            ]
        found["tables"] = [{"head": head, "rows": rows} for head, rows in self.tables]
        found["budgets"] = [
            {"what": budget.what, "limit": budget.limit, "verdict": budget.verdict, **budget.figure.as_json()}
            for budget in self.budgets
        ]
        return found


# Budgets that other commands measure.
ELSEWHERE = [
    ("revocation seen by every edge", "cargo bench --profile quick --all-features --bench revocation"),
    ("dependency down, slow or erroring", "cargo test --all-features --test edge (writes docs/faults.md)"),
    ("journal append", "cargo bench --profile quick --all-features --bench journal"),
]


def markdown(about, versions, left_out, sections):
    text = ["# Load test", ""]
    text += [f"- {name}: {value}" for name, value in about.items()]
    text += [f"- {name}: {version}" for name, version in versions.items()]
    text += [f"- left out: {name}" for name in left_out]
    text += ["", "Median (least to most) of interleaved rounds; ratios are taken within each round.", ""]
    budgets = [budget for section in sections for budget in section.budgets]
    if budgets:
        text += ["## Budgets", ""]
        text += table(
            ["what", "at most", "measured", ""],
            [[one.what, f"{one.limit:g}", one.figure.show(one.digits), one.verdict] for one in budgets])
        text += ["", "Measured elsewhere: " + "; ".join(f"{what}: `{command}`" for what, command in ELSEWHERE) + ".", ""]
    for section in sections:
        text += [f"## {section.title}", "", section.about, ""]
        for head, rows in section.all_tables():
            text += [*table(head, rows), ""]
        for note in section.all_notes():
            text += [note, ""]
    return "\n".join(text)


def table(head, rows):
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *["| " + " | ".join(row) + " |" for row in rows],
    ]


def as_json(about, versions, left_out, sections):
    return {
        "machine": about, "versions": versions, "left_out": left_out,
        "cores": {"proxy": machine.PROXY_CORE, "load": machine.LOAD_CORE},
        "sections": [section.as_json() for section in sections],
    }
