"""Readouts of prototypes in integers, in Python and in C: decisions, and what is learned, bit for bit."""

import dataclasses
import functools
import math
import subprocess

import numpy as np
import pytest
from command import Command, refused
from refusals import assert_refused
from test_c import COMPILER, RAMPED, SANITISED, SHAPE, agree, balanced, compiled, drawn, pixels

from snnjax import SpikingNetwork, Stream, cost, stage
from snnjax.data import digits
from snnjax.interop import c, event_programs
from snnjax.networks import prototypes_on, quantise
from snnjax.networks.integer_prototypes import inputs_of, integer_prototypes

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

DATA = digits()
PICTURES = DATA.train_images.round().astype(np.uint8)
LABELS = np.asarray(DATA.train_labels)
STRICT = (*SANITISED, "-Wconversion")
STREAM = """
#include "{name}.h"
#include <stdio.h>
#include <string.h>
static int put(void *file, const void *bytes, size_t count) {{ return fwrite(bytes, 1, count, file) != count; }}
static int get(void *file, void *bytes, size_t count) {{ return fread(bytes, 1, count, file) != count; }}
/* Loads what an earlier one has saved, if any; learns from pictures, each with a signed byte more; saves. */
int main(int count, char **paths)
{{
    static uint8_t image[{upper}_IMAGE_BYTES + 1];
    {name}_result result;
    FILE *file = count > 2 ? fopen(paths[2], "rb") : NULL;
    if (file)
        printf("%d\\n", {name}_load(get, file));
    while (fread(image, 1, sizeof image, stdin) == sizeof image) {{
        {name}_learn(image, (int8_t)image[{upper}_IMAGE_BYTES], &result);
        printf("%d %lu\\n", result.decision, (unsigned long)result.operations);
    }}
    file = fopen(paths[1], "wb");
    return {name}_save(put, file) || fclose(file);
}}
"""


def taught(name):
    """A network whose readout of three neurons a class is to learn."""
    made = drawn(pixels(time_steps=255)) if name == "pixels" else balanced(RAMPED[name])
    return prototypes_on(made, per_class=3)


def streamed(target, images, labels, *paths):
    """What a program prints of pictures that it learns from."""
    records = np.column_stack([images.reshape(-1, math.prod(SHAPE)), labels.astype(np.int8).view(np.uint8)])
    done = subprocess.run([target, *paths], input=records.tobytes(), stdout=subprocess.PIPE, check=True)
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


def saved(path, prototypes):
    """Wins, bias, mean length and weights in a file."""
    features, inputs = prototypes.weights.shape
    kind = np.int8 if prototypes.bits <= 8 else np.int16
    parts = [("wins", np.uint16, features), ("bias", np.int64, features), ("length", np.uint32)]
    record = np.dtype([("form", np.uint32, 2), *parts, ("weights", kind, (features, inputs)), ("sum", np.uint32)])
    (found,) = np.frombuffer(path.read_bytes(), record)
    return found


def learned(prototypes, inputs, labels):
    """The decision on each input before it is learned, the operations of the readout, and what is learned."""
    answers = []
    for each, label in zip(inputs, labels, strict=True):
        operations = np.count_nonzero(each) * np.count_nonzero(prototypes.wins)
        answers.append((prototypes.decide(each), operations))
        prototypes = prototypes.learn(each, int(label))
    return answers, prototypes


@pytest.mark.parametrize(
    ("name", "bits", "own_bits", "count"),
    [("pixels", 8, 8, 1000), ("pixels", 8, 16, 100), ("joined", 4, 12, 100), ("three_layers", 3, 5, 100)],
)
def test_learns_as_in_python(name, bits, own_bits, count, tmp_path):
    """Pictures, one of them silent, some without a class, some of a new one; it is saved and loaded on the way."""
    network = taught(name)
    images = PICTURES[:count].copy()
    images[7] = 0
    labels = np.where(LABELS[:count] == 0, 11, LABELS[:count])
    labels[9::50] = -1
    labels[10::50] = 12
    prototypes = integer_prototypes(network, own_bits, classes=12)
    target = compiled(c.program(network, bits, SHAPE, learning=prototypes), tmp_path, *STRICT, main=STREAM)
    half = count // 2
    found = streamed(target, images[:half], labels[:half], tmp_path / "half")
    ((failed,), *more) = streamed(target, images[half:], labels[half:], tmp_path / "all", tmp_path / "half")
    assert not failed
    found = np.array(found + more)
    answers, after = learned(prototypes, inputs_of(quantise(network, bits), images), labels)
    expected = np.array(answers)
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    assert len({*found[:, 0]} & {*labels}) > 5
    of_features = cost(quantise(network, bits), images[:20]).effective_operations
    np.testing.assert_array_equal(found[:20, 1], of_features + expected[:20, 1])
    kept = saved(tmp_path / "all", prototypes)
    for field in ("wins", "bias", "length", "weights"):
        np.testing.assert_array_equal(kept[field], getattr(after, field), field)


