"""Reports: every diagnostic that fits into a time budget, side by side, and what differs."""

from __future__ import annotations

from landscape.reporting.comparing import Comparison, compare_numbers
from landscape.reporting.document import Report, Summary
from landscape.reporting.headlines import Headline
from landscape.reporting.running import report
from landscape.reporting.sections import SECTIONS, Section
from landscape.reporting.together import compare

__all__ = [
    "SECTIONS",
    "Comparison",
    "Headline",
    "Report",
    "Section",
    "Summary",
    "compare",
    "compare_numbers",
    "report",
]
