"""``compare``: the networks of one or several reports."""

from __future__ import annotations

from landscape.errors import UsageError
from landscape.reporting.comparing import Comparison, compare_numbers
from landscape.reporting.document import Report
from landscape.reporting.headlines import Headline


def compare(*reports: Report, names: tuple[str, ...] = ()) -> Comparison:
    """Differences of every headline number from the first network's (``compare_numbers``).

    Args:
        reports: one of several networks, or several. names: of the reports, put before those
            of networks that several have.
    """
    labels = names or tuple(f"report {i}" for i in range(1, len(reports) + 1))
    if len(labels) != len(reports):
        raise UsageError(f"{len(reports)} reports have {len(labels)} names: give one each.")
    numbers: dict[str, list[Headline]] = {}
    every = [network for report in reports for network in report.networks]
    for label, report in zip(labels, reports, strict=True):
        for network, found in report.headlines().items():
            name = f"{label}: {network}" if every.count(network) > 1 else network
            if name in numbers:
                raise UsageError(f"'{name}' is given twice: give every report another name.")
            numbers[name] = found
    if len(numbers) < 2:
        raise UsageError("a comparison needs two networks: give two checkpoints or reports.")
    return compare_numbers(numbers)