def test_a_file_of_another_program_or_cut_off(tmp_path):
    """Without its first bytes nothing changes of what was known from the start; without others nothing is known."""
    network = taught("pixels")
    _, begun = learned(integer_prototypes(network), inputs_of(quantise(network, 8), PICTURES[:50]), LABELS[:50])
    target = compiled(c.program(network, 8, SHAPE, learning=begun), tmp_path, *STRICT, main=STREAM)
    streamed(target, PICTURES[:0], LABELS[:0], tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    files = (
        ("other", b"another " + content[8:], -1, True),
        ("empty", b"", 1, True),
        ("begun", content[:9], 1, False),
        ("cut", content[:-1], 1, False),
        ("damaged", content[:90] + bytes([content[90] ^ 1]) + content[91:], -1, False),
    )
    for name, kept, code, known in files:
        (tmp_path / name).write_bytes(kept)
        assert streamed(target, PICTURES[:0], LABELS[:0], tmp_path / "after", tmp_path / name) == [(code,)]
        for field in ("wins", "bias", "length", "weights"):
            np.testing.assert_array_equal(saved(tmp_path / "after", begun)[field], known * getattr(begun, field))


@functools.cache
def trained(name, count):
    """The network after the first pictures, in floats."""
    stream = Stream(taught(name))
    _, state = stream.learn(stream.init(), PICTURES[:count], LABELS[:count])
    return stream.network(state)


def test_integers_are_near_to_the_floats():
    """With 16 bits the same neurons win; a network that has learned decides in integers as it does in floats.

    Few weights of so few inputs are beyond the range of integers, which cut them off.
    """
    made = trained("pixels", 60)
    inputs = inputs_of(made, PICTURES[:200])
    expected = integer_prototypes(made, 16)
    _, after = learned(integer_prototypes(taught("pixels"), 16), inputs[:60], LABELS[:60])
    np.testing.assert_array_equal(after.wins, expected.wins)
    assert np.mean(np.abs(after.weights - expected.weights) < 0.002 * expected.most) > 0.95
    np.testing.assert_array_equal(after.bias, np.square(after.weights).sum(axis=1) - 4**after.shift)
    assert after.length == pytest.approx(expected.length, rel=0.001)
    decided = [integer_prototypes(made).decide(each) for each in inputs]
    assert np.mean(decided == np.asarray(made(PICTURES[:200]))) > 0.97


@pytest.mark.parametrize(("name", "bits"), [("pixels", 8), ("joined", 4), ("three_layers", 8)])
def test_a_readout_with_a_ramp_that_does_not_learn(name, bits, tmp_path):
    made = trained(name, 60)
    target = compiled(c.program(made, bits, SHAPE), tmp_path, *STRICT)
    found = agree(made, bits, target, np.concatenate([PICTURES[:60], np.zeros_like(PICTURES[:1])]))
    assert len({*found[:, 0]}) > 5


def test_refused():
    network = taught("pixels")
    other = integer_prototypes(taught("three_layers"))
    spec = network.spec
    part = dataclasses.replace(spec.stages[-1].branches[0], kernel=5, stride=2)
    narrow = dataclasses.replace(spec, stages=(*spec.stages[:-1], stage(part)))
    assert_refused(
        (lambda: c.program(network, 8, SHAPE, learning=other), "`learning` must be made of"),
        (lambda: integer_prototypes(drawn(pixels())), "must learn as Prototypes, got SupervisedSTDP"),
        (lambda: integer_prototypes(network, 3), "`bits` must be at least 4"),
        (lambda: integer_prototypes(network, classes=9), "`classes` must be at least 10"),
        (
            lambda: c.program(SpikingNetwork(narrow), 8, SHAPE),
            r"`kernel` of the layer .* that decides must be \(6, 6\)",
        ),
        (lambda: event_programs.check(network, "on a page"), "`ramp` of layer2 .* must be None on a page"),
    )


def test_command(tmp_path, capsys):
    """It writes a program, which learns from pictures and classes."""
    given = ["pretrained:goupy2024_ncg_mnist", "--to", "c", "--out", tmp_path / "made"]
    Command("export").main([*given, "--learn", "--classes", 11, "--per_class", 2])
    written = capsys.readouterr().out.splitlines()[-1]
    subprocess.run(written.split(), cwd=tmp_path, check=True)
    classes = np.where(LABELS[:30] == 1, 10, LABELS[:30])
    records = np.column_stack([PICTURES[:30].reshape(30, -1), classes.astype(np.uint8)])
    done = subprocess.run(
        [tmp_path / "learn"], input=np.tile(records, (2, 1)).tobytes(), capture_output=True, check=True
    )
    decided = np.array([int(line.split()[0]) for line in done.stdout.splitlines()])
    assert decided[0] == -1
    assert np.mean(decided[30:] == classes) > 0.9
    assert "`classes` is for --learn, got 12" in refused(Command("export"), capsys, *given, "--classes", 12)
    assert "`learn` is for --to c" in refused(Command("export"), capsys, given[0], "--to", "nir", "--learn")
