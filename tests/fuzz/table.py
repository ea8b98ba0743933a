"""The figures of a campaign as a section of a page, a row for every kind of input."""

from __future__ import annotations

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
_COLUMNS = ["input", "fuzzed", "refused", "accepted", *_COUNTED, "kept mutants", "lines reached"]
_SUMMED = 3 + len(_COUNTED)  # columns before this one add up
_ALL = "**all**"


def write(page: Path, tally: Tally) -> None:
    """Put the row of a kind, and their sum, between the markers of a page; other rows stay."""
    before, _, rest = page.read_text().partition(BEGIN)
    old, end, after = rest.partition(END)
    assert end, f"{page} lacks the lines {BEGIN} and {END}"
    rows = {row[0]: row for row in map(_cells, old.splitlines()) if len(row) == len(_COLUMNS)}
    for head in (_COLUMNS[0], "---", _ALL):
        rows.pop(head, None)
    counted = [sum(tally.faults[kind] for kind in kinds) for kinds in _COUNTED.values()]
    numbers = [tally.inputs, tally.refused, tally.accepted, *counted, tally.kept, tally.lines]
    rows[tally.kind] = [tally.kind, *map(str, numbers)]
    columns = list(zip(*rows.values(), strict=True))[1 : _SUMMED + 1]
    sums = [f"**{sum(map(int, column))}**" for column in columns]
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *rows.values(), [_ALL, *sums, "", ""]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    page.write_text(f"{before}{BEGIN}\n{table}\n{end}{after}")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if "|" in line else []
