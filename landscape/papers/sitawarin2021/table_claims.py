"""What sitawarin2021 says about its Tables 1 to 3, as checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import FAILS, HOLDS, OPEN, Claim, Verdict
from landscape.papers.figures import Found
from landscape.papers.sitawarin2021.setting import Setting, main
from landscape.papers.sitawarin2021.tables import Settings, by_seed

Check = Callable[[Found], Verdict]
_NAMES = {"clean": "clean accuracy", "adv": "AutoAttack accuracy", "sum": "sum of accuracies"}
# Accuracies "of the same range", or differences that are "large", in points.
CLOSE, MARGIN, CHANCE = 15.0, 5.0, 15.0


def paired(
    found: Found, setting: Setting, what: str, one: str, other: str
) -> tuple[list[float], list[float]]:
    """The two defences' numbers for the seeds that both have."""
    a, b = (by_seed(found, setting.key, d, what) for d in (one, other))
    common = [seed for seed in a if seed in b]
    return [a[s] for s in common], [b[s] for s in common]


def exceeds(
    found: Found, setting: Setting, what: str, one: str, other: str, by: float = 0.0
) -> Verdict:
    values = paired(found, setting, what, one, other)
    text = f"{setting.label}, {_NAMES[what]} (%)"
    return claims.greater(*values, text, names=(one, other), by=by)


def within(
    found: Found, setting: Setting, what: str, one: str, other: str, points: float
) -> Verdict:
    """The two differ by less than so many points."""
    a, b = paired(found, setting, what, one, other)
    text = f"{setting.label}, {points:g} points less the difference of {one} and {other}, "
    parts = [
        claims.positive([points + s * (x - y) for x, y in zip(a, b, strict=True)], text + word)
        for s, word in ((1, "if below"), (-1, "if above"))
    ]
    return claims.all_of(parts)


