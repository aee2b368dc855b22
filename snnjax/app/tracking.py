"""What TensorBoard shows of a run: scalars and histograms after each epoch, pictures at its end."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import jax.numpy as jnp
import numpy as np

from snnjax.app.report import PICTURES
from snnjax.errors import MissingPackageError
from snnjax.training import diagnosis, reward
from snnjax.training.trainer import Phase, Trainer, TrainState

FOLDER = "tensorboard"


class Tracker:
    """Writes event files into the folder `tensorboard` of a run; `note` takes each state as it is saved."""

    def __init__(self, run: Path, trainer: Trainer, settings: dict[str, Any], state: TrainState):
        """Begins to write; a run that goes on writes into the same folder.

        Raises:
          ImportError: tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingPackageError("--tensorboard needs tensorboardX: pip install 'snnjax[tensorboard]'") from error
        self.trainer, self._known = trainer, set[str]()
        self._writer = SummaryWriter(str(run / FOLDER))
        self._writer.add_text("settings", "\n".join(f"    {k}: {json.dumps(v)}" for k, v in settings.items()))
        self.note(state)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def note(self, state: TrainState) -> None:
        """Notes the last epoch of a state, and what the phases so far have shown."""
        if state.done:
            phase = self.trainer.plan[state.phase]
            if phase.layer:
                self._note_stdp(phase, state)
            else:
                self._note_reward(state)
        for name, found in state.diagnoses.items():
            if name not in self._known:
                self._known.add(name)
                for layer, share in found.get("firing", {}).items():
                    self._writer.add_scalar(f"{layer}/spike_density", share, 0)
                self._writer.add_text("diagnosis/" + name.replace(" ", "_"), "; ".join(found["words"]))
        self._writer.flush()

    def _note_stdp(self, phase: Phase, state: TrainState) -> None:
        layer = self.trainer.spec.stages[phase.stage].branches[phase.branch]
        assert layer.stdp is not None  # `plan` sees to it
        name, wins, images = phase.layer, state.wins[phase.layer], len(self.trainer.data.train_images)
        seen = phase.branch * phase.epochs * images % layer.stdp.doubling + state.done * images
        weights = state.weights[name]
        scalars = {
            "convergence": diagnosis.convergence(weights, layer.stdp.bounds),
            "features_never_won": int(np.sum(wins == 0)),
            "rate_plus": float(layer.stdp.rates(jnp.int32(seen - 1))[0]),
            "winners_per_image": float(wins.sum() / images),
        }
        for what, value in scalars.items():
            self._writer.add_scalar(f"{name}/{what}", value, state.done)
        self._writer.add_histogram(f"{name}/weights", weights, state.done, bins="auto")
        won = np.repeat(np.arange(len(wins)), wins)
        if len(won):
            self._writer.add_histogram(f"{name}/winners_by_feature", won, state.done, bins=np.arange(len(wins) + 1))

    def _note_reward(self, state: TrainState) -> None:
        record = state.epochs[-1]
        for part in ("train", "test"):
            for what, value in record[part].items():
                self._writer.add_scalar(f"{what}/{part}", value, state.done)
        for at, name in enumerate(reward.rewarded(self.trainer.spec)):
            rates = state.reward["rates"][at]
            for outcome, pair in zip(("reward", "punishment"), rates, strict=True):
                for rate, value in zip(("plus", "minus"), pair, strict=True):
                    self._writer.add_scalar(f"{name}/rate_{rate}_after_{outcome}", float(value), state.done)
            self._writer.add_histogram(f"{name}/weights", state.weights[name], state.done, bins="auto")

    def finish(self, run: Path) -> None:
        """Adds the pictures that the run has left: confusion matrix, features, activation maps."""
        from matplotlib.image import imread

        for path in sorted((run / PICTURES).glob("[!.]*.png")):
            self._writer.add_image(f"pictures/{path.stem}", imread(path)[..., :3], 0, dataformats="HWC")
