"""The page of a report: one HTML file that loads nothing and escapes whatever a file said."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landscape.files import write_atomic
from landscape.plotting import picture
from landscape.plotting.page import policy
from landscape.plotting.style import paper
from landscape.plotting.surface import scale
from landscape.reporting import words
from landscape.reporting.document import FAILED, Report
from landscape.reporting.page_style import STYLE
from landscape.reporting.planning import duration
from landscape.reporting.sections import SECTIONS

# Pixels of the page per inch of a picture, and of the bitmap per inch.
_PER_INCH, _DPI = 120, 240

# Browsers allow some 16 WebGL scenes at a time.
MOST_SCENES = 8

_NO_PLOTLY = (
    "To rotate it, install plotly (pip install 'landscape-diagnostics[html]') and run the same "
    "command with --overwrite."
)


def save_page(report: Report, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the page of a report."""
    return write_atomic(path, render(report).encode(errors="replace"), overwrite=overwrite)


def render(report: Report) -> str:
    """The page as text. Without plotly, surfaces are pictures alone."""
    scripts: list[str] = []
    sections = [_section(report, key, scripts) for key in report.results]
    if scripts:
        from plotly import offline

        scripts.insert(0, offline.get_plotlyjs())
    title = f"{', '.join(report.networks)}: landscape report"
    links = "".join(f'<a href="#{key}">{_e(SECTIONS[key].title)}</a>' for key in report.results)
    body = [
        f"<header><h1>Landscape report</h1>{_about(report)}</header>",
        _warnings(report),
        _numbers(report),
        _comparison(report),
        f"<nav>{links}</nav>",
        *sections,
        _left_out(report),
        _provenance(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(scripts)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_e(title)}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(part for part in body if part)
        + "</main>\n"
        + "\n".join(f"<script>{script}</script>" for script in scripts)
        + "</body></html>\n"
    )


# -- parts ----------------------------------------------------------------------------------------


def _about(report: Report) -> str:
    summary = report.summary
    record = summary.provenance
    rows = [
        f"<li><b>{_e(name)}</b>: {_e(model)}{', ' if about else ''}{_e(about)}</li>"
        for name, model, about in zip(
            summary.network, summary.model_class, summary.about, strict=True
        )
    ]
    return (
        f"<ul>{''.join(rows)}</ul><p>{_e(words.attacked_by(report))} Budget "
        f"{_e(duration(summary.budget))}, spent {_e(duration(summary.spent))}. "
        f"landscape {_e(record.versions['landscape'])}, {_e(record.created)}.</p>"
    )


def _warnings(report: Report) -> str:
    said = report.doubts()
    failed = report.left_out(FAILED)
    said += [
        f"{network}, {SECTIONS[key].title.lower()} failed: {why}" for network, key, why in failed
    ]
    if not said:
        return ""
    items = "".join(f"<li>{_e(text)}</li>" for text in said)
    return f'<section class="warning"><h2>Read this first</h2><ul>{items}</ul></section>'


def _numbers(report: Report) -> str:
    rows = words.rows(report)
    if not rows:
        return "<p>Nothing was measured.</p>"
    return (
        f'<section id="numbers"><h2>The numbers</h2><p>{_e(words.UNCERTAINTY)}</p>'
        f"{_table(['quantity', *report.networks, 'n'], rows)}</section>"
    )


def _comparison(report: Report) -> str:
    found = report.comparison
    if found is None:
        return ""
    differs = [str(verdict).endswith(" higher") for verdict in found.verdict]
    return (
        f'<section id="comparison"><h2>What differs</h2><p>{_e(words.about_comparison(found))}</p>'
        f"{_table(*words.comparison(found), marked=differs)}</section>"
    )


def _section(report: Report, key: str, scripts: list[str]) -> str:
    section, found = SECTIONS[key], report.results[key]
    rows = words.rows(report, key)
    parts = [
        f'<section id="{key}"><h2>{_e(section.title)}</h2>',
        f'<p class="reading">{_e(" ".join(section.reading.split()))}</p>',
        _table(["quantity", *report.networks, "n"], rows) if rows else "",
        _picture(list(found.values()), list(found), section.title),
    ]
    if key.startswith("surface"):
        parts.append(_rotating(key, list(found.values()), list(found), scripts))
    parts.append(f'<p class="how">{_e(words.how(report, key))}</p></section>')
    return "".join(parts)


def _picture(results: Sequence[Any], labels: Sequence[str], title: str) -> str:
    buffer = io.BytesIO()
    try:
        figure = picture(results, labels)
        with paper():
            figure.savefig(buffer, format="png", dpi=_DPI)
    except Exception as error:  # a picture that can't be drawn must not lose the numbers
        return f'<p class="how">No picture: {_e(type(error).__name__)}: {_e(error)}</p>'
    width, height = (round(_PER_INCH * inches) for inches in figure.get_size_inches())
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{_e(title)}: {_e(", ".join(labels))}" width="{width}" '
        f'height="{height}" src="data:image/png;base64,{data}"></figure>'
    )


def _rotating(key: str, surfaces: Sequence[Any], labels: Sequence[str], scripts: list[str]) -> str:
    """A scene for every network, on one scale; its script goes to ``scripts``."""
    if importlib.util.find_spec("plotly") is None:
        return f'<p class="how">{_e(_NO_PLOTLY)}</p>'
    if len(scripts) + len(surfaces) > MOST_SCENES:
        return '<p class="how">Too many networks to rotate them all on one page.</p>'
    from landscape.plotting.page import rotating, script

    norm = scale(surfaces)
    scenes = []
    for i, (surface, label) in enumerate(zip(surfaces, labels, strict=True)):
        figure = rotating([surface], [label], norm=norm)
        figure.update_layout(height=420, margin={"l": 0, "r": 0, "t": 30, "b": 0})
        figure.update_scenes(camera_eye={"x": 1.8, "y": 1.8, "z": 1.2})
        figure.update_traces(colorbar={"thickness": 12, "len": 0.8}, selector={"type": "surface"})
        scripts.append(script(figure, f"{key}-{i}"))
        scenes.append(f'<div class="scene" id="{key}-{i}"></div>')
    return (
        '<p class="how">Drag to rotate, scroll to zoom, hover for values; the diamond is the model.'
        f'</p><div class="scenes">{"".join(scenes)}</div>'
    )


def _left_out(report: Report) -> str:
    rows = words.left_out(report)
    if not rows:
        return ""
    table = _table(["section", "network", "", "why"], rows, long=3)
    return f'<section id="left-out"><h2>Left out</h2>{table}</section>'


def _provenance(report: Report) -> str:
    record = {"report": report.summary.provenance.to_dict()}
    for key, found in report.results.items():
        record[key] = {network: r.provenance.to_dict() for network, r in found.items()}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return (
        '<section id="provenance"><h2>Provenance</h2><details><summary>Settings, digests and '
        f"versions of everything on this page</summary><pre>{_e(text)}</pre></details></section>"
    )


# -- HTML -----------------------------------------------------------------------------------------


def _e(text: object) -> str:
    return html.escape(str(text))


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    long: int | None = None,
    marked: Sequence[bool] = (),
) -> str:
    """``long``: the column whose cells may break. ``marked``: rows that stand out."""
    head = "".join(f"<th>{_e(column)}</th>" for column in columns)
    body = []
    for i, row in enumerate(rows):
        cells = "".join(
            f"<td{' class=long' if k == long else ''}>{_e(cell)}</td>" for k, cell in enumerate(row)
        )
        body.append(f"<tr{' class=differs' if any(marked[i : i + 1]) else ''}>{cells}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
