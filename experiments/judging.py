"""Judges learning rules whose numbers vary: all rules of a generation are trained side by side on a draw of images."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from snnjax import ImageSpec, InputError, Settings, Sweep
from snnjax.app import lookup
from snnjax.data import Dataset
from snnjax.training.groups import varied
from snnjax.training.workers import Workers

POOL = 10_000  # training images from which a draw takes its images
LEARNED = 2_000  # maximum number of images of a draw from which networks learn
JUDGED = 4_000  # maximum number of further images of a draw, on which networks are judged

FINALISTS = 7  # rules that are judged again
DRAWS = 5  # draws on which finalists are judged; the best finalist is then judged on as many further draws
FIRST_DRAW = 1000  # number of the first of these draws


@dataclasses.dataclass(frozen=True)
class Judge:
    """Judges rules at points, whose coordinates are distances of the numbers from their starts, in steps.

    Attributes:
      rule: a module with the `NUMBERS` that vary, and `searched`, a function from `ImageSpec` to networks. Each rule is
        trained in each of these networks, with a different seed for each network.
      images: the data set from whose training images draws are made.
      workers: the workers that train.
      at_once: the maximum number of networks in one program.
    """

    rule: ModuleType
    images: Dataset
    workers: Workers
    at_once: int

    @property
    def table(self) -> np.ndarray:
        """The starts, steps, lower bounds and upper bounds of all numbers, (4, numbers)."""
        return np.array([*self.rule.NUMBERS.values()]).T

    @property
    def start(self) -> np.ndarray:
        """The point from which the search starts."""
        return np.zeros(len(self.rule.NUMBERS), np.float32)

    def nearest(self, points: Any) -> np.ndarray:
        """The nearest points (..., numbers) at which all numbers lie within their bounds."""
        start, step, low, high = self.table
        return np.clip(points, (low - start) / step, (high - start) / step)

    def numbers(self, point: Any) -> dict[str, float]:
        """The numbers at a point, by name."""
        start, step, low, high = self.table
        values = [float(f"{value:.6g}") for value in start + step * np.asarray(point, np.float64)]
        return dict(zip(self.rule.NUMBERS, np.clip(values, low, high).tolist(), strict=True))

    def learner(self, point: Any) -> Any:
        """The learner of the first layer, with the numbers at a point."""
        network = varied(self.rule.searched(ImageSpec.of(self.images))[0], self.numbers(point))
        return network.stages[0].branches[0].last_learner

    def gains(self, points: Any, draw: int) -> np.ndarray:
        """The mean accuracies of rules at points minus that of the start, on one draw, (N,).

        A training run that fails counts as accuracy 0.
        """
        images = draw_images(self.images, draw)
        rules = [self.numbers(point) for point in (self.start, *points)]
        networks = self.rule.searched(ImageSpec.of(images))
        accuracies = []
        for number, network in enumerate(networks):
            variants = [rule | dict(seed=draw * len(networks) + number) for rule in rules]
            settings = dataclasses.replace(Settings.of(network, images), patience=0)
            sweep = Sweep(network, images, settings, variants, at_once=self.at_once)
            done = sweep.run(workers=self.workers).done
            trainings = [done[variant] for variant in range(len(variants))]
            report_failures(trainings)
            accuracies.append([x["epochs"][-1]["test"]["accuracy"] if x["epochs"] else 0.0 for x in trainings])
        of_start, *of_rules = np.mean(accuracies, axis=0)
        return np.round(np.array(of_rules) - of_start, 5)


def best_of(kept: dict[str, Any], judge: Judge, save: Callable[[], None]) -> np.ndarray:
    """The point that is best on other draws, among the last mean and the best points of all generations."""
    points = np.concatenate([record["points"] for record in kept["generations"]])
    gains = np.concatenate([record["gains"] for record in kept["generations"]])
    finalists = np.stack([kept["generations"][-1]["mean"], *points[np.argsort(-gains)[: FINALISTS - 1]]])
    if kept["finals"].get("points") != finalists.tolist():
        kept["finals"] = dict(points=finalists.tolist(), gains=[], best=[])
    finals = kept["finals"]

    def judge_again(name: str, points: Any, first: int) -> np.ndarray:
        for draw in range(len(finals[name]), DRAWS):
            finals[name].append(judge.gains(points, first + draw).tolist())
            save()
            print(f"judged the best rules again on draw {draw + 1} of {DRAWS}", flush=True)
        return np.mean(finals[name], axis=0)

    again = judge_again("gains", finalists, FIRST_DRAW)
    best = finalists[np.argmax(again)]
    of_best = judge_again("best", [best], FIRST_DRAW + DRAWS)[0]
    print(f"judged again: last mean {again[0]:+.2%}, best rules", *(f"{gain:+.2%}" for gain in again[1:]))
    print(f"the best rule on further draws: {of_best:+.2%} above the start")
    return best


def load_rule(path: Path) -> ModuleType:
    """Loads the `rule` of a `Judge` from a Python file."""
    rule = lookup.import_one(str(path), "rule")
    for name in ("NUMBERS", "searched"):
        if not hasattr(rule, name):
            raise InputError(f"`rule` must be a file that defines NUMBERS and searched, but {path} has no {name}")
    return rule


def report_failures(trainings: Sequence[Any]) -> None:
    """Prints how many training runs failed, and one reason; raises InputError if the first one failed, the start."""
    errors = [training["error"] for training in trainings if not training["epochs"]]
    if not trainings[0]["epochs"]:
        raise InputError(f"`rule` must start from numbers with which a network can learn: {errors[0]}")
    if errors:
        print(f"{len(errors)} of {len(trainings)} training runs failed and count as 0 %: {errors[0]}")


def draw_images(images: Dataset, draw: int) -> Dataset:
    """A data set of some training images, with further training images in place of the test images."""
    pool = np.random.default_rng(0).permutation(len(images.train_labels))[:POOL]
    order = np.random.default_rng(draw).permutation(pool)
    count = min(LEARNED, len(order) // 3)
    learned = images.part_fields("train", order[:count])
    judged = images.part_fields("train", order[count:][:JUDGED], into="test")
    none: dict[str, Any] = dict.fromkeys(("validation_images", "validation_labels", "validation_files"))
    return dataclasses.replace(images, **learned, **judged, **none, unlabelled_images=None)
