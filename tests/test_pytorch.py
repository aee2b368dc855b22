"""Weights from and for the PyTorch code: its files are built here from what its networks were seen to hold."""

import dataclasses
import pathlib
import pickle
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from command import Command

from snnjax.app.names import RECORDED
from snnjax.core.errors import InputError
from snnjax.encoding import COLOUR, GREY
from snnjax.export import pytorch
from snnjax.layers.conv import Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import NETWORKS, ImageSpec, Network, stage
from snnjax.networks.model import rounded_weights
from snnjax.runs.trained import Trained

STDP_ONLY, REWARDED = ("stdp",), ("stdp", "anti_stdp")
SHALLOW = {"block1": (30, 6, 5, STDP_ONLY), "block2": (250, 30, 3, STDP_ONLY)}
DEEP = {
    "block1": (30, 6, 5, STDP_ONLY),
    "block2": (150, 30, 3, STDP_ONLY),
    "block3": (250, 150, 3, STDP_ONLY),
    "block4": (200, 250, 5, REWARDED),
}
# Features, channels, kernel and rules of each block, and the number of tensors, in the PyTorch networks.
LAYOUTS = {
    "mozafari2018": (SHALLOW | {"block3": (200, 250, 5, REWARDED)}, 1368),
    "deep2024": (DEEP, 1670),
    "deepr2024": (DEEP | {"block3": (250, 150, 3, REWARDED)}, 2171),
    "deepr2024_2": (DEEP | {"block3": (250, 150, 3, REWARDED)}, 2171),
    "inception2024": (
        {"block1": (30, 6, 5, STDP_ONLY), "block2": (75, 30, 3, STDP_ONLY)}
        | {f"block3_{branch}": (100, 75, kernel, STDP_ONLY) for branch, kernel in enumerate((3, 5, 7), 1)}
        | {"block4": (200, 300, 5, REWARDED)},
        1624,
    ),
    "majority2024": (
        SHALLOW | {f"block3_{branch}": (200, 250, kernel, REWARDED) for branch, kernel in enumerate((3, 5, 7), 1)},
        2974,
    ),
    "resnet2024": (DEEP | {"block4": (200, 250, 4, REWARDED), "skip_connection": (250, 150, 1, ())}, 1671),
    "deeper2024": (
        DEEP | {"block1": (30, 6, 3, STDP_ONLY), "block4": (200, 250, 3, STDP_ONLY), "block5": (100, 200, 3, REWARDED)},
        1672,
    ),
}
TINY = Network(
    "tiny",
    (6, 28, 28),
    10,
    (
        stage(Conv(4, 5, padding=2, threshold=10, learners=STDP()), pool=4),
        stage(Conv(10, 3, learners=RSTDP()), Conv(20, 5, learners=RSTDP())),
    ),
)
TINY_LAYOUT = {"block1": (4, 6, 5, STDP_ONLY), "block2_1": (10, 4, 3, REWARDED), "block2_2": (20, 4, 5, REWARDED)}


def built(layout: dict[str, tuple]) -> dict[str, np.ndarray]:
    """A state_dict as the PyTorch code would save it, with random weights and learning rates."""
    draw, entries = np.random.default_rng(0), {"max_ap": np.float32([0.15])}
    for block, (features, channels, kernel, rules) in layout.items():
        weight = draw.random((features, channels, kernel, kernel), np.float32)
        entries[f"{block}.conv.weight" if rules else f"{block}.weight"] = weight
        for rule in rules:
            for feature in range(features):
                for rate in ("ltp", "ltd"):
                    entries[f"{block}.{rule}.{rate}_{feature}"] = draw.random(1, np.float32)
            entries[f"{block}.{rule}.layer.weight"] = weight
    return entries


def weights_of(entries: dict[str, np.ndarray], name: str = "") -> dict[str, np.ndarray]:
    """By our names of the layers, in their order; those of resnet2024 are counted otherwise."""
    ours = dict(skip_connection="layer4", block4="layer6") if name == "resnet2024" else {}
    blocks = {tensor.removesuffix(".weight").removesuffix(".conv"): x for tensor, x in entries.items()}
    layers = {ours.get(block, block.replace("block", "layer")): x for block, x in blocks.items() if "." not in block}
    return {layer: layers[layer] for layer in sorted(layers.keys() - {"max_ap"})}


