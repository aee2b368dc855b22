"""Evolves a learning rule: the eleven numbers of experiments/evolved.py, from plain STDP on."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from book_pictures import discovering
from evolved import OWN, START, Evolved, drawn, evolved, numbers_of, within

from snnjax import Images, InputError, Settings, Sweep, data
from snnjax.app import console, parts
from snnjax.app.main import call, protected
from snnjax.app.shared_options import option
from snnjax.core import devices, files
from snnjax.core.errors import MissingPackageError
from snnjax.training import workers

SCATTER = 0.6  # of the first generation, in steps
EPOCHS = (4, 6)
FINALISTS = 9  # rules that are judged again
DRAWS = 5  # on so many draws
FIRST_DRAW = 1000  # from this number on
STOPPED = "Stopped; complete generations are kept. The same command continues."


@dataclasses.dataclass(frozen=True)
class Search:
    """Evolve a learning rule for features: each generation is trained side by side, and judged on other images.

    $ python experiments/discover.py --dataset mnist --out runs/discover_mnist
    $ python experiments/discover.py                                      on scikit-learn's digits
    $ snnjax train --model experiments/evolved.py:own --epochs 4 20       by the rule in runs/discover

    The same command continues where it stopped; another search needs another folder. It holds generations.json,
    found.json, window.png, which is drawn after each generation, and window.gif.
    """

    dataset: Annotated[str, option("NAME")] = "digits"
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if need be")] = None
    search: Literal["evolution", "random"] = "evolution"
    """random: rules are drawn as in the first generation, all the time"""
    generations: Annotated[int, option("N")] = 28
    population: Annotated[int, option("N", help="rules of a generation, each trained from two seeds")] = 24
    seed: Annotated[int, option("N")] = 0
    at_once: Annotated[int, option("N", help="networks of one program at most")] = 64
    scheduler: Annotated[str | None, option("ADDRESS", "this process trains")] = None
    """a Dask scheduler, whose workers train"""
    out: Annotated[Path, option("DIR")] = OWN.parent


def judge(places: np.ndarray, draw: int, images: data.Dataset, given: workers.Workers, at_once: int) -> np.ndarray:
    """How much more accurate the rules at places are than the start, on one draw of images."""
    part = drawn(images, draw)
    network = evolved(Images.of(part), Evolved(), EPOCHS)
    named = [{f"layer1.{name}": x for name, x in numbers_of(place).items()} for place in (START, *places)]
    variants = [row | dict(seed=2 * draw + twin) for row in named for twin in (0, 1)]
    done = Sweep(network, part, Settings.of(network, part), variants, at_once=at_once).run(workers=given).done
    last = [done[i]["epochs"][-1]["test"]["accuracy"] if done[i]["epochs"] else 0.0 for i in range(len(variants))]
    of_start, *of_rules = np.reshape(last, (-1, 2)).mean(axis=1)
    return np.round(np.array(of_rules) - of_start, 5)


def evolve(chosen: Search, kept: dict[str, Any], judged: Callable, save: Callable[[], None]) -> None:
    """Adds the generations that remain to those that are kept; saves and draws after each."""
    try:
        from evosax.algorithms import CMA_ES  # starts JAX
    except ImportError as error:
        raise MissingPackageError(f"the search needs evosax: pip install 'snnjax[evolution]' ({error})") from error
    records = kept["generations"]
    strategy = CMA_ES(population_size=chosen.population, solution=START)
    settings = strategy.default_params.replace(std_init=SCATTER)
    state = strategy.init(jax.random.key(chosen.seed), START, settings)
    for number in range(chosen.generations):
        begin = time.perf_counter()
        key = jax.random.fold_in(jax.random.key(chosen.seed), number)
        population = strategy.ask(key, state, settings)
        state = population[1]
        new = number == len(records)
        if new:
            places = np.round(within(population[0]), 4)
            records.append(dict(rules=places.tolist(), gains=judged(places, number).tolist()))
        record = records[number]
        gains = np.array(record["gains"], np.float32)
        if chosen.search == "evolution":
            state = strategy.tell(key, np.array(record["rules"], np.float32), -gains, state, settings)[0]
        if new:
            spent = time.perf_counter() - begin
            record |= dict(centre=np.round(within(state.mean), 4).tolist(), seconds=round(spent, 1))
            save()
            (chosen.out / "window.png").write_bytes(discovering.drawn(records))
            left = console.left(spent * (chosen.generations - number - 1))
            print(f"generation {number + 1}: {gains.max():+.2%}, median {np.median(gains):+.2%}, {left}", flush=True)


def best_of(kept: dict[str, Any], judged: Callable, save: Callable[[], None]) -> np.ndarray:
    """Of the last centre and the best of all generations, the place that is best on other draws."""
    places = np.concatenate([record["rules"] for record in kept["generations"]])
    gains = np.concatenate([record["gains"] for record in kept["generations"]])
    finalists = np.stack([kept["generations"][-1]["centre"], *places[np.argsort(-gains)[: FINALISTS - 1]]])
    if kept["finals"].get("rules") != finalists.tolist():
        again = [judged(finalists, FIRST_DRAW + draw).tolist() for draw in range(DRAWS)]
        kept["finals"] = dict(rules=finalists.tolist(), gains=again)
        save()
    means = np.mean(kept["finals"]["gains"], axis=0)
    print("judged again: centre", *(f"{gain:+.2%}" for gain in means))
    return finalists[np.argmax(means)]


def run(chosen: Search) -> None:
    """Searches for a rule, and writes the one that it found."""
    parts.check_least(chosen, generations=1, population=2, at_once=1)
    devices.choose("auto")
    images = data.load(chosen.dataset, chosen.data_dir)
    about = dict(search=chosen.search, population=chosen.population, seed=chosen.seed, images=images.digest)
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "generations.json"
    ready = functools.partial(parts.ready, "auto", (str(Path(__file__).with_name("evolved.py")),))
    several = workers.cluster(chosen.scheduler, ready) if chosen.scheduler else contextlib.nullcontext(workers.SERIAL)
    with files.lock(chosen.out), several as given:
        kept: dict[str, Any] = files.read_json(path) if path.exists() else dict(about=about, generations=[], finals={})
        if kept["about"] != about:
            raise InputError(f"`out` must be another folder: {chosen.out} has a search of other options or images")
        save = functools.partial(files.write_json, path, kept)
        judged = functools.partial(judge, images=images, given=given, at_once=chosen.at_once)
        evolve(chosen, kept, judged, save)
        found = numbers_of(best_of(kept, judged, save))
        files.write_json(chosen.out / "found.json", found)
        (chosen.out / "window.gif").write_bytes(discovering.animated(kept["generations"]))
    print(chosen.out / "found.json", found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and searches."""
    call("python experiments/discover.py", Search, arguments, run, STOPPED)


if __name__ == "__main__":
    protected(main)