def most_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Holds if more than half of them do, fails if at least half fail."""
    together = claims.all_of(verdicts)
    count = {o: sum(v.outcome == o for v in verdicts) for o in (HOLDS, FAILS)}
    outcome = OPEN
    if 2 * count[HOLDS] > len(verdicts):
        outcome = HOLDS
    elif 2 * count[FAILS] >= len(verdicts):
        outcome = FAILS
    return Verdict(outcome, together.numbers, together.effect, together.samples, together.of)


def judged(setting: Setting, defences: Sequence[str]) -> list[str]:
    """Those that were trained with all seeds."""
    return [defence for defence in defences if defence not in setting.once]


def highest(settings: Settings, what: str, one: str, others: Sequence[str]) -> Check:
    return lambda found: claims.all_of(
        [
            exceeds(found, setting, what, one, other)
            for setting in settings(found.scale)
            for other in judged(setting, others)
        ]
    )


def most_often(settings: Settings, what: str, one: str, others: Sequence[str]) -> Check:
    return lambda found: most_of(
        [
            exceeds(found, setting, what, one, other)
            for setting in settings(found.scale)
            for other in others
        ]
    )


def _alike(settings: Settings, one: str, other: str) -> Check:
    return lambda found: claims.all_of(
        [within(found, s, "sum", one, other, MARGIN) for s in settings(found.scale)]
    )


def best_of_two(settings: Settings, others: Sequence[str]) -> Check:
    """The better of H-SAT and P-SAT, seed by seed, withstands AutoAttack better than each."""

    def check(found: Found) -> Verdict:
        parts = []
        for setting in settings(found.scale):
            if setting.key == "cifar10-prn20":  # the exception that the paper makes
                continue
            h, p = (by_seed(found, setting.key, d, "adv") for d in ("H-SAT", "P-SAT"))
            for other in judged(setting, others):
                theirs = by_seed(found, setting.key, other, "adv")
                common = [s for s in theirs if s in h and s in p]
                parts.append(
                    claims.greater(
                        [max(h[s], p[s]) for s in common],
                        [theirs[s] for s in common],
                        f"{setting.label}, {_NAMES['adv']} (%)",
                        names=("better of H-SAT and P-SAT", other),
                    )
                )
        return claims.all_of(parts)

    return check


def least_robust(settings: Settings, others: Sequence[str]) -> Check:
    """CAT20 is below each of the others by more than ``MARGIN`` points."""
    return lambda found: claims.all_of(
        [
            exceeds(found, setting, "adv", other, "CAT20", by=MARGIN)
            for setting in settings(found.scale)
            for other in judged(setting, others)
        ]
    )


def obfuscated(settings: Settings) -> Check:
    """What CAT20 loses from PGD-20 to AutoAttack is more than ``MARGIN`` points."""

    def check(found: Found) -> Verdict:
        parts = []
        for setting in settings(found.scale):
            pgd, auto = (by_seed(found, setting.key, "CAT20", w) for w in ("pgd-20", "adv"))
            what = f"{setting.label}, CAT20's accuracy under PGD-20 less that under AutoAttack (%)"
            parts.append(claims.positive([pgd[s] - auto[s] for s in auto], what, at_least=MARGIN))
        return claims.all_of(parts)

    return check


def at_most(settings: Settings, which: int | None, what: str, defence: str, top: float) -> Check:
    """A defence has at most so many percent, in all settings or one."""

    def check(found: Found) -> Verdict:
        chosen = list(settings(found.scale))
        parts = []
        for setting in chosen if which is None else [chosen[which]]:
            values = list(by_seed(found, setting.key, defence, what).values())
            one = claims.positive([top - v for v in values], f"{top:g} % less {_NAMES[what]}")
            text = f"{setting.label}, {defence}: {np.mean(values):.3g} %, {one.numbers}"
            parts.append(Verdict(one.outcome, text, one.effect, one.samples))
        return claims.all_of(parts)

    return check


def robust(settings: Settings, which: int, defence: str) -> Check:
    """More than ``CHANCE`` percent withstand AutoAttack."""

    def check(found: Found) -> Verdict:
        setting = settings(found.scale)[which]
        values = list(by_seed(found, setting.key, defence, "adv").values())
        what = f"{setting.label}, {defence}'s AutoAttack accuracy (%)"
        return claims.positive(values, what, at_least=CHANCE)

    return check


def every(*checks: Check) -> Check:
    return lambda found: claims.all_of([check(found) for check in checks])


def same_range(settings: Settings, defences: Sequence[str]) -> Check:
    """Clean and robust accuracies lie within ``CLOSE`` points of each other."""

    def check(found: Found) -> Verdict:
        setting = settings(found.scale)[0]
        parts = []
        for what in ("clean", "adv"):
            several = [by_seed(found, setting.key, d, what) for d in judged(setting, defences)]
            width = [
                CLOSE - np.ptp([values[s] for values in several])
                for s in several[0]
                if all(s in values for values in several)
            ]
            text = f"{setting.label}, {CLOSE:g} points less the range of {_NAMES[what]}"
            parts.append(claims.positive(width, text))
        return claims.all_of(parts)

    return check


def grows(settings: Settings) -> Check:
    """P-SAT's sum less AT's, against ε: from Table 1's radius to those of Table 3."""

    def check(found: Found) -> Verdict:
        chosen = [main(found.scale), *list(settings(found.scale))[:2]]
        radii, gains = [], []
        for setting in chosen:
            evaluation = setting.run(found.scale, "AT", 0).config().evaluation
            assert evaluation is not None
            radii.append(evaluation.ball.radius)
            a, b = paired(found, setting, "sum", "P-SAT", "AT")
            gains.append([x - y for x, y in zip(a, b, strict=True)])
        return claims.trend(radii, np.array(gains).T, "P-SAT's sum less AT's (points) with ε")

    return check


