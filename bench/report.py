"""What a run found, as JSON, as a Markdown table and as a chart."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.goals import Result, Round

WIDTH, ROW, LEFT = 760, 26, 330


def summary(results: list[Result]) -> list[dict[str, Any]]:
    """One entry per goal: `{id, ratio, goal, met}`."""
    return [{"id": one.goal.id, "ratio": round(one.ratio, 3), "goal": one.goal.goal, "met": one.met} for one in results]


def table(results: list[Result]) -> str:
    """The goals as a Markdown table."""
    rows = [
        f"| {goal.what} | {goal.against} | {goal.goal} | {ratio:.2f} | {'yes' if met else '**no**'} |"
        for goal, ratio, met, _ in results
    ]
    return "\n".join(["| what | against | goal | found | met |", "| --- | --- | --- | --- | --- |", *rows])


def measurements(rounds: Sequence[Round]) -> str:
    """Every load of the run as a Markdown table: medians of the rounds."""
    names = [name.removesuffix(".rate") for name in rounds[0] if name.endswith(".rate")]
    lines = ["| load | requests/s | p50 ms | p99 ms | CPU us per request |", "| --- | --- | --- | --- | --- |"]
    for name in names:
        cells = [_median(rounds, f"{name}.rate", 1, 0)]
        cells += [_median(rounds, f"{name}.{part}", 1000, 2) for part in ("p50", "p99")]
        cells.append(_median(rounds, f"{name}.cpu", 1_000_000, 0))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _median(rounds: Sequence[Round], key: str, scale: float, digits: int) -> str:
    values = [found[key] for found in rounds if key in found]
    return f"{statistics.median(values) * scale:,.{digits}f}" if values else ""


def chart(rounds: Sequence[Round]) -> str:
    """Requests per second as bars: an SVG that needs nothing else."""
    rates = {
        name.removesuffix(".rate"): statistics.median(found[name] for found in rounds)
        for name in rounds[0]
        if name.endswith(".rate") and not name.removesuffix(".rate").endswith("-1")
    }
    most, height = max(rates.values()), ROW * len(rates) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        '    font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<text x="8" y="20" font-weight="bold">Requests per second, 32 connections (median of the rounds)</text>',
    ]
    peers = ("envoy", "nginx", "article", "bare")
    for number, (name, rate) in enumerate(sorted(rates.items(), key=lambda pair: -pair[1])):
        top, width = 32 + number * ROW, max(1, (WIDTH - LEFT - 80) * rate / most)
        colour = "#8a939d" if name.startswith(peers) and "asking" not in name else "#0b5cad"
        parts.append(f'<text x="{LEFT - 8}" y="{top + 17}" text-anchor="end" fill="#1b1f24">{name}</text>')
        parts.append(f'<rect x="{LEFT}" y="{top + 4}" width="{width:.0f}" height="{ROW - 8}" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + width + 6:.0f}" y="{top + 17}" fill="#1b1f24">{rate:,.0f}</text>')
    return "\n".join([*parts, "</svg>", ""])


def write(folder: Path, rounds: Sequence[Round], results: list[Result], facts: dict[str, Any]) -> None:
    """Write results.json, summary.json, table.md and chart.svg."""
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary(results), indent=2) + "\n")
    (folder / "results.json").write_text(json.dumps({**facts, "rounds": rounds}, indent=2) + "\n")
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    (folder / "table.md").write_text(f"{told}\n\n{table(results)}\n\n{measurements(rounds)}\n")
    (folder / "chart.svg").write_text(chart(rounds))
