"""What a report says, on the page and in the terminal alike: rows of tables, sentences."""

from __future__ import annotations

from typing import Any

from landscape.reporting.comparing import Comparison
from landscape.reporting.document import FAILED, SKIPPED, Report
from landscape.reporting.planning import duration
from landscape.reporting.sections import SECTIONS

UNCERTAINTY = (
    "a ± b: standard error b over the n samples or random vectors. a [b, c]: 95 % interval over "
    "samples (Wilson). a (±b): off by at most b on these samples (residual or certificate). "
    "Without either: exact on these samples. All say nothing of another training of the same kind."
)


def rows(report: Report, section: str | None = None) -> list[list[str]]:
    """Quantity, a value per network, n; of one section or of all."""
    numbers = report.headlines()
    names: dict[tuple[str, str], dict[str, Any]] = {}
    for network, found in numbers.items():
        for h in found:
            if section in (None, h.section):
                names.setdefault((h.section, h.name), {})[network] = h
    order = list(SECTIONS)
    table = []
    for (key, name), here in sorted(names.items(), key=lambda item: order.index(item[0][0])):
        one = next(iter(here.values()))
        label = quantity(key, name, "" if one.units == "fraction" else one.units)
        counts = "/".join(dict.fromkeys(str(h.n) for h in here.values()))
        table.append([label, *[str(here.get(n, "–")) for n in report.networks], counts])
    return table


def quantity(section: str, name: str, units: str) -> str:
    adversarial = "adversarial " if section == "spectrum_attacked" else ""
    return f"{adversarial}{name}" + (f" ({units})" if units else "")


def comparison(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Columns, and a row per number and network."""
    several = len(set(map(str, found.network))) > 1
    other = "network" if several else str(found.network[0])
    columns = ["quantity", found.first, *([other, "its value"] if several else [other])]
    table = []
    for i, name in enumerate(map(str, found.network)):
        percent = found.units[i] == "fraction"
        unit, factor = ("%", 100) if percent else (str(found.units[i]), 1)
        error, bound, p = found.standard_error[i], found.bound[i], found.p_adjusted[i]
        spread = f" ± {factor * error:.2g}" if error == error else ""
        if bound == bound:
            spread = f" (±{bound:.1g})" if bound else ""
        table.append(
            [
                quantity(str(found.section[i]), str(found.name[i]), unit),
                f"{factor * found.first_value[i]:.4g}",
                *([name] if several else []),
                f"{factor * found.value[i]:.4g}",
                f"{factor * found.difference[i]:+.3g}{spread}",
                "–" if p != p else f"{p:.2g}" if p >= 1e-4 else "< 0.0001",
                str(found.verdict[i]),
            ]
        )
    return [*columns, "difference", "p", "verdict"], table


def about_comparison(found: Comparison) -> str:
    """How many differ, and how the verdicts were reached."""
    differ = sum(str(verdict).endswith(" higher") for verdict in found.verdict)
    return (
        f"{differ} of {len(found.verdict)} differ. Each number minus that of {found.first}. Means "
        "over the same samples or random vectors are compared in pairs, others as independent; p "
        f"is two-sided and corrected for all {found.tests} rows that have one (Holm), and a "
        "verdict needs p < 0.05. Numbers known up to a residual differ if the difference exceeds "
        "both residuals together. These are differences between networks on these samples, not "
        "between ways of training."
    )


def attacked_by(report: Report) -> str:
    """The data and the attack of the adversarial sections."""
    record = report.summary.provenance
    first = next(iter(record.objective.values()))
    said = f"{first['data']['samples']} samples for the landscape"
    attack = record.settings["attack"]
    if attack is None:
        return f"{said}; no attack, so no adversarial section."
    starts = f", {attack['restarts']} starts" if attack["restarts"] > 1 else ""
    return (
        f"{said}; attacks: {attack['steps']} steps{starts}, {attack['norm']}, "
        f"ε = {attack['eps']:.4g}."
    )


def how(report: Report, section: str) -> str:
    """Samples, settings and time of a section."""
    summary = report.summary
    k = list(summary.section).index(section)
    results = report.results[section].values()
    samples = "/".join(
        dict.fromkeys(str(r.provenance.objective["data"]["samples"]) for r in results)
    )
    settings = summary.settings_of(section) or {}
    rest = ", ".join(
        f"{key.replace('_', ' ')} {value}"
        for key, value in settings.items()
        if key != "examples" and value is not None
    )
    on = "held-out samples" if SECTIONS[section].held_out else "samples"
    took = duration(float(summary.seconds[:, k].sum()))
    return (
        f"On {samples} {on}" + (f"; {rest}" if rest else "") + f". Took {took}, "
        f"planned {duration(float(summary.planned_seconds[k]))}."
    )


def left_out(report: Report) -> list[list[str]]:
    """Section, networks, what became of it and why; networks of one reason together."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for state in (FAILED, SKIPPED):
        for network, key, why in report.left_out(state):
            together.setdefault((SECTIONS[key].title, state, why), []).append(network)
    every = len(report.networks)
    return [
        [title, "all" if len(networks) == every > 1 else ", ".join(networks), state, why]
        for (title, state, why), networks in together.items()
    ]