def table1(settings: Settings) -> tuple[Claim, ...]:
    others = ("AT", "TRADES", "DAT", "CAT20", "H-SAT")
    return (
        Claim(
            "P-SAT's sum of clean and robust accuracy exceeds AT's.",
            "abstract, Table 1",
            highest(settings, "sum", "P-SAT", ["AT"]),
        ),
        Claim(
            "P-SAT has the highest sum of all.",
            "§6.2.1, Table 1",
            highest(settings, "sum", "P-SAT", others),
        ),
        Claim(
            "H-SAT or P-SAT is the most robust (in print but for PreAct-ResNet-20 on CIFAR-10).",
            "§6.2.1, Table 1",
            best_of_two(settings, others[:4]),
        ),
        Claim(
            f"CAT20 is the least robust by far (here: by {MARGIN:g} points).",
            "§6.2.1, Table 1",
            least_robust(settings, [d for d in (*others, "P-SAT") if d != "CAT20"]),
        ),
        Claim(
            "CAT20 has a slightly higher clean accuracy than the others, mostly.",
            "§6.2.1, Table 1",
            most_often(settings, "clean", "CAT20", [d for d in (*others, "P-SAT") if d != "CAT20"]),
        ),
        Claim(
            f"PGD overrates CAT20's robustness (here: by {MARGIN:g} points).",
            "§6.2.1",
            obfuscated(settings),
        ),
        Claim(
            f"AT does about as well as TRADES (here: sums within {MARGIN:g} points).",
            "§6.2.1, Table 1",
            _alike(settings, "AT", "TRADES"),
        ),
        Claim(
            "AT mostly outperforms the other curricula, DAT and CAT20.",
            "§6.2.1, Table 1",
            most_often(settings, "sum", "AT", ("DAT", "CAT20")),
        ),
        Claim(
            "P-SAT mostly outperforms H-SAT.",
            "§6.2.1, Table 1",
            most_often(settings, "sum", "P-SAT", ("H-SAT",)),
        ),
    )


def table2(settings: Settings) -> tuple[Claim, ...]:
    return (
        Claim(
            f"At the smaller radius all but CAT20 are of one range (here: {CLOSE:g} points).",
            "§6.2.1, Table 2",
            same_range(settings, ("AT", "TRADES", "DAT", "H-SAT", "P-SAT")),
        ),
        Claim(
            "There P-SAT outperforms AT, TRADES, CAT20 and H-SAT.",
            "§6.2.1, Table 2",
            lambda found: highest(
                lambda scale: settings(scale)[:1],
                "sum",
                "P-SAT",
                ("AT", "TRADES", "CAT20", "H-SAT"),
            )(found),
        ),
        Claim(
            "CAT20 has next to no robustness against AutoAttack (here: at most 1 %).",
            "§6.2.1, Table 2",
            at_most(settings, None, "adv", "CAT20", 1.0),
        ),
        Claim(
            f"PGD overrates CAT20's robustness (here: by {MARGIN:g} points).",
            "§6.2.1",
            obfuscated(settings),
        ),
        Claim(
            "At the larger radius AT ends as a constant classifier (here: clean at most 15 %).",
            "§6.2.1, Table 2",
            at_most(settings, 1, "clean", "AT", CHANCE),
        ),
        Claim(
            "There none of AT, TRADES and CAT20 is robust (here: at most 15 %).",
            "§6.2.1, Table 2",
            every(*(at_most(settings, 1, "adv", d, CHANCE) for d in ("AT", "TRADES", "CAT20"))),
        ),
        Claim(
            "There H-SAT and P-SAT are robust (here: more than 15 %).",
            "§6.2.1, Table 2",
            every(*(robust(settings, 1, d) for d in ("H-SAT", "P-SAT"))),
        ),
        Claim("There DAT is, too.", "§6.2.1, Table 2", robust(settings, 1, "DAT")),
    )


def table3(settings: Settings) -> tuple[Claim, ...]:
    return (
        Claim(
            "With larger radii H-SAT and P-SAT have a higher clean accuracy than AT.",
            "§6.2.2, Table 3",
            every(*(highest(settings, "clean", d, ["AT"]) for d in ("H-SAT", "P-SAT"))),
        ),
        Claim(
            "They have a higher robust accuracy than TRADES.",
            "§6.2.2, Table 3",
            every(*(highest(settings, "adv", d, ["TRADES"]) for d in ("H-SAT", "P-SAT"))),
        ),
        Claim(
            "P-SAT has the highest sum (in print but for Imagenette at 16/255, H-SAT's).",
            "§6.2.2, Table 3",
            highest(settings, "sum", "P-SAT", ("AT", "TRADES", "DAT", "H-SAT")),
        ),
        Claim(
            "H-SAT and P-SAT both have a higher sum than AT, TRADES and DAT (in print on "
            "Imagenette, where DAT's is above H-SAT's at 24/255).",
            "§6.2.2, Table 3",
            every(
                *(
                    highest(lambda scale: settings(scale)[-2:], "sum", d, ("AT", "TRADES", "DAT"))
                    for d in ("H-SAT", "P-SAT")
                )
            ),
        ),
        Claim("P-SAT's advantage over AT grows with ε.", "§6.2.2", grows(settings)),
    )
