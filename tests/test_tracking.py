"""Event files as TensorBoard itself reads them."""

import dataclasses

import numpy as np
import pytest
import tiny
from matplotlib.image import imsave
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from snnjax.app.tracking import FOLDER, Tracker
from snnjax.core import files
from snnjax.networks import Images
from snnjax.runs.run_folder import RunFolder
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings


def test_what_tensorboard_reads_of_a_run(tmp_path):
    """Whose epochs are tested on validation images, and whose best network on test images."""

    def draw(run, *_) -> None:
        (run / "pictures").mkdir()
        imsave(run / "pictures" / "one.png", np.zeros((4, 4, 3)))

    images = tiny.images()
    held_out = dict(validation_images=images.test_images[:20], validation_labels=images.test_labels[:20])
    images = dataclasses.replace(images, **held_out)
    trainer = Trainer(tiny.plain(Images.of(images)), images, Settings((2, 3), batch_size=20, patience=0))
    with RunFolder(tmp_path, trainer, dict(model="plain", seed=0), resume=False, draw=draw) as run:
        start = run.start()
        with Tracker(run, start) as tracker:
            state = trainer.run(start, tracker.save)
            _, saved = files.load_checkpoint(tmp_path / "checkpoint.npz")
            results = run.finish(state)
    events = EventAccumulator(str(tmp_path / FOLDER), size_guidance=dict(scalars=0, images=0, histograms=0)).Reload()
    tags = events.Tags()
    assert len(saved["epochs"]) == 3
    for what in ("accuracy", "wrong", "silent"):
        for part in ("train", "validation"):
            values = [(event.step, pytest.approx(event.value)) for event in events.Scalars(f"{what}/{part}")]
            assert values == [(record["epoch"] + 1, record[part][what]) for record in state.epochs]
        (test,) = events.Scalars(f"{what}/test")
        assert (test.step, pytest.approx(test.value)) == (results["best_epoch"] + 1, results["test"][what])
    assert {"layer2/rate_plus_after_reward", "layer1/rate_plus", "layer1/spike_density"} <= set(tags["scalars"])
    (_, last) = events.Scalars("layer1/convergence")
    assert last.step == 2
    assert last.value == pytest.approx(state.diagnoses["STDP layer1"]["convergence"]["layer1"])
    (_, density) = events.Scalars("layer1/winners_per_image")
    wins = state.diagnoses["STDP layer1"]["wins"]["layer1"]
    assert density.value == pytest.approx(sum(wins) / 40)
    histogram = events.Histograms("layer1/winners_by_feature")[-1].histogram_value
    assert [count for count in histogram.bucket if count] == [count for count in wins if count]
    assert {"layer1/weights", "layer2/weights", "layer1/winners_by_feature"} <= set(tags["histograms"])
    assert tags["images"] == ["pictures/one"]
    assert len(events.Tensors("settings/text_summary")) == 1
    assert len(events.Tensors("diagnosis/STDP_layer1/text_summary")) == 1, "each diagnosis is noted once"
    assert len(events.Histograms("layer2/weights")) == 3
