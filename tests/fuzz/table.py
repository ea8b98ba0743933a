"""The figures of a campaign as a section of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fuzz.campaign import Tally

BEGIN, END = "<!-- fuzz -->", "<!-- /fuzz -->"

# Columns and the faults that they count.
_COUNTED = {
    "code executions": ("execution",),
    "written elsewhere": ("outside",),
    "tracebacks": ("traceback",),
    "hangs": ("hang",),
    "crashes": ("crash",),
    "over 1 GiB": ("memory",),
    "wrong exit codes": ("exit code",),
    "not one clear line": ("message", "unexplained", "noise"),
}


def markdown(tallies: Sequence[Tally]) -> str:
    """A row per kind of input, and their sum."""
    columns = ["input", "fuzzed", "refused", "accepted", *_COUNTED, "kept mutants", "lines reached"]
    rows = [[t.kind, *map(str, _numbers(t)), str(t.kept), str(t.lines)] for t in tallies]
    sums = [sum(column) for column in zip(*map(_numbers, tallies), strict=True)]
    rows.append(["**all**", *(f"**{n}**" for n in sums), "", ""])
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _numbers(tally: Tally) -> list[int]:
    counted = [sum(tally.faults[kind] for kind in kinds) for kinds in _COUNTED.values()]
    return [tally.inputs, tally.refused, tally.accepted, *counted]


def write(page: Path, tallies: Sequence[Tally], remark: str) -> None:
    """Replace what stands between the markers of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{page} lacks the lines {BEGIN} and {END}"
    page.write_text(f"{before}{BEGIN}\n{remark}\n\n{markdown(tallies)}{end}{after}")
