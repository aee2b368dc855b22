"""Programs in C99: their latencies, decisions and counts are those of the quantised network in Python."""

import dataclasses
import functools
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from documents import blocks

from snnjax import Conv, InputError, SpikingNetwork, cost, load
from snnjax.data import digits
from snnjax.encoding import COLOUR, DOG, EVENTS, GABOR, GREY, Encoder, OnOff, Pixels
from snnjax.export import c
from snnjax.kernels.neurons import spike_times
from snnjax.kernels.ramp import ramp_levels
from snnjax.layers.pool import Pool
from snnjax.layers.ramp import Ramp, Standardise
from snnjax.learners import RSTDP, STDP, SupervisedSTDP
from snnjax.networks import NETWORKS, Earliest, Input, LinearSVM, Majority, Network, stage
from snnjax.networks.joins import Flatten
from snnjax.networks.operations import fan_out
from snnjax.networks.quantisation import quantise
from snnjax.training.run_plan import network_for

COMPILER = shutil.which("gcc") or shutil.which("cc")
needs_cpp = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

IMAGES = np.rint(digits().test_images).astype(np.uint8)
COLOURED = np.stack([IMAGES, 255 - IMAGES, IMAGES[:, ::-1]], axis=3)
SHAPE = (28, 28)
FAST = ("-O2",)
SANITISED = "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
PRINTED_LATENCIES = """
#include "{name}.c"
#include <stdio.h>
int main(void)
{{
    static uint8_t image[{upper}_IMAGE_BYTES], steps[INPUTS];
    while (fread(image, 1, sizeof image, stdin) == sizeof image) {{
        encode(image);
        memset(steps, STEPS, sizeof steps);
        for (int step = 0; step < STEPS; ++step)
            for (uint32_t place = starts[step]; place < starts[step + 1]; ++place)
                steps[events[place]] = (uint8_t)step;
        fwrite(steps, 1, sizeof steps, stdout);
    }}
    return 0;
}}
"""
PRINTED_TIMES = """
#include "{name}.c"
#include <stdio.h>
int main(void)
{{
    uint32_t given[3]; /* step, threshold - before, now - before */
    while (fread(given, sizeof given, 1, stdin) == 1) {{
        const uint32_t time = time_at((int)given[0], quotient(given[1], given[2]));
        const uint32_t printed[2] = {{time, earliness(time)}};
        fwrite(printed, sizeof printed, 1, stdout);
    }}
    return 0;
}}
"""
PRINTED_NAMES = """
#include "{name}.h"
#include <stdio.h>
int main(void)
{{
    for (int index = 0; index < {upper}_CLASSES; ++index)
        puts({name}_class_names[index]);
    return 0;
}}
"""


def written(program, folder):
    """Writes the files of a program."""
    (folder / f"{program.name}.c").write_text(program.source, encoding="ascii")
    (folder / f"{program.name}.h").write_text(program.header, encoding="ascii")


def compiled_as_cpp(program, folder):
    """As `compiled`, in C++, with the program's own main function."""
    written(program, folder)
    target = folder / "program"
    strict = "-std=c++17", "-Wall", "-Wextra", "-Werror"
    macro = f"-D{program.name.upper()}_MAIN"
    subprocess.run(["g++", *strict, macro, "-x", "c++", folder / f"{program.name}.c", "-o", target], check=True)
    return target


def compiled(program, folder, *flags, main=""):
    """The path of a program that reads images: its own main function, or the text of another one, which is filled in.

    The main function may include the source; otherwise it is linked with it.
    """
    written(program, folder)
    sources = [folder / f"{program.name}.c"]
    macros = [] if main else [f"-D{program.name.upper()}_MAIN"]
    if main:
        source = folder / "main.c"
        source.write_text(main.format(name=program.name, upper=program.name.upper()))
        sources = [source] if '.c"' in main else [source, *sources]
    target = folder / "program"
    strict = "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"
    subprocess.run([COMPILER, *strict, *flags, *macros, *sources, "-o", target], check=True)
    return target


