"""sitawarin2021 Tables 1 to 3 as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from landscape.papers.claims import Claim
from landscape.papers.drawing import typeset
from landscape.papers.figures import Figure
from landscape.papers.scale import Scale
from landscape.papers.sitawarin2021 import table_claims
from landscape.papers.sitawarin2021.setting import DEFENCES, larger, main, mnist, networks
from landscape.papers.sitawarin2021.tables import Settings, plan, table_of
from landscape.running.work import Work

_HALF = "AutoAttack on 150 of the 300 test images."


def _figure(
    name: str,
    title: str,
    settings: Settings,
    defences: Sequence[str],
    claims: Sequence[Claim],
    analogue: str,
    needs: str = "",
) -> Figure:
    table = table_of(settings, defences)
    return Figure(
        name,
        title,
        plan=plan(settings, defences),
        draw=lambda found: typeset(table(found), digits=3, best="max"),
        claims=claims,
        table=table,
        analogue=analogue,
        needs=needs,
    )


TABLE1 = _figure(
    "sitawarin2021/table1",
    "Clean and AutoAttack accuracy of six defences, and their sum",
    networks,
    list(DEFENCES),
    table_claims.table1(networks),
    f"LeNet on digits with ε = 0.1 in place of two networks on CIFAR-10 and CIFAR-100. {_HALF}",
    "24 trainings, some 360 GPU hours in the paper; AutoAttack on 10,000 images each",
)
TABLE2 = _figure(
    "sitawarin2021/table2",
    "Clean and AutoAttack accuracy at two large radii",
    mnist,
    list(DEFENCES),
    table_claims.table2(mnist),
    "Digits with ε = 0.1, as in Table 1, and 0.2, as in Table 3, in place of MNIST with 0.3 and "
    "0.45. At 0.2 attacks in training have 5 steps of ε/2, λ of H-SAT rises in steps, CAT20 has "
    f"its authors' constants (c = 10, η = 0.005), and DAT is trained once. {_HALF}",
    "12 trainings, some 2 GPU hours each in the paper",
)
_THREE = [defence for defence in DEFENCES if defence != "CAT20"]


def _plan3(scale: Scale) -> Mapping[str, Work]:
    # What the advantage at the larger radii is compared with.
    first = plan(lambda _: [main(scale)], ("AT", "P-SAT"))(scale)
    return {**plan(larger, _THREE)(scale), **first}


_table3 = table_of(larger, _THREE)
TABLE3 = Figure(
    "sitawarin2021/table3",
    "Clean and AutoAttack accuracy at two and three times the radius",
    plan=_plan3,
    draw=lambda found: typeset(_table3(found), digits=3, best="max"),
    claims=table_claims.table3(larger),
    table=_table3,
    analogue="Digits with twice Table 1's ε = 0.1 in place of CIFAR-10 with two and three times "
    "8/255; nothing in place of Imagenette. Attacks of 5 steps of ε/2 in training, λ of H-SAT in "
    f"steps; DAT is trained once, and not compared. {_HALF}",
    needs="20 trainings, 10 of them of ResNet-34 on images of 224×224 pixels",
)
