"""The campaign's figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from faults.campaign import Outcome

COLUMNS = (
    "command",
    "fault",
    "injected",
    "equal numbers",
    "refused first",
    "lost",
    "partial files",
    "other problems",
)
_BEGIN, _END = "<!-- faults -->", "<!-- /faults -->"

Found = Mapping[tuple[str, str], Sequence[Outcome]]


def rows(found: Found) -> list[list[str]]:
    """A row per command and fault, and their sum."""
    lines = [[*key, *map(str, _counts(outcomes))] for key, outcomes in found.items() if outcomes]
    everything = [o for outcomes in found.values() for o in outcomes]
    return [*lines, ["**all**", "", *(f"**{n}**" for n in _counts(everything))]]


def _counts(outcomes: Sequence[Outcome]) -> list[int]:
    return [
        sum(o.injected for o in outcomes),
        sum(o.injected and o.equal for o in outcomes),
        sum(o.injected and o.refused for o in outcomes),
        sum(bool(o.lost) for o in outcomes),
        sum(bool(o.partial) for o in outcomes),
        sum(bool(o.problems) for o in outcomes),
    ]


def markdown(found: Found) -> str:
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *rows(found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write(page: Path, found: Found, remark: str) -> None:
    """Replace the table between the markers of a page."""
    text = page.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise SystemExit(f"{page} lacks the lines {_BEGIN} and {_END}")
    page.write_text(f"{before}{_BEGIN}\n{remark}\n\n{markdown(found)}{end}{after}")