def assert_equal(weights: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(weights) == list(expected)
    for name, value in weights.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.fixture
def tiny() -> dict[str, np.ndarray]:
    return built(TINY_LAYOUT)


@pytest.mark.parametrize("name", RECORDED)
def test_every_network_has_the_names_and_shapes_of_the_pytorch_one(name):
    layout, count = LAYOUTS[name]
    expected = built(layout)
    assert len(expected) == count
    entries = pytorch.state_dict(NETWORKS[name](), weights_of(expected, name))
    assert {n: (x.shape, x.dtype) for n, x in entries.items()} == {n: (x.shape, x.dtype) for n, x in expected.items()}
    for tensor, value in expected.items():
        if tensor.endswith("weight"):
            np.testing.assert_array_equal(entries[tensor], value, err_msg=tensor)


def test_learning_rates_start_anew():
    """Those of the last learner of a layer; their limit is the largest of all layers."""
    for name, block, rates in (
        ("mozafari2018", "block1", dict(stdp=(0.004, -0.003))),
        ("mozafari2018", "block3", dict(stdp=(0.004, -0.003), anti_stdp=(-0.004, 0.0005))),
        ("deepr2024", "block3", dict(stdp=(0.001, -0.00075), anti_stdp=(-0.001, 0.000125))),
    ):
        entries = pytorch.state_dict(NETWORKS[name](), weights_of(built(LAYOUTS[name][0]), name))
        assert entries["max_ap"] == np.float32(0.15)
        for rule, pair in rates.items():
            for rate, value in zip(("ltp", "ltd"), pair, strict=True):
                found = [x for n, x in entries.items() if n.startswith(f"{block}.{rule}.{rate}_")]
                assert np.unique(found) == np.float32(value)
    first, second = (Conv(4, 3, threshold=1, learners=STDP(ltp_max=limit)) for limit in (0.3, 0.1))
    network = Network("two", (6, 8, 8), 10, (stage(first), stage(second), stage(Conv(10, 3, learners=RSTDP()))))
    weights = {name: np.ones(shape) for name, shape in network.weight_shapes.items()}
    assert pytorch.state_dict(network, weights)["max_ap"] == np.float32(0.3)


def test_weights_read_are_those_of_a_network(tmp_path, tiny):
    """Of a whole state_dict, of one with old names, and of convolutions alone; other floats become float32."""
    path, expected = tmp_path / "tiny.npz", weights_of(tiny)
    for entries in (
        tiny,
        {name.replace(".layer.", ".conv_layer."): x for name, x in tiny.items()},
        {name: x for name, x in tiny.items() if name.endswith(".conv.weight")},
    ):
        np.savez(path, **entries)
        assert_equal(pytorch.read(str(path), TINY), expected)
    pytorch.write(path, TINY, expected)
    with np.load(path) as back:
        assert back.files == [*tiny]
    assert_equal(pytorch.read(path, TINY), expected)
    short = {layer: x.astype(jnp.bfloat16) for layer, x in expected.items()}
    rounded = {layer: x.astype(np.float32) for layer, x in short.items()}
    assert_equal(weights_of(pytorch.state_dict(TINY, short)), rounded)


class Malicious:
    """Unpickled by a program that trusts its file, it creates another."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def with_value(value: float) -> np.ndarray:
    weight = np.ones((20, 4, 5, 5))
    weight[3, 2, 1, 0] = value
    return weight


WEIGHT, AGAIN = "block2_2.conv.weight", "block2_2.anti_stdp.layer.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({WEIGHT: np.ones((20, 4, 3, 3))}, f"`{WEIGHT}` must have shape (20, 4, 5, 5) of"),
        ({WEIGHT: with_value(1e300)}, f"`{WEIGHT}` must be finite and at least 0, got inf"),
        ({WEIGHT: with_value(-0.25)}, f"`{WEIGHT}` must be finite and at least 0, got -0.25"),
        ({AGAIN: np.ones((20, 4, 5, 5), np.float32)}, f"{AGAIN} must be the same as {WEIGHT}"),
        ({WEIGHT: None}, f"it lacks {WEIGHT}"),
    ],
)
def test_other_state_dicts_are_refused(tmp_path, tiny, change, message):
    np.savez(tmp_path / "tiny.npz", **{name: x for name, x in (tiny | change).items() if x is not None})
    with pytest.raises(InputError, match=re.escape(message)) as error:
        pytorch.read(tmp_path / "tiny.npz", TINY)
    assert str(error.value).startswith(str(tmp_path / "tiny.npz"))


def test_other_weights_are_not_written(tmp_path, tiny):
    for weights, message in (
        (
            dict(layer1=tiny["block1.conv.weight"]),
            "`weights` of tiny must be those of layer1, layer2_1, layer2_2, got layer1",
        ),
        (
            weights_of(tiny) | dict(layer2_2=with_value(-1)),
            "`weights['layer2_2']` must be finite and at least 0, got -1",
        ),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            pytorch.write(tmp_path / "out.npz", TINY, weights)
    assert not list(tmp_path.iterdir())
    network = NETWORKS["softhebb_narrow"]()
    with pytest.raises(InputError, match="layer1 of softhebb_narrow must fire while its inputs do"):
        pytorch.state_dict(network, {name: np.ones(shape) for name, shape in network.weight_shapes.items()})


def test_without_pytorch_it_says_what_to_install_and_leaves_the_old_file(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "out.pth").write_text("old")
    with pytest.raises(ImportError, match=r"out.pth needs PyTorch .*pip install 'snnjax\[torch\]'"):
        pytorch.write(tmp_path / "out.pth", TINY, weights_of(tiny))
    assert (tmp_path / "out.pth").read_text() == "old"


@pytest.fixture
def torch():
    return pytest.importorskip("torch", minversion="2.10")


def test_torch_files(torch, tmp_path, tiny):
    """As the PyTorch code saves them, and back: it loads all names strictly, the shared weights stored once."""
    theirs, ours = tmp_path / "theirs.pth", tmp_path / "ours.pt"
    tensors = {id(x): torch.nn.Parameter(torch.tensor(x), requires_grad=False) for x in tiny.values()}
    torch.save({name: tensors[id(x)] for name, x in tiny.items()}, theirs)
    weights = pytorch.read(theirs, TINY)
    assert_equal(weights, weights_of(tiny))
    pytorch.write(ours, TINY, weights)
    loaded = torch.load(ours, weights_only=True)
    assert list(loaded) == list(tiny)
    for name, x in pytorch.state_dict(TINY, weights).items():
        assert loaded[name].dtype == torch.float32
        np.testing.assert_array_equal(loaded[name].numpy(), x)
    assert len({x.data_ptr() for x in loaded.values()}) == len(tiny) - 5
    torch.save({name: torch.tensor(x).bfloat16() for name, x in tiny.items()}, theirs)
    rounded = {name: torch.tensor(x).bfloat16().float().numpy() for name, x in weights_of(tiny).items()}
    assert_equal(pytorch.read(theirs, TINY), rounded)


def test_nothing_in_a_file_is_executed(torch, tmp_path, tiny, recwarn):
    """Of .npz files tests/test_fuzz.py has this."""
    path, evil = tmp_path / "tiny.pth", Malicious(tmp_path / "touched")
    for save in (torch.save, lambda x, p: p.write_bytes(pickle.dumps(x))):
        save(dict(tiny, extra=evil), path)
        problem = r"tiny\.pth is damaged or is not a state_dict: it contains .* does not load"
        with pytest.raises(ValueError, match=problem):
            pytorch.read(path, TINY)
    assert not (tmp_path / "touched").exists()
    assert not recwarn


def test_other_torch_files_are_refused(torch, tmp_path, monkeypatch):
    path = tmp_path / "tiny.pth"
    for content, message in (
        (torch.ones(3), "it must contain arrays by name, got Tensor"),
        (dict(epoch=3), "'epoch' must be an array, got int"),
        ({0: torch.ones(3)}, "0 must be an array"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=rf"tiny\.pth.*{message}"):
            pytorch.read(path, TINY)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ImportError, match=r"torch must be 2\.10 or newer to load .*tiny\.pth safely, got 2\.9\.1"):
        pytorch.read(path, TINY)


# The command


CONVERT = Command("convert")
SPEC = dataclasses.replace(NETWORKS["deep2024"](ImageSpec((28, 28), 2, encoder=GREY)), encoder=GREY)
COLOURED = NETWORKS["mozafari2018"](ImageSpec((32, 32, 3), encoder=COLOUR))
COLOURED = dataclasses.replace(COLOURED, encoder=COLOUR, time_steps=COLOUR.time_steps)


def random_weights(network: Network) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {layer: draw.random(shape, np.float32) for layer, shape in network.weight_shapes.items()}


@pytest.mark.parametrize(
    ("network", "image_shape", "options", "suffix"),
    [
        (SPEC, (28, 28), "--classes 2", ".npz"),
        (SPEC, (28, 28), "--classes 2", ".pth"),
        (COLOURED, (32, 32, 3), "--channels 18", ".npz"),
    ],
)
def test_there_and_back(tmp_path, network, image_shape, options, suffix):
    """A network's encoder, time steps and images come with it."""
    if suffix == ".pth":
        pytest.importorskip("torch", minversion="2.10")
    run, there, back = tmp_path / "run.npz", tmp_path / f"there{suffix}", tmp_path / "back.npz"
    weights = random_weights(network)
    Trained(network, weights, image_shape, dict(model=network.name, dataset="digits", seed=0)).save(run)
    CONVERT.main([run, there])
    CONVERT.main(["--model", network.name, *options.split(), there, back])
    trained = Trained.read(back)
    assert (trained.network, trained.image_shape) == (network, image_shape)
    assert trained.weights.keys() == weights.keys()
    for layer, value in rounded_weights(network, weights).items():
        np.testing.assert_array_equal(trained.weights[layer], value, err_msg=layer)
