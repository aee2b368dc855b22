"""Tables that compare STDP across simulators, from the results of benchmarks/simulators.py."""

import sys
import tomllib
from pathlib import Path

from book_tables.places import TOP
from book_tables.recorded import format_list, recorded

sys.path.append(str(TOP / "benchmarks"))
import simulator_tables as tables


def simulators(_: Path, __: str) -> str:
    """Accuracy, time, memory and activity of each recipe."""
    record = recorded("simulators")
    about = record["about"]
    device = about["device"].removeprefix("cpu: ")
    caption = f"*MNIST, {about['images']}; CPU: {device}, {about['date']}.*"
    return tables.results_table(record["results"], caption).strip()


def simulator_features(_: Path, __: str) -> str:
    """The test accuracy of the same linear readout on the features of each recipe."""
    record = recorded("simulators")
    return tables.features_table(record["results"], record["pixels"]).strip()


def simulator_recipes(_: Path, __: str) -> str:
    """The neurons that each recipe simulates, and its source."""
    return tables.recipes_table(recorded("simulators")["results"]).strip()


def simulator_repeats(_: Path, __: str) -> str:
    """Accuracy and training time of the recipes that were measured again, compared with the first run."""
    record = recorded("simulators")
    return tables.repeats_table(record["results"], record["repeats"]).strip()


def simulators_without(_: Path, __: str) -> str:
    """A list of the simulators that have no row, with the reasons."""
    record = recorded("simulators")
    recipes = tomllib.loads((TOP / "benchmarks" / "recipes" / "simulators.toml").read_text())["recipes"]
    missing = [name for name in recipes if name not in tables.by_recipe(record["results"])]
    later = [f"{'; '.join(missing)}: not measured yet."] if missing else []
    return format_list([*later, *tables.reasons(record["results"], record["without"])])