def answers(target, images):
    """What a program prints for images."""
    return subprocess.run([target], input=images.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def results(target, images):
    """Decision, step, spikes, operations, score, second class and its score of each image: (N, 7)."""
    return np.array([line.split() for line in answers(target, images).splitlines()], np.int64)


def check_scores(network, bits, found, images):
    """Checks what a program finds, but counts, against Python."""
    expected = c.results(network, bits, images)
    columns = found[:, [0, 1, 4, 5, 6]].T
    for name, values, known in zip(expected._fields, columns, expected, strict=True):
        np.testing.assert_array_equal(values, known, name)


def test_input_that_ends_within_an_image_is_an_error(tmp_path):
    target = compiled(c.program(network("pixels"), 8, SHAPE), tmp_path)
    result = subprocess.run([target], input=bytes(2 * np.prod(SHAPE) + 3), capture_output=True, check=False)
    assert (result.returncode, len(result.stdout.splitlines())) == (1, 2)
    assert result.stderr.decode() == f"The input ends with 3 bytes, an image has {np.prod(SHAPE)}.\n"


def drawn(network, small=0.5):
    """A network with weights most of which are small or large, as those that STDP makes."""
    random = np.random.default_rng(0)
    weights = {name: random.beta(0.3, small, shape) for name, shape in network.weight_shapes.items()}
    return SpikingNetwork(network, weights={name: values.astype(np.float32) for name, values in weights.items()})


@functools.cache
def network(name):
    """A network of which each class is decided for."""
    if name == "pixels":
        return drawn(pixels())
    network = network_for(NETWORKS[name], digits())
    if name == "goupy2024_ncg":
        return drawn(dataclasses.replace(network, encoder=network.encoder.fit(digits().train_images)))
    return drawn(network, small=1.0)


def readout(features=20, **settings):
    return Conv(features, learners=RSTDP(), **settings)


def pixels(first=None, last=None, pool=4, time_steps=20, **settings):
    """A network of two layers on pixels."""
    first = first or Conv(6, 5, threshold=8.0, learners=STDP())
    settings = dict(decision=Earliest(fallback=True), encoder=Pixels(time_steps)) | settings
    last = last or Conv(20, 6, threshold=40.0, learners=SupervisedSTDP(0.05, -0.1))
    shape = settings["encoder"].output_shape(settings.pop("image_shape", SHAPE))
    return Network("pixels", shape, 10, (stage(first, pool=pool), stage(last)), time_steps=time_steps, **settings)


def agree(network, bits, target, images):
    """Checks decisions and steps against those of the quantised network, and counts where all spikes are taken."""
    found = results(target, images)
    expected = cost(quantise(network, bits), images)
    np.testing.assert_array_equal(found[:, 0], expected.decisions[:, -1])
    last = network.network.time_steps - 1
    first = np.full(len(images), last) if expected.first_spike is None else expected.first_spike
    np.testing.assert_array_equal(found[:, 1], np.minimum(first, last))
    at_end = found[:, 1] == last
    spikes = expected.input_spikes + expected.spikes - expected.layers[-1].spikes
    np.testing.assert_array_equal(found[at_end, 2], spikes[at_end])
    np.testing.assert_array_equal(found[at_end, 3], expected.effective_operations[at_end])
    check_scores(network, bits, found, images)
    return found


def check_decisions(network, bits, target, images):
    """Checks decisions, steps and scores, which takes less time than `agree`; some decisions differ."""
    found = results(target, images)
    check_scores(network, bits, found, images)
    assert len({*found[:, 0].tolist()}) > 1
    return found


@pytest.mark.parametrize("bits", range(1, 9))
def test_decisions_steps_and_counts_are_those_of_the_quantised_network(bits, tmp_path):
    made = network("pixels")
    found = agree(made, bits, compiled(c.program(made, bits, SHAPE), tmp_path, *SANITISED), IMAGES[:100])
    assert len({*found[:, 0]} - {-1}) > 2


@pytest.mark.parametrize(
    ("name", "bits"), [("goupy2024_ncg", 4), pytest.param("mozafari2018", 8, marks=pytest.mark.slow)]
)
def test_published_networks_decide_as_in_python(name, bits, tmp_path):
    """And stay within their memory."""
    target = compiled(c.program(network(name), bits, SHAPE), tmp_path, *SANITISED)
    check_decisions(network(name), bits, target, IMAGES[:20])


GEOMETRIES = dict(
    strides=pixels(Conv(5, (4, 3), padding=(2, 0), stride=(3, 2), threshold=4.0), readout(kernel=3), pool=None),
    pooled_apart=pixels(Conv(5, 3, threshold=2.0), readout(kernel=(4, 2)), pool=Pool((2, 3), stride=(4, 5))),
    pooled_twice=pixels(
        Conv(5, 3, threshold=2.0, output_padding=(1, 0)), readout(kernel=4), pool=Pool((3, 5), stride=2, padding=1)
    ),
    own_thresholds=pixels(Conv(5, 3, threshold=np.arange(5.0)), pool=4),
    without_fallback=pixels(last=readout(kernel=5, padding=1, stride=2, threshold=40.0), decision=Earliest()),
    at_last_step=pixels(last=readout(kernel=5, padding=1), decision=Earliest()),
    three_colours=pixels(image_shape=(28, 28, 3)),
    three_layers=dataclasses.replace(
        pixels(),
        stages=(
            stage(Conv(5, 5, threshold=4.0), pool=4),
            stage(Conv(6, 3, padding=1, threshold=3.0)),
            stage(readout(kernel=6)),
        ),
        decision=Majority(),
    ),
)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometry(name, tmp_path):
    """Strides, padding, windows that overlap or leave gaps, several positions of the last layer, colour, depth."""
    network = GEOMETRIES[name]
    images = (COLOURED if network.input_shape[0] == 3 else IMAGES)[:60]
    made = drawn(network)
    target = compiled(c.program(made, 5, images.shape[1:]), tmp_path, *SANITISED)
    check_decisions(made, 5, target, np.concatenate([images, np.zeros_like(images[:1])]))


@pytest.mark.parametrize(
    ("encoder", "images"),
    [
        (Pixels(15), IMAGES),
        (Pixels(255), COLOURED),
        (OnOff(), IMAGES),
        (OnOff(5, 0.5, 3.0, time_steps=15), COLOURED),
        (GREY, IMAGES),
        (COLOUR, COLOURED),
        (dataclasses.replace(GREY, radius=2, time_steps=255, scale=0.7), IMAGES),
        (dataclasses.replace(DOG, radius=None), COLOURED),
    ],
    ids=["pixels", "colour_pixels", "on_off", "colour_on_off", "grey", "colour", "near", "raw"],
)
def test_latencies_are_those_of_the_encoder(encoder, images, tmp_path):
    """Of digits, noise, and images that are constant, so that many values are equal."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (20, *images.shape[1:])).astype(np.uint8)
    levels = np.repeat([0, 1, 255], images[0].size).reshape(3, *images.shape[1:]).astype(np.uint8)
    encoder = encoder.fit(images[::2]) if hasattr(encoder, "fit") else encoder
    last = readout(kernel=6)
    made = drawn(pixels(last=last, image_shape=images.shape[1:], encoder=encoder, time_steps=encoder.time_steps))
    target = compiled(c.program(made, 1, images.shape[1:]), tmp_path, *FAST, main=PRINTED_LATENCIES)
    pictures = np.concatenate([images[:60], noise, levels])
    expected = np.asarray(jax.jit(jax.vmap(encoder))(pictures))
    found = np.frombuffer(answers(target, pictures), np.uint8).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_hidden_layer_without_weights(tmp_path):
    """All of its weights are rounded to 0: the network stays silent."""
    made = network("goupy2024_ncg")
    silent = SpikingNetwork(made.network, weights={name: values * 0 for name, values in made.weights().items()})
    agree(silent, 8, compiled(c.program(silent, 8, SHAPE), tmp_path, *SANITISED), IMAGES[:2])


def test_counts_end_with_the_decision(tmp_path):
    """Spikes and operations until the step of the decision, by the latencies of all neurons."""
    made = network("goupy2024_ncg")
    found = results(compiled(c.program(made, 4, SHAPE), tmp_path, *FAST), IMAGES[:4])
    model = quantise(made, 4).model
    assert found[:, 1].max() < made.network.time_steps - 1

    @jax.jit
    def latencies(image):
        encoded = model.encode(image)
        return encoded, model.observe(encoded).latencies["layer1"], model.forward(encoded)

    for image, (_, step, spikes, operations) in zip(IMAGES, found[:, :4], strict=False):
        encoded, hidden, pooled = map(np.asarray, latencies(image))
        assert spikes == np.sum(encoded <= step) + np.sum(hidden <= step)
        met = 0
        for name, inputs in (("layer1", encoded), ("layer2", pooled)):
            layer = model.layers[name]
            met += np.sum(np.where(inputs <= step, fan_out(layer.conv, layer.weights != 0, inputs.shape[1:]), 0))
        assert operations == met


def test_ncg_fits_a_small_microcontroller(tmp_path):
    program = c.program(load("pretrained:goupy2024_ncg_mnist"), 4, SHAPE)
    memory = re.search(r"_RAM_BYTES (\d+)\n", program.header)
    tables = re.search(r"tables take (\d+) bytes", program.header)
    assert int(memory[1]) < 160_000
    assert int(tables[1]) < 140_000


def test_the_first_programs_of_the_page_compile(tmp_path):
    program = c.program(network("goupy2024_ncg"), 4, SHAPE)
    written(program, tmp_path)
    texts = [text for language, text in blocks("experiments/docs/howto/export_c.md") if language == "c"]
    (tmp_path / "main.c").write_text("".join(texts[:2]))
    subprocess.run([COMPILER, "-std=c99", "-fsyntax-only", "-Werror", "main.c"], cwd=tmp_path, check=True)
    assert "is_known" in texts[1]


def test_names_in_c(tmp_path):
    """Names that mean something else in C; the network's own name becomes that of its files."""
    names = ('"', "\\", "??/", "%d", "é", "<", "1", "a" * 200, "*/", "'")
    network = dataclasses.replace(pixels(), name="2 words?")
    made = SpikingNetwork(network, weights=drawn(network).weights(), class_names=names)
    program = c.program(made, 1, SHAPE)
    assert program.name == "network_2_words_"
    printed = answers(compiled(program, tmp_path, *FAST, main=PRINTED_NAMES), IMAGES[:0])
    assert printed.decode().splitlines() == list(names)


STANDARDISE = Standardise(0.5, 9.0, 50.0)


def ramped(features, kernel, fan_in, standardise=STANDARDISE, dendrites=1, **settings):
    """A layer with a ramp whose weights make potentials of about 1."""
    scale = fan_in**-0.5 * (1 if standardise else 0.1)
    levels = ramp_levels(2.0, power=0.7, time_steps=20)
    return Conv(
        features,
        kernel,
        weight_mean=0.0,
        weight_std=scale,
        ramp=Ramp(levels=levels, dendrites=dendrites),
        standardise=standardise,
        **settings,
    )


def deep(*stages, **settings):
    """A network of 20 steps on pixels whose last layers fire while their inputs do."""
    last = Conv(20, 3, threshold=np.linspace(1, 40, 20), fractional=True, learners=SupervisedSTDP(0.05, -0.1))
    if not stages:
        reads = (
            Input("encoder", pool=Pool(9)),
            Input("stage1", pool=Pool((4, 5), padding=(0, 1), mean=True)),
            Input("stage2"),
        )
        stages = (
            stage(ramped(7, 5, 25, padding=2), pool=Pool(4, stride=2, padding=1)),
            stage(ramped(9, 3, 63, padding=1), pool=Pool(4)),
            stage(last, inputs=reads),
        )
    return dataclasses.replace(pixels(), stages=stages, **settings)


def balanced(network):
    """A network whose layers with a ramp have weights of both signs."""
    drawn_weights = drawn(network).weights()
    own = {name: value for name, value in network.initial_weights(0).items() if name in network.ramped}
    return SpikingNetwork(network, weights=drawn_weights | own)


READOUT = stage(readout(kernel=4, threshold=30.0, fractional=True))
RAMPED = dict(
    joined=deep(),
    strides=deep(
        stage(ramped(6, (4, 3), 12, padding=(2, 0), stride=(3, 2), output_padding=(1, 2))),
        stage(ramped(5, 1, 6, None, threshold=0.3, dendrites=(2, 3))),
        READOUT,
    ),
    whole_steps=deep(stage(ramped(6, 5, 25), pool=6), stage(readout(kernel=4, threshold=9.0))),
    three_layers=deep(
        stage(ramped(6, 5, 25), pool=4), stage(Conv(6, 3, threshold=9.0, learners=STDP())), stage(readout(kernel=4)),
        decision=Majority(),
    ),
    rank_order=deep(
        stage(ramped(7, 5, 150), pool=Pool(5, stride=3)), READOUT, encoder=dataclasses.replace(GREY, time_steps=20),
        input_shape=(6, 28, 28),
    ),
)  # fmt: skip


@pytest.mark.parametrize(("name", "bits"), [*zip(RAMPED, (8, 5, 4, 2, 8), strict=True)])
def test_layers_with_ramps(name, bits, tmp_path):
    made = balanced(RAMPED[name])
    images = np.concatenate([IMAGES[:60], np.zeros_like(IMAGES[:1])])
    check_decisions(made, bits, compiled(c.program(made, bits, SHAPE), tmp_path, *SANITISED), images)


def test_counts_of_layers_with_ramps(tmp_path):
    """All neurons that fire, and each weight once for each position that takes up a spike, by reflection too."""
    made = balanced(deep(*deep().stages[:2], stage(readout(kernel=3))))
    found = agree(made, 8, compiled(c.program(made, 8, SHAPE), tmp_path, *FAST), IMAGES[:4])
    assert 19 in found[:, 1], "all spikes are taken, and counted, where an image is decided at the last step"


def test_times_within_a_step_are_rounded_as_in_python(tmp_path):
    random = np.random.default_rng(0)
    larger = np.concatenate([2 ** random.integers(1, 24, 20_000) + random.integers(-1, 2, 20_000), np.arange(1, 256)])
    less = np.minimum(
        np.concatenate([larger - 1, larger * random.random(len(larger)), 0 * larger]), np.tile(larger, 3) - 1
    )
    larger = np.tile(larger, 3)
    steps = random.integers(0, 20, len(larger))
    given = np.stack([steps, np.maximum(less, 0), larger], axis=1).astype(np.uint32)
    target = compiled(c.program(balanced(deep()), 8, SHAPE), tmp_path, *SANITISED, main=PRINTED_TIMES)
    found = np.frombuffer(answers(target, given), np.float32).reshape(-1, 2)
    step, before, now = given.T.astype(np.float32)
    time = spike_times(step, True, np.float32(0), now, before, time_steps=20, fractional=True)
    np.testing.assert_array_equal(found[:, 0], time)
    np.testing.assert_array_equal(found[:, 1], 1 - time)


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_whose_readout_may_stay_silent(seed, tmp_path):
    """Times within a step decide, and no potential does if no neuron crosses its threshold."""
    random = np.random.default_rng(seed)
    window = int(random.integers(3, 6))
    maps = int(random.integers(3, 8))
    kernel = int(random.integers(2, 24 // window + 1))
    small = random.uniform(0.5, 2)
    largest = maps * kernel**2 * 0.3 / (0.3 + small)  # potential, about
    last = readout(
        kernel=kernel,
        threshold=largest * random.uniform(0.6, 1.2, 20),
        stride=int(random.integers(1, 3)),
        fractional=True,
    )
    first = Conv(maps, 5, threshold=random.uniform(2, 4))
    made = drawn(pixels(first, last, pool=window, decision=Earliest(fallback=False)), small)
    bits = int(random.integers(1, 9))
    images = np.concatenate([IMAGES[:40], np.zeros_like(IMAGES[:1])])
    found = check_decisions(made, bits, compiled(c.program(made, bits, SHAPE), tmp_path, *SANITISED), images)
    assert -1 in found[:, 0]


IN_CPP = dict(
    pixels=lambda: network("pixels"),
    on_off=lambda: network("goupy2024_ncg"),
    rank_order=lambda: balanced(RAMPED["rank_order"]),
    joined=lambda: balanced(RAMPED["joined"]),
    raw=lambda: drawn(
        pixels(last=readout(kernel=6), image_shape=SHAPE, encoder=dataclasses.replace(DOG, radius=None), time_steps=15)
    ),
)


@needs_cpp
@pytest.mark.parametrize("name", IN_CPP)
def test_the_source_compiles_as_cpp(name, tmp_path):
    made = IN_CPP[name]()
    target = compiled_as_cpp(c.program(made, 4, SHAPE), tmp_path)
    check_scores(made, 4, results(target, IMAGES[:10]), IMAGES[:10])


BESIDE = stage(Conv(6, 5, threshold=8.0), Conv(6, 5, threshold=8.0), pool=4)
FIRST, LAST = pixels().stages
REFUSED = {
    "`encoder` of pixels must be one of Encoder, OnOff, Pixels in C, got NoneType": dict(encoder=None),
    "`encoder` of pixels must be one of .*, got EventEncoder": dict(encoder=EVENTS, input_shape=(2, 28, 28)),
    "`encoder` of pixels must be fitted": dict(encoder=OnOff(), input_shape=(2, 28, 28)),
    "`encoder` of pixels must do without `pool` in C": dict(encoder=GABOR, input_shape=(4, 28, 28)),
    "without `inhibition` in C": dict(encoder=Encoder(inhibition=(0.1,)), input_shape=(6, 28, 28)),
    "without `bank.absolute`": dict(encoder=dataclasses.replace(GABOR, pool=None, inhibition=(), pointwise=False)),
    "`time_steps` must be at most 255": dict(encoder=Pixels(256)),
    "`decision` of pixels must be one of Earliest, Majority in C, got LinearSVM": dict(
        decision=LinearSVM(), stages=(FIRST,)
    ),
    "stage 1 of pixels must have one layer in C, got 2": dict(stages=(BESIDE, LAST)),
    "stage 2 of pixels must read only the stage before it in C, got `inputs` .*pool": dict(
        stages=(stage(Conv(6, 5, threshold=8.0)), stage(readout(kernel=6), inputs=Input("stage1", pool=Pool(4))))
    ),
    "`threshold` of stage 1 of pixels must be a number in C, got None": dict(stages=(stage(Conv(6, 5), pool=4), LAST)),
    "`threshold` of stage 1 of pixels must be at least 0 in C, got -1": dict(
        stages=(stage(Conv(6, 5, threshold=-1.0), pool=4), LAST)
    ),
    "stage 2 of pixels must fire while its inputs do in C, got a `ramp` after a layer without": dict(
        stages=(FIRST, stage(ramped(6, 3, 54, padding=1)), LAST)
    ),
    "`join` of stage 2 of pixels must be Concatenate\\(\\) in C, got Flatten": dict(
        stages=(stage(ramped(6, 5, 25), pool=4), stage(readout(kernel=1), inputs=Input("stage1"), join=Flatten()))
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_networks(message):
    settings = REFUSED[message]
    encoder = settings.get("encoder") or Pixels(20)
    network = dataclasses.replace(pixels(time_steps=encoder.time_steps), encoder=None)
    network = dataclasses.replace(network, **(dict(encoder=encoder) | settings))
    with pytest.raises(InputError, match=message):
        c.program(drawn(network), 4, SHAPE)


def test_refused_arguments():
    made = network("pixels")
    for bits in (0, 9):
        with pytest.raises(InputError, match="`bits` must be at"):
            c.program(made, bits, SHAPE)
    with pytest.raises(InputError, match=r"`image_shape` must become \(1, 28, 28\), the input of pixels, got \(8, 8\)"):
        c.program(made, 4, (8, 8))
    with pytest.raises(TypeError, match="`image_shape` must be a tuple"):
        c.program(made, 4, 28)
    with pytest.raises(TypeError, match="`network` must be a SpikingNetwork"):
        c.program(made.network, 4, SHAPE)


def test_negative_weights_are_refused():
    network = pixels(Conv(6, 5, threshold=8.0))
    weights = {
        name: -np.asarray(value) if name == "layer1" else value for name, value in drawn(network).weights().items()
    }
    with pytest.raises(InputError, match=r"`weights` of layer1 .*must be at least 0"):
        c.program(SpikingNetwork(network, weights=weights), 4, SHAPE)
