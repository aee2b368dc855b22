"""Networks that come with snnjax: their files and cards, weights of few bits, and pictures of handwriting."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest
from command import ROOT, Command, refused
from PIL import Image
from tiny import images, labelled, plain

import snnjax
from snnjax import Conv, InputError, SpikingNetwork
from snnjax.data import digits, read_handwriting
from snnjax.networks.quantisation import integer_layers, quantise
from snnjax.runs import Trained, pretrained
from snnjax.training.run_plan import network_for

CARDS = pretrained.cards()
NCG = "goupy2024_ncg_mnist"


def network(make=labelled):
    network = network_for(make, images())
    return SpikingNetwork(network, weights=network.initial_weights(1))


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """A folder for each class, with digits of scikit-learn's in dark ink somewhere on light paper."""
    folder = tmp_path_factory.mktemp("papers")
    random = np.random.default_rng(0)
    test = digits()
    for number, (image, label) in enumerate(zip(test.test_images[:100], test.test_labels, strict=False)):
        paper = np.full((300, 240), 230) - random.integers(0, 12, (300, 240))
        row, column = random.integers(0, [140, 80])
        ink = np.asarray(Image.fromarray(image).resize((150, 150), Image.Resampling.BICUBIC))
        paper[row : row + 150, column : column + 150] -= (0.7 * ink).astype(int)
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray(paper.clip(0, 255).astype(np.uint8)).save(folder / str(label) / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", CARDS)
def test_files_are_those_of_the_cards(name):
    card = CARDS[name]
    content = pretrained.path_of(name).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (card.file_bytes, card.sha256)
    trained = Trained.read(f"pretrained:{name}")
    assert trained.network.name == card.model
    assert "data_dir" not in trained.settings
    blank = jax.ShapeDtypeStruct(trained.image_shape, np.uint8)
    assert jax.eval_shape(snnjax.load(f"pretrained:{name}"), blank).shape == ()
    files = [*pretrained.FOLDER.glob("*.npz")]
    assert {path.stem for path in files} == CARDS.keys()
    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_handwriting_on_paper_is_recognised(papers, capsys):
    Command("predict").main([f"pretrained:{NCG}", papers])
    *_, first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("inverted, scaled and centred as MNIST's digits")
    right, _, total = last.split()[:3]
    assert int(total) == 100
    assert int(right) >= 85
    Command("predict").main([f"pretrained:{NCG}", papers, "--as_is"])
    assert int(capsys.readouterr().out.splitlines()[-1].split()[0]) < 50


def test_the_commands_name_them(capsys):
    Command("pretrained").main([])
    out = capsys.readouterr().out
    assert all(name in out for name in CARDS)
    Command("pretrained").main([NCG])
    assert f"sha256: {CARDS[NCG].sha256}" in capsys.readouterr().out
    assert "did you mean 'goupy2024_ncg_mnist'?" in refused(Command("pretrained"), capsys, "goupy2024_ncg_mnst")
    said = refused(Command("predict"), capsys, "pretrained:nothing", "digit.png")
    assert "`pretrained` must be one of" in said
    assert "`PICTURE` must be image files or folders of them" in refused(
        Command("predict"), capsys, f"pretrained:{NCG}"
    )
    with pytest.raises(FileNotFoundError, match=f"did you mean pretrained:{NCG}?"):
        snnjax.load(NCG)
    with pytest.raises(InputError, match="`pretrained` must be one of"):
        snnjax.load("pretrained:nothing")


def test_handwriting_is_scaled_and_centred(tmp_path):
    paper = np.full((200, 300), 240, np.uint8)
    paper[50:150, 200:220] = 20
    paper[120:150, 220:240] = 20
    Image.fromarray(paper).save(tmp_path / "angle.png")
    pixels, notes = read_handwriting(tmp_path / "angle.png")
    assert notes == ["inverted, scaled and centred as MNIST's digits"]
    expected = np.zeros((28, 28), np.uint8)
    expected[2:22, 11:15] = 255  # its centre of mass is 11.6 below its top, and 2.9 right of its left
    expected[16:22, 15:19] = 255
    np.testing.assert_array_equal(pixels, expected)
    Image.fromarray(pixels).save(tmp_path / "same.png")
    again, notes = read_handwriting(tmp_path / "same.png")
    np.testing.assert_array_equal(again, pixels)
    assert notes == []


@pytest.mark.parametrize("brightness", [0.3, 0.8, -0.3, -1.0])
def test_ink_is_found_in_any_light(tmp_path, brightness):
    """The picture of the README in dim light, and its negative."""
    paper = np.asarray(Image.open(ROOT / "experiments" / "docs" / "pictures" / "digit.png"), float)
    lit = brightness * paper if brightness > 0 else 255 + brightness * paper
    Image.fromarray(np.rint(lit).astype(np.uint8)).save(tmp_path / "lit.png")
    pixels, _ = read_handwriting(tmp_path / "lit.png")
    assert int(snnjax.load(f"pretrained:{NCG}")(pixels)) == 5


def test_ink_on_transparent_paper_is_seen(tmp_path):
    drawn = np.zeros((90, 90, 4), np.uint8)
    drawn[30:60, 40:50, 3] = 255
    Image.fromarray(drawn).save(tmp_path / "drawn.png")
    pixels, notes = read_handwriting(tmp_path / "drawn.png")
    assert notes[0] == "transparent pixels became white"
    assert pixels.any(axis=1).sum() == 20
    drawn[..., :3] = 255
    Image.fromarray(drawn).save(tmp_path / "chalk.png")
    chalk, notes = read_handwriting(tmp_path / "chalk.png")
    assert notes[0] == "transparent pixels became black"
    np.testing.assert_array_equal(chalk, pixels)


@pytest.mark.filterwarnings("error")
def test_blank_paper_is_refused(tmp_path):
    Image.fromarray(np.full((50, 50), 200, np.uint8)).save(tmp_path / "blank.png")
    with pytest.raises(InputError, match="shows no ink"):
        read_handwriting(tmp_path / "blank.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    with pytest.raises(InputError, match=r"no ink on its background \(transparent pixels became black\)"):
        read_handwriting(tmp_path / "clear.png")


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_weights_of_few_bits_are_integers(bits):
    whole = network()
    few = quantise(whole, bits)
    layers = integer_layers(whole, bits)
    for stage, (name, weights) in enumerate(few.weights().items()):
        np.testing.assert_array_equal(np.asarray(weights) * 2**bits, layers[name].weights)
        assert layers[name].weights.max() == 2**bits - 1
        unit = np.asarray(whole.weights()[name]).max() / (2**bits - 1)
        threshold = whole.network.stages[stage].branches[0].threshold
        np.testing.assert_array_equal(layers[name].threshold, threshold // unit)
    if bits == 8:
        found, expected = (snnjax.cost(each, images().test_images).decisions[:, -1] for each in (few, whole))
        assert np.mean(found == expected) >= 0.9


def test_thresholds_that_no_sum_reaches_stay_so():
    network = network_for(labelled, images())
    first = dataclasses.replace(network.stages[0], branches=(Conv(4, kernel=5, padding=2, threshold=1e30),))
    high = SpikingNetwork(dataclasses.replace(network, stages=(first, *network.stages[1:])))
    assert integer_layers(high, 8)["layer1"].threshold.min() == 2**53
    assert snnjax.cost(quantise(high, 8), images().test_images[:2]).spikes.max() == 0


def test_weights_below_zero_and_other_numbers_of_bits_are_refused():
    for bits in (0, 9, 2.5):
        with pytest.raises((InputError, TypeError), match="`bits` must be"):
            quantise(network(), bits)
    below = network(plain)
    below.layer2[...] = -below.layer2[...]
    with pytest.raises(InputError, match="`weights` of layer2 in few bits must be at least 0"):
        quantise(below, 8)


def test_weights_of_few_bits_take_a_byte_each(tmp_path):
    sizes = []
    for each in (network(), quantise(network(), 8)):
        trained = Trained(each.network, {name: np.asarray(x) for name, x in each.weights().items()}, (28, 28))
        trained.save(tmp_path / "weights.npz")
        sizes.append((tmp_path / "weights.npz").stat().st_size)
        read = Trained.read(tmp_path / "weights.npz")
        for name, values in trained.weights.items():
            np.testing.assert_array_equal(read.weights[name], values, strict=True)
    numbers = sum(values.size for values in trained.weights.values())
    assert 2.9 * numbers < sizes[0] - sizes[1] < 3.1 * numbers
