"""Several processes that train one network: the same result as one, a single writer, and an end where one is lost."""

import functools
import pathlib
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import Command, refused
from jax.sharding import Mesh
from several import ends, labelled, start

from snnjax import Images, Settings, data
from snnjax.core import devices, files, processes
from snnjax.training.loop import Training
from snnjax.training.placement import SHARED

HERE = pathlib.Path(__file__).parent
TRAIN = ["train", "--device", "cpu", "--train_images", 60, "--test_images", 30, "--batch_size", 20, "--out", "run"]
TRAIN += ["--shuffle", "--patience", 1]
LABELLED = ["--model", f"{HERE / 'several.py'}:labelled", "--epochs", 2, 6]
REWARDED = ["--model", f"{HERE / 'killed.py'}:branches", "--epochs", 1, 2, 4]
NATIVE = ["--kernels", "native"]
XLA = ["--kernels", "xla"]


def same_runs(folder: pathlib.Path, other: pathlib.Path) -> None:
    """Asserts that two runs have left the same, but for how long they took."""
    for name in ("checkpoint.npz", "weights.npz"):
        (arrays, meta), (expected, expected_meta) = (files.load_checkpoint(each / name) for each in (folder, other))
        assert arrays.keys() == expected.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, expected[key], f"{name} {key}")
        for each in (meta, expected_meta):
            for key in ("phases", "spent"):
                each.pop(key, None)
        assert meta == expected_meta
    assert (folder / "history.csv").read_bytes() == (other / "history.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [*LABELLED, *XLA],
        [*LABELLED, *XLA, "--update_batch", 5],
        [*REWARDED, *XLA, "--update_batch", 4, "--validation", 0, "--mirror"],
        [*REWARDED, *NATIVE],
        [*LABELLED, *NATIVE, "--update_batch", 4],
    ],
)
def test_two_processes_train_as_one_and_the_first_alone_writes(tmp_path, options, request):
    if "native" in options:
        request.getfixturevalue("compiler")
    one, first, second = (tmp_path / name for name in ("one", "first", "second"))
    said = [*ends(start([one], [*TRAIN, *options])), *ends(start([first, second], [*TRAIN, *options]))]
    assert [status for status, _, _ in said] == [0, 0, 0], said
    same_runs(first / "run", one / "run")
    assert "the first of 2 processes" in said[1][1]
    assert list(second.iterdir()) == []
    assert said[2][1:] == ("", "")
    evaluated = ends(start([first, second], ["evaluate", first / "run", "--device", "cpu", "--out", "figures.json"]))
    assert [status for status, _, _ in evaluated] == [0, 0], evaluated
    alone = ends(start([one], ["evaluate", one / "run", "--device", "cpu", "--out", "figures.json"]))
    assert alone[0][0] == 0
    figures = [(folder / "figures.json").read_text().replace("/first/", "/one/") for folder in (first, one)]
    assert figures[0] == figures[1]
    assert list(second.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "then"), [(0, 1), (1, 2)])
def test_where_one_process_is_killed_the_other_ends_and_the_run_goes_on(tmp_path, lost, then):
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    command = [*TRAIN, *LABELLED[:-1], 40, "--patience", 0]
    assert ends(start([whole], command))[0][0] == 0
    both, history = start([first, second], command), first / "run" / "history.csv"
    while not history.exists():
        assert [each.poll() for each in both] == [None, None]
        time.sleep(0.01)
    both[lost].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    status, _, said = ends(both)[1 - lost]
    assert time.monotonic() - begin < 100
    assert status == 1
    line = said.strip().split("\n")[-1]
    assert line.startswith(f"snnjax train, process {1 - lost} of 2: another process has ended or cannot be reached"), (
        said
    )
    assert "--resume" in line
    assert len(history.read_text().split("\n")) < 40, "the run was not over"
    resumed = ends(start([first, second][:then], [*command, "--resume"]))
    assert [status for status, _, _ in resumed] == [0] * then, resumed
    same_runs(first / "run", whole / "run")


@pytest.mark.slow
def test_processes_with_other_settings_are_refused(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    first, second = ends(start(folders, [*TRAIN, *LABELLED], each=[[], ["--seed", 3]]))
    assert second[0] == 2
    expected = "all processes must have the same settings and data: the first has seed 0 (now 3)"
    assert f"snnjax train, process 1 of 2: {expected}" in second[2]
    assert first[0] == 1
    assert "snnjax train, process 0 of 2: another process has ended" in first[2]


def test_where_the_others_are_must_be_said_in_full(capsys):
    said = refused(Command("train"), capsys, "--distributed", "localhost:1", "2")
    assert "`distributed` must be nothing (under Slurm, MPI, Kubernetes, on TPUs) or HOST:PORT N ID" in said
    assert "got localhost:1 2" in said


def test_a_process_alone_has_what_it_has():
    value = dict(a=np.arange(3), b="words")
    assert processes.share(value) is value
    assert processes.share_arrays(value) is value
    tree = dict(a=np.arange(3, dtype=np.uint8), b=(np.float32(0.5), np.array([[True, False]])))
    found = processes.gather(tree)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other[None])


@pytest.mark.slow
def test_learning_in_batches_is_shared_out_and_the_same(monkeypatch):
    images = data.digits().first(40, 20)
    network, settings = labelled(Images()), Settings((1, 2), 10, patience=0, update_batch=5)
    gather, gathered = jax.lax.all_gather, []

    def counted(values, *args, **kinds):
        gathered.append(values.shape)
        return gather(values, *args, **kinds)

    monkeypatch.setattr(jax.lax, "all_gather", counted)
    found = []
    for shared in (False, True):
        training = Training([network], images, settings)
        if shared:
            training.cache.placement.batched = Mesh(np.array([jax.devices("cpu")[:2]]), ("networks", "images"))
        (state,) = training.run(training.initial_states())
        found.append(state)
        assert bool(gathered) == shared
    assert {shape[0] for shape in gathered} == {3}, "of 5 images"
    alone, both = found
    assert alone.epochs == both.epochs
    for name, weights in alone.weights.items():
        np.testing.assert_array_equal(weights, both.weights[name])


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_devices_share_a_batch(size):
    mesh, items = Mesh(jax.devices("cpu")[:2], "images"), dict(x=jnp.arange(3.0 * size).reshape(size, 3))

    def each(item):
        return item["x"].sum(), item["x"][0]

    function = functools.partial(devices.map_each, each)
    spread = functools.partial(devices.share_out, function)
    shared = jax.shard_map(spread, mesh=mesh, in_specs=SHARED, out_specs=SHARED, check_vma=False)
    for found, expected in zip(jax.jit(shared)(items), spread(items), strict=True):
        np.testing.assert_array_equal(found, expected)
