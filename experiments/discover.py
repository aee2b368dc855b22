"""Evolves the numbers of a learning rule: experiments/evolved.py, starting from plain STDP, or a custom rule."""

import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import evolved
import jax
import numpy as np
from book_pictures import discovering
from judging import Judge, best_of, load_rule

from snnjax import InputError, data
from snnjax.app import console, planning, shared_options
from snnjax.app.main import command_options, protected
from snnjax.app.shared_options import option
from snnjax.core import devices, files
from snnjax.core.errors import MissingPackageError
from snnjax.training import workers

INITIAL_STD = 0.6  # initial standard deviation of CMA-ES, in steps
REACH = 2.0  # range of random rules, in steps to each side of the start
STOPPED = "Stopped; complete generations are kept. The same command continues."


@dataclasses.dataclass(frozen=True)
class Search:
    """Evolve a learning rule. All rules of a generation are trained side by side, and judged on other images.

    $ python experiments/discover.py --dataset mnist --out runs/discover_mnist
    $ python experiments/discover.py                       on scikit-learn's digits
    $ python experiments/discover.py --rule my_rule.py     varies the numbers of a custom rule

    The same command continues where it stopped; another search needs another folder. The folder contains
    generations.json, found.json, and window.png, which is drawn after each generation.
    """

    rule: Annotated[Path, option("FILE.py", "experiments/evolved.py")] = Path(evolved.__file__)
    """Python file that defines `NUMBERS`, which are varied, and `searched`, which makes the networks that judge"""
    dataset: Annotated[str, option("NAME")] = "digits"
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if need be")] = None
    search: Literal["evolution", "random"] = "evolution"
    """random: rules are drawn uniformly, up to two steps to each side of the start"""
    generations: Annotated[int, option("N")] = 28
    population: Annotated[int, option("N", help="number of rules in a generation")] = 24
    seed: Annotated[int, option("N")] = 0
    at_once: Annotated[int, option("N", help="maximum number of networks that train in one program")] = 64
    scheduler: Annotated[str | None, option("ADDRESS", "this process trains")] = None
    """address of a Dask scheduler, whose workers train"""
    out: Annotated[Path, option("DIR")] = evolved.OWN.parent


def evolve(chosen: Search, kept: dict[str, Any], judge: Judge, save: Callable[[], None]) -> None:
    """Adds the missing generations to the ones that were kept; saves and draws after each generation."""
    try:
        from evosax.algorithms import CMA_ES  # starts JAX
    except ImportError as error:
        raise MissingPackageError(f"the search needs evosax: pip install 'snnjax[evolution]' ({error})") from error
    records = kept["generations"]
    strategy = CMA_ES(population_size=chosen.population, solution=judge.start)
    settings = strategy.default_params.replace(std_init=INITIAL_STD)
    state = strategy.init(jax.random.key(chosen.seed), judge.start, settings)
    for number in range(chosen.generations):
        begin = time.perf_counter()
        key = jax.random.fold_in(jax.random.key(chosen.seed), number)
        asked = strategy.ask(key, state, settings)
        state = asked[1]
        points = asked[0]
        if chosen.search == "random":
            points = jax.random.uniform(key, points.shape, minval=-REACH, maxval=REACH)
        new = number == len(records)
        if new:
            points = np.round(judge.nearest(points), 4)
            records.append(dict(points=points.tolist(), gains=judge.gains(points, number).tolist()))
        record = records[number]
        gains = np.array(record["gains"], np.float32)
        if chosen.search == "evolution":
            points = np.array(record["points"], np.float32)
            state = strategy.tell(key, points, -gains, state, settings)[0]
        if new:
            spent = time.perf_counter() - begin
            record |= dict(mean=np.round(judge.nearest(state.mean), 4).tolist(), seconds=round(spent, 1))
            save()
            (chosen.out / "window.png").write_bytes(discovering.picture(records, judge))
            left = console.left(spent * (chosen.generations - number - 1))
            shown = f"best {gains.max():+.2%}, median {np.median(gains):+.2%} above the start"
            print(f"generation {number + 1}: {shown}, {left}", flush=True)


def run(chosen: Search) -> None:
    """Searches for a rule, and writes the rule that it has found."""
    shared_options.check_least(chosen, generations=1, population=2, at_once=1)
    devices.choose("auto")
    rule = load_rule(chosen.rule)
    images = data.load(chosen.dataset, chosen.data_dir)
    about: dict[str, Any] = dict(
        search=chosen.search,
        population=chosen.population,
        seed=chosen.seed,
        images=images.digest,
        rule=hashlib.sha256(chosen.rule.read_bytes()).hexdigest()[:12],
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "generations.json"
    ready = functools.partial(planning.ready, "auto", (str(chosen.rule.resolve()),))
    cluster = workers.cluster(chosen.scheduler, ready) if chosen.scheduler else contextlib.nullcontext(workers.SERIAL)
    with files.lock(chosen.out), cluster as given:
        kept: dict[str, Any] = files.read_json(path) if path.exists() else dict(about=about, generations=[], finals={})
        if other := [name for name in about if kept["about"].get(name) != about[name]]:
            different = ", ".join(other)
            raise InputError(f"`out` must be another folder: {chosen.out} holds a search with a different {different}")
        judge = Judge(rule, images, given, chosen.at_once)
        save = functools.partial(files.write_json, path, kept)
        evolve(chosen, kept, judge, save)
        found = judge.numbers(best_of(kept, judge, save))
        files.write_json(chosen.out / "found.json", found)
    print(chosen.out / "found.json", found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and searches."""
    with command_options("python experiments/discover.py", Search, arguments, STOPPED) as chosen:
        run(chosen)


if __name__ == "__main__":
    with protected():
        main()
