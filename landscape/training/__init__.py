"""Training: one loop, methods as rows of a table, runs that can be interrupted.

``fit`` trains any network on any data; ``train`` runs a ``TrainConfig`` in a folder.
"""

from landscape.training.config import TrainConfig
from landscape.training.folder import epoch_files
from landscape.training.history import History
from landscape.training.loop import fit
from landscape.training.method_table import ADDITIONS, METHODS, AdditionEntry, MethodEntry
from landscape.training.methods import Method, method
from landscape.training.mixing import Extra
from landscape.training.optimisers import OPTIMISERS, Optimiser
from landscape.training.plan import Plan
from landscape.training.recipes import RECIPES, Recipe, default_config
from landscape.training.runs import train
from landscape.training.schedules import SCHEDULES, Schedule
from landscape.training.state import State

__all__ = [  # noqa: RUF022  grouped by subject: the map of the package
    # any network and data
    "Plan",
    "State",
    "fit",
    # runs in a folder, by name
    "RECIPES",
    "Recipe",
    "TrainConfig",
    "Extra",
    "default_config",
    "train",
    "epoch_files",
    "History",
    # what a plan is made of
    "ADDITIONS",
    "METHODS",
    "OPTIMISERS",
    "SCHEDULES",
    "Method",
    "MethodEntry",
    "AdditionEntry",
    "Optimiser",
    "Schedule",
    "method",
]
