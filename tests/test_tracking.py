"""Event files as TensorBoard itself reads them."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import SETTINGS, trainer_of

from snnjax.app.report import draw_run
from snnjax.app.tracking import FOLDER, Tracker
from snnjax.runs.run_folder import RunFolder


def test_what_tensorboard_reads_of_a_run(tmp_path):
    trainer = trainer_of(epochs=(2, 3))
    with RunFolder(tmp_path, trainer, SETTINGS, resume=False, draw=draw_run) as run:
        start = run.start(reuse=False)
        with Tracker(run, start) as tracker:
            state = trainer.run(start, tracker.save)
            run.finish(state)
    events = EventAccumulator(str(tmp_path / FOLDER), size_guidance=dict(scalars=0, images=0, histograms=0)).Reload()
    tags = events.Tags()
    for part in ("train", "test"):
        for what in ("accuracy", "wrong", "silent"):
            values = [(event.step, pytest.approx(event.value)) for event in events.Scalars(f"{what}/{part}")]
            assert values == [(record["epoch"] + 1, record[part][what]) for record in state.epochs]
    assert {"layer2/rate_plus_after_reward", "layer1/rate_plus", "layer1/spike_density"} <= set(tags["scalars"])
    (_, last) = events.Scalars("layer1/convergence")
    assert last.value == pytest.approx(state.diagnoses["STDP layer1"]["convergence"]["layer1"])
    (_, density) = events.Scalars("layer1/winners_per_image")
    wins = sum(state.diagnoses["STDP layer1"]["wins"]["layer1"])
    assert density.value == pytest.approx(wins / 40)
    histogram = events.Histograms("layer1/winners_by_feature")[-1].histogram_value
    assert histogram.num == wins
    assert {"layer1/weights", "layer2/weights", "layer1/winners_by_feature"} <= set(tags["histograms"])
    pictures = {path.stem for path in (tmp_path / "pictures").iterdir()}
    assert set(tags["images"]) == {f"pictures/{name}" for name in pictures}
    assert {"settings/text_summary", "diagnosis/STDP_layer1/text_summary"} <= set(tags["tensors"])
    assert len(events.Histograms("layer2/weights")) == 3
