"""What a figure leaves behind: picture, numbers, table and a short report of its claims."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from landscape._version import __version__
from landscape.files import check_writable, write_atomic
from landscape.papers.claims import OPEN, Verdict
from landscape.papers.figures import Figure, Found
from landscape.papers.scale import Scale
from landscape.plotting.style import paper, picture_paths, save_figure
from landscape.results import Result, save_all
from landscape.running.cache import Cache
from landscape.running.work import Run, Work, everything


@dataclass(frozen=True)
class Files:
    """Where a figure's files go: ``OUT/SCALE/PAPER/NAME`` with png, pdf, h5, csv, md and json."""

    figure: Figure
    scale: Scale
    out: Path

    @property
    def stem(self) -> Path:
        return self.out / self.scale.name / self.figure.paper / self.figure.short

    def path(self, suffix: str) -> Path:
        return Path(f"{self.stem}.{suffix}")

    @property
    def paths(self) -> list[Path]:
        """All of them; the json comes last, since it says that the others are complete."""
        table = [self.path("csv")] if self.figure.table else []
        return [
            *picture_paths(self.stem),
            self.path("h5"),
            *table,
            self.path("md"),
            self.path("json"),
        ]

    def current(self, plan: Mapping[str, Work]) -> dict[str, Any] | None:
        """The report on disk, if it is of this very plan and every file is there."""
        try:
            report: dict[str, Any] = json.loads(self.path("json").read_text())
        except (OSError, ValueError, RecursionError):
            return None
        if not _is_report(report):
            return None
        same = report.get("plan") == plan_digest(plan) and report.get("version") == __version__
        return report if same and all(path.exists() for path in self.paths) else None

    @property
    def unfinished(self) -> bool:
        """Whether what there is was left by an interrupted command: the json comes last."""
        return not self.path("json").exists()

    def check(self, *, overwrite: bool) -> None:
        """Refuse now what could not be written later."""
        overwrite = overwrite or self.unfinished
        for path in self.paths:
            check_writable(path, overwrite=overwrite)


def _is_report(content: Any) -> bool:
    """Whether a file holds what ``make`` writes, as far as it is shown."""

    def texts(part: Any, *names: str) -> bool:
        return isinstance(part, dict) and all(isinstance(part.get(name), str) for name in names)

    return (
        texts(content, "figure", "title", "scale", "version", "plan", "analogue")
        and isinstance(content.get("claims"), list)
        and all(texts(c, "claim", "where", "outcome", "numbers", "of") for c in content["claims"])
        and all("samples" in claim for claim in content["claims"])
    )


def plan_digest(plan: Mapping[str, Work]) -> str:
    """What identifies a plan: its names and the digests of its works."""
    text = json.dumps({name: work.digest for name, work in plan.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def make(
    files: Files, plan: Mapping[str, Work], cache: Cache, *, overwrite: bool = False
) -> dict[str, Any]:
    """Draw, check the claims and write everything; all work must be in the cache."""
    figure = files.figure
    found = Found(files.scale, {name: cache.get(work) for name, work in plan.items()})
    verdicts = [_judge(claim.check, found) for claim in figure.claims]
    results: dict[str, Result] = found.results()
    table = figure.table(found) if figure.table else None
    if table is not None:
        results["table"] = table
    with paper():
        picture = figure.draw(found)
    save_figure(picture, files.stem, overwrite=overwrite)
    save_all(files.path("h5"), results, overwrite=overwrite)
    if table is not None:
        write_atomic(files.path("csv"), table.csv().encode(), overwrite=overwrite)
    whole = everything(plan)
    report = {
        "figure": figure.name,
        "title": figure.title,
        "scale": files.scale.name,
        "version": __version__,
        "plan": plan_digest(plan),
        "numbers": numbers_digest(results),
        "analogue": figure.analogue if files.scale.name != "paper" else "",
        "claims": [
            {
                "claim": claim.text,
                "where": claim.where,
                "outcome": verdict.outcome,
                "numbers": verdict.numbers,
                "effect": verdict.effect if math.isfinite(verdict.effect) else None,
                "samples": verdict.samples,
                "of": verdict.of,
            }
            for claim, verdict in zip(figure.claims, verdicts, strict=True)
        ],
        "runs": [work.title for work in whole.values() if isinstance(work, Run)],
        "seconds": round(sum(cache.seconds(work) for work in whole.values()), 1),
    }
    write_atomic(files.path("md"), _markdown(report, files).encode(), overwrite=overwrite)
    content = json.dumps(report, indent=1, allow_nan=False).encode()
    write_atomic(files.path("json"), content, overwrite=overwrite)
    return report


def numbers_digest(results: Mapping[str, Result]) -> str:
    """SHA-256 of every number of some results, without dates and times."""
    digest = hashlib.sha256()
    for name, result in sorted(results.items()):
        for field in result.fields():
            if field.name == "seconds":  # of a training's epochs
                continue
            value = getattr(result, field.name)
            digest.update(f"{name}.{field.name}".encode())
            whole = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
            digest.update(value.tobytes() if whole else repr(value).encode())
    return digest.hexdigest()


def _judge(check: Any, found: Found) -> Verdict:
    verdict: Verdict = check(found)
    if found.scale.smoke:  # no number means anything
        return Verdict(OPEN, verdict.numbers, verdict.effect, verdict.samples, verdict.of)
    return verdict


def _markdown(report: Mapping[str, Any], files: Files) -> str:
    lines = [
        f"# {report['figure']}: {report['title']}",
        "",
        f"Made at scale `{report['scale']}` by landscape {report['version']}: "
        f"`landscape figure {report['figure']}"
        + (f" --scale {report['scale']}" if report["scale"] != "digits" else "")
        + "`.",
        "",
        f"![{report['title']}]({files.path('png').name})",
        "",
    ]
    if report["analogue"]:
        lines += [f"**Instead of the paper's setting:** {report['analogue']}", ""]
    if report["claims"]:
        lines += ["| claim | where | outcome | numbers | from |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {c['claim']} | {c['where']} | **{c['outcome']}** | {c['numbers']} "
            f"| {c['samples']} {c['of']} |"
            for c in report["claims"]
        ]
        lines += ["", "Intervals are of 90 %, over seeds if not said otherwise.", ""]
    lines += [f"{len(report['runs'])} trainings, {report['seconds']:.0f} s of work in all."]
    lines += [f"- {title}" for title in report["runs"]]
    return "\n".join(lines) + "\n"
