"""Plots as SVG text, without any library."""
import math
from html import escape

COLOURS = ["#c81d4e", "#e58aa5", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#17a2b8", "#7f7f7f", "#8c564b"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 80, 190, 40, 50
STYLE = "<style>text{font:13px sans-serif;fill:#333}line{stroke:#ddd}polyline{fill:none;stroke-width:2}</style>"


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def page(parts, height=HEIGHT):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    return "\n".join([head, STYLE, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""])


def curves(title, lines):
    """Queries a second (logarithmic) over recall (by the logarithm of what is missed)."""
    points = [point for line in lines.values() for point in line]
    rates = [rate for _, rate in points] or [1, 10]
    low, high = math.log10(min(rates)), math.log10(max(rates)) + 0.05
    miss = lambda recall: -math.log10(max(1 - recall, 0.001))
    left, right = miss(0.75), miss(0.999)
    x = lambda recall: LEFT + (miss(recall) - left) / (right - left) * (WIDTH - LEFT - RIGHT)
    y = lambda rate: HEIGHT - BOTTOM - (math.log10(rate) - low) / max(high - low, 0.1) * (HEIGHT - TOP - BOTTOM)
    parts = [text(LEFT, 22, f"{title}: queries a second on one core")]
    for recall in (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999):
        parts.append(f'<line x1="{x(recall):.1f}" x2="{x(recall):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(text(x(recall), HEIGHT - BOTTOM + 18, f"{recall:g}", "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "recall@10", "middle"))
    for rate in (step * 10**power for power in range(2, 6) for step in (1, 2, 5)):
        if low <= math.log10(rate) <= high:
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(rate):.1f}" y2="{y(rate):.1f}"/>')
            parts.append(text(LEFT - 8, y(rate) + 4, f"{rate:,}", "end"))
    for place, ((name, line), colour) in enumerate(zip(lines.items(), COLOURS)):
        path = " ".join(f"{x(recall):.1f},{y(rate):.1f}" for recall, rate in line)
        parts.append(f'<polyline points="{path}" stroke="{colour}"/>')
        parts += [f'<circle cx="{x(r):.1f}" cy="{y(q):.1f}" r="3" fill="{colour}"/>' for r, q in line]
        parts.append(f'<rect x="{WIDTH - RIGHT + 16}" y="{TOP + place * 22}" width="12" height="12" fill="{colour}"/>')
        parts.append(text(WIDTH - RIGHT + 34, TOP + 11 + place * 22, name))
    return page(parts)


def bars(title, values):
    """Two bars a program: build rate and resident memory."""
    height = 70 + 54 * len(values)
    parts = [text(LEFT, 22, f"{title}: vectors a second built (upper), MB resident (lower)")]
    for column, unit in enumerate(("vec/s", "MB")):
        largest = max((pair[column] for pair in values.values()), default=1) or 1
        for place, ((name, pair), colour) in enumerate(zip(values.items(), COLOURS)):
            y = 44 + place * 54 + column * 20
            length = pair[column] / largest * (WIDTH - LEFT - 280)
            opacity = 1 if column == 0 else 0.5
            parts.append(
                f'<rect x="160" y="{y}" width="{max(length, 1):.1f}" height="16" fill="{colour}" opacity="{opacity}"/>'
            )
            parts.append(text(166 + length, y + 13, f"{pair[column]:,.0f} {unit}"))
            if column == 0:
                parts.append(text(150, y + 23, name, "end"))
    return page(parts, height)
