"""The figures as one page that needs nothing else: SVG in HTML."""

import html
import math

COLOURS = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#566573", "#16a085"]
WIDTH, HEIGHT, LEFT, BOTTOM = 760, 300, 70, 40


def page(title, text, sections):
    parts = [
        "<!doctype html><meta charset=utf-8><title>", html.escape(title), "</title>",
        "<style>body{font:15px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}"
        "pre{background:#f5f5f5;padding:1em;overflow:auto}svg{display:block;margin:1em 0}</style>",
        "<h1>", html.escape(title), "</h1>",
    ]
    for section in sections:
        drawn = plots_of(section)
        if drawn:
            parts += ["<h2>", html.escape(section.title), "</h2><p>", html.escape(section.about), "</p>", *drawn]
    parts += ["<h2>As text</h2><pre>", html.escape(text), "</pre>"]
    return "".join(parts)


def plots_of(section):
    drawn = []
    if section.rounds and section.columns and section.columns[0][0].startswith("CPU"):
        value = section.columns[0][1]
        drawn.append(bars(
            "CPU per answer, us (least, median, most)",
            [(name, section.rounds.figure(name, value)) for name in section.rounds.names]))
    if section.curves:
        drawn.append(curves("latency by percentile, us", {
            name: middle(section.rounds.quiet(name)[0])[name].steps for name in section.rounds.names}))
    if section.lines:
        drawn.append(lines("answered against offered, thousands a second", section.lines))
    return drawn


def middle(rounds):
    return rounds[len(rounds) // 2]


def bars(title, figures):
    most = max((figure.values[-1] for _, figure in figures), default=1) or 1
    height = 28 * len(figures) + 40
    across = WIDTH - 220
    out = [svg(height), label(10, 18, title)]
    for number, (name, figure) in enumerate(figures):
        y = 34 + 28 * number
        scale = lambda value: 160 + across * value / most  # noqa: E731
        out.append(label(150, y + 14, name, "end"))
        out.append(f'<rect x="160" y="{y}" width="{scale(figure.median) - 160:.1f}" height="18" '
                   f'fill="{COLOURS[number % len(COLOURS)]}"/>')
        least, end = scale(figure.values[0]), scale(figure.values[-1])
        out.append(f'<line x1="{least:.1f}" x2="{end:.1f}" y1="{y + 9}" y2="{y + 9}" stroke="#222" stroke-width="2"/>')
        out.append(label(end + 6, y + 14, f"{figure.median:.1f}"))
    return "".join([*out, "</svg>"])


def curves(title, series):
    """Percentiles on an axis that widens towards the worst."""
    place = lambda percent: -math.log10(max(1 - percent / 100, 1e-5))  # noqa: E731
    shown = {name: [(place(percent), value) for percent, value in steps if percent < 100] for name, steps in series.items()}
    marks = [(place(percent), f"{percent:g} %") for percent in (50, 90, 99, 99.9, 99.99)]
    return chart(title, shown, marks)


def lines(title, series):
    xs = sorted({x for points in series.values() for x, _ in points})
    return chart(title, series, [(x, f"{x:.1f}") for x in xs])


def chart(title, series, marks):
    most_x = max((x for points in series.values() for x, _ in points), default=1) or 1
    most_y = max((y for points in series.values() for _, y in points), default=1) or 1
    across = lambda x: LEFT + (WIDTH - LEFT - 150) * x / most_x  # noqa: E731
    up = lambda y: HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 30) * y / most_y  # noqa: E731
    out = [svg(HEIGHT), label(10, 18, title)]
    for x, text in marks:
        out.append(label(across(x), HEIGHT - 15, text, "middle"))
    for part in range(5):
        y = most_y * part / 4
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 150}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="#ddd"/>')
        out.append(label(LEFT - 6, up(y) + 4, f"{y:,.0f}" if most_y > 10 else f"{y:.1f}", "end"))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{WIDTH - 140}" y="{40 + 20 * number}" fill="{colour}" font-size="13">{html.escape(name)}</text>')
    return "".join([*out, "</svg>"])


def svg(height):
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" xmlns="http://www.w3.org/2000/svg">'


def label(x, y, text, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" text-anchor="{anchor}">{html.escape(text)}</text>'
