"""Readouts of prototypes in integers, in Python and in C: decisions, and what is learned, bit for bit."""

import dataclasses
import functools
import math
import shlex
import subprocess

import numpy as np
import pytest
from command import Command, refused
from documents import ROOT, all_commands, blocks
from refusals import assert_refused
from test_c import (
    COMPILER,
    RAMPED,
    SANITISED,
    SHAPE,
    agree,
    balanced,
    compiled,
    compiled_as_cpp,
    drawn,
    needs_cpp,
    pixels,
)

from snnjax import SpikingNetwork, Stream, cost, stage
from snnjax.core import files
from snnjax.data import digits, read_handwriting
from snnjax.export import c
from snnjax.export._event_programs import check_network
from snnjax.export.c import inputs_of, integer_prototypes
from snnjax.networks import prototypes_on, quantise
from snnjax.runs import Trained

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")]

PAGE = "experiments/docs/howto/export_c.md"
DATA = digits()
PICTURES = DATA.train_images.round().astype(np.uint8)
LABELS = np.asarray(DATA.train_labels)
STRICT = (*SANITISED, "-Wconversion")
LOAD, EXACTLY, FLASH, RESET, FORGET = -128, -127, -126, -2, -3
STREAM = (
    f"""
#define LOAD {LOAD}
#define EXACTLY {EXACTLY}
#define FLASH {FLASH}
#define RESET {RESET}
#define FORGET {FORGET} /* less the label */
"""
    + """
#include "{name}.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int put(void *file, const void *bytes, size_t count) {{ return fwrite(bytes, 1, count, file) != count; }}
static int get(void *file, void *bytes, size_t count) {{ return fread(bytes, 1, count, file) != count; }}
/* Copies as from flash memory: it always returns 0. A wait for bytes that do not come ends the program. */
static int copy(void *file, void *bytes, size_t count)
{{
    static size_t left = {upper}_SAVED_BYTES;
    if (count > left)
        exit(9);
    left -= count;
    return (int)(0 * fread(bytes, 1, count, file));
}}
/* Learns from pictures, each with a signed byte more, its label; saves. Further labels are commands. */
int main(int count, char **paths)
{{
    static uint8_t image[{upper}_IMAGE_BYTES + 1];
    {name}_result result;
    FILE *file = count > 2 ? fopen(paths[2], "rb") : NULL;
    while (fread(image, 1, sizeof image, stdin) == sizeof image) {{
        const int label = (int8_t)image[{upper}_IMAGE_BYTES];
        if (label == LOAD) {{
            printf("%d\\n", {name}_load(get, file));
        }} else if (label == EXACTLY) {{
            printf("%d\\n", {name}_load_exactly(get, file));
        }} else if (label == FLASH) {{
            printf("%d\\n", {name}_load(copy, file));
        }} else if (label == RESET) {{
            {name}_reset();
        }} else if (label < -1) {{
            {name}_forget(FORGET - label);
        }} else {{
            {name}_learn(image, label, &result);
            printf("%d %lu %lu %d %lu\\n", result.decision, (unsigned long)result.operations,
                   (unsigned long)result.score, result.second, (unsigned long)result.second_score);
        }}
    }}
    file = fopen(paths[1], "wb");
    return {name}_save(put, file) || fclose(file);
}}
"""
)


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


def learned(begun, inputs, labels):
    """What is found for each input before it is learned, with the operations of the readout, and what is learned."""
    answers = []
    prototypes = begun
    for each, label in zip(inputs, labels, strict=True):
        if label == RESET:
            prototypes = begun
        elif label < -1:
            prototypes = prototypes.forget(FORGET - int(label))
        else:
            operations = np.count_nonzero(each) * np.count_nonzero(prototypes.wins)
            decision, *scores = prototypes.rank(each)
            answers.append((decision, operations, *scores))
            prototypes = prototypes.learn(each, int(label))
    return answers, prototypes


def assert_saved(path, prototypes):
    """Checks what a program has saved, bit for bit."""
    kept = saved(path, prototypes)
    for field in ("wins", "bias", "length", "weights"):
        np.testing.assert_array_equal(kept[field], getattr(prototypes, field), field)


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
    labels[[40, 55]] = FORGET - 3, FORGET - 12  # a class, and one that there is not
    prototypes = integer_prototypes(network, own_bits, classes=12)
    target = compiled(c.program(network, bits, SHAPE, learning=prototypes), tmp_path, *STRICT, main=STREAM)
    half = count // 2
    found = streamed(target, images[:half], labels[:half], tmp_path / "half")
    begun = np.append(LOAD, labels[half:])
    loaded = streamed(target, images[half - 1 :], begun, tmp_path / "all", tmp_path / "half")
    assert loaded[0] == (0,)
    found = np.array(found + loaded[1:])
    answers, after = learned(prototypes, inputs_of(quantise(network, bits), images), labels)
    expected = np.array(answers)
    np.testing.assert_array_equal(found[:, [0, 2, 3, 4]], expected[:, [0, 2, 3, 4]])
    assert len({*found[:, 0]} & {*labels}) > 5
    of_features = cost(quantise(network, bits), images[:20]).effective_operations
    np.testing.assert_array_equal(found[:20, 1], of_features + expected[:20, 1])
    assert_saved(tmp_path / "all", after)


def test_scores_tell_how_near_an_image_is():
    """The agreement is 1 less half the squared distance of unit vectors, for the neurons of the two best classes."""
    inputs = inputs_of(taught("pixels"), PICTURES[:120])
    _, after = learned(integer_prototypes(taught("pixels"), 16), inputs[:100], LABELS[:100])
    for each in inputs[100:]:
        found = after.rank(each)
        image = after.centred(each)
        potentials = after.potentials(image).reshape(after.classes, -1)
        first, second = np.argsort(-potentials.max(axis=1))[:2]
        assert (found.decision, found.second) == (first, second)
        weights = after.weights / 2.0**after.shift
        for label, score in ((first, found.score), (second, found.second_score)):
            neuron = label * after.neurons + potentials[label].argmax()
            distance = np.linalg.norm(image / np.linalg.norm(image) - weights[neuron])
            assert score / 2**16 == pytest.approx(1 - distance**2 / 2, abs=1e-4)
    assert after.rank(0 * each).score == 0


def test_begins_with_fewer_classes_than_its_network(tmp_path):
    """A readout that has learned nothing may have any number of classes, such as 3 of 10; labels from 3 on are none."""
    network = taught("pixels")
    prototypes = integer_prototypes(network, classes=3)
    program = c.program(network, 8, SHAPE, learning=prototypes)
    assert "_CLASSES 3\n" in program.header
    target = compiled(program, tmp_path, *STRICT, main=STREAM)
    found = streamed(target, PICTURES[:60], LABELS[:60], tmp_path / "file")
    answers, after = learned(prototypes, inputs_of(quantise(network, 8), PICTURES[:60]), LABELS[:60])
    np.testing.assert_array_equal(np.array(found)[:, 0], np.array(answers)[:, 0])
    assert {*np.array(found)[:, 0]} == {-1, 0, 1, 2}
    assert_saved(tmp_path / "file", after)


def test_a_program_that_knows_something_can_be_reset_to_it(tmp_path):
    """A file that is damaged, cut off or known to be too long resets it; without its first bytes nothing changes."""
    network = taught("pixels")
    inputs = inputs_of(quantise(network, 8), PICTURES[:80])
    _, begun = learned(integer_prototypes(network), inputs[:50], LABELS[:50])
    target = compiled(c.program(network, 8, SHAPE, learning=begun), tmp_path, *STRICT, main=STREAM)
    streamed(target, PICTURES[:0], LABELS[:0], tmp_path / "file")
    assert_saved(tmp_path / "file", begun)
    _, forgetful = learned(begun, inputs[:1], [FORGET - 4])
    streamed(target, PICTURES[:1], np.array([FORGET - 4]), tmp_path / "forgetful")
    assert_saved(tmp_path / "forgetful", forgetful)
    content = (tmp_path / "forgetful").read_bytes()
    damaged = content[:90] + bytes([content[90] ^ 1]) + content[91:]
    _, after = learned(begun, inputs[50:79], LABELS[50:79])
    cases = (
        (LOAD, b"another " + content[8:], -1, after),
        (LOAD, b"", 1, after),
        (LOAD, content[:9], 1, begun),
        (LOAD, content[:-1], 1, begun),
        (LOAD, damaged, -1, begun),
        (LOAD, content + b"1", 0, forgetful),
        (FLASH, content, 0, forgetful),
        (FLASH, content + b"1", 0, forgetful),
        (FLASH, damaged, -1, begun),
        (EXACTLY, content, 0, forgetful),
        (EXACTLY, content[:-1], 1, begun),
        (EXACTLY, content + b"1", -1, begun),
    )
    for command, kept, code, expected in cases:
        (tmp_path / "kept").write_bytes(kept)
        labels = np.append(LABELS[50:79], command)
        assert streamed(target, PICTURES[50:80], labels, tmp_path / "after", tmp_path / "kept")[-1] == (code,)
        assert_saved(tmp_path / "after", expected)
    streamed(target, PICTURES[50:80], np.append(LABELS[50:79], RESET), tmp_path / "after")
    assert_saved(tmp_path / "after", begun)


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


@needs_cpp
def test_the_source_compiles_as_cpp(tmp_path):
    """With what a readout knows at the start, and 16-bit weights."""
    network = taught("pixels")
    inputs = inputs_of(quantise(network, 8), PICTURES[:40])
    _, begun = learned(integer_prototypes(network, 16), inputs[:20], LABELS[:20])
    target = compiled_as_cpp(c.program(network, 8, SHAPE, learning=begun), tmp_path)
    records = np.column_stack([PICTURES[20:40].reshape(20, -1), LABELS[20:40].astype(np.uint8)])
    done = subprocess.run([target], input=records.tobytes(), stdout=subprocess.PIPE, check=True)
    found = np.array([line.split() for line in done.stdout.splitlines()], int)
    answers, _ = learned(begun, inputs[20:], LABELS[20:40])
    np.testing.assert_array_equal(found[:, [0, 4, 5, 6]], np.array(answers)[:, [0, 2, 3, 4]])


def test_refused():
    network = taught("pixels")
    other = integer_prototypes(taught("three_layers"))
    description = network.network
    part = dataclasses.replace(description.stages[-1].branches[0], kernel=5, stride=2)
    narrow = dataclasses.replace(description, stages=(*description.stages[:-1], stage(part)))
    assert_refused(
        (lambda: c.program(network, 8, SHAPE, learning=other), "`learning` must be made from"),
        (lambda: integer_prototypes(drawn(pixels())), "must be Prototypes, got SupervisedSTDP"),
        (lambda: integer_prototypes(network, 3), "`bits` must be at least 4"),
        (lambda: integer_prototypes(network, classes=0), "`classes` must be at least 1"),
        (
            lambda: integer_prototypes(trained("pixels", 60), classes=9),
            "`classes` must be at least 10, because the readout of .* has learned these classes, got 9",
        ),
        (
            lambda: c.program(SpikingNetwork(narrow), 8, SHAPE),
            r"`kernel` of the layer .* that decides must be \(6, 6\)",
        ),
        (lambda: check_network(network, "on a page"), "`ramp` of layer2 .* must be None on a page"),
    )


def test_the_program_of_the_page_learns_saves_and_loads(tmp_path, capsys, monkeypatch):
    """Its text and the commands around it; it decides on a picture that another process has learned.

    What it refuses changes no file: classes that there are not, and files that it cannot read or write.
    """
    monkeypatch.chdir(tmp_path)
    texts = blocks(PAGE)
    export = next(line for line in all_commands(PAGE) if "--learn" in line)
    main = next(text for language, text in texts if language == "c" and "int main(int count" in text)
    lines = next(text for language, text in texts if language == "sh" and "./teach" in text).splitlines()
    Command("export").main(shlex.split(export)[2:])
    capsys.readouterr()
    (tmp_path / "main.c").write_text(main)
    read_handwriting(ROOT / "experiments/docs/pictures/digit.png")[0].tofile("digit.bin")
    compile_it, *others = lines
    subprocess.run([*shlex.split(compile_it), "-Wall", "-Wextra", "-Werror", "-pedantic"], check=True)
    printed = [subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout for line in others]
    assert printed == ["unknown\n", "unknown\n", "5\n"]
    content = (tmp_path / "learned.bin").read_bytes()

    def refused_by_it(*given):
        """What it prints where it fails; it changes nothing in the folder."""
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        picture = (tmp_path / "digit.bin").read_bytes()
        done = subprocess.run(["./teach", *given], input=picture, capture_output=True, check=False)
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
        return done.returncode, done.stderr.decode()

    for label in ("abc", "5x", "", "12", "-1", "99999999999999999999"):
        code, error = refused_by_it("learned.bin", label)
        assert code == 2
        assert "with a CLASS from 0 to 11," in error
    (tmp_path / "loop").symlink_to("loop")  # a file that is there, but cannot be read, also not by root
    assert refused_by_it("loop", "5") == (1, "loop: Too many levels of symbolic links\n")
    assert (tmp_path / "loop").is_symlink()
    assert refused_by_it(".", "5") == (1, ".: Is a directory\n")
    long = "./" * 509 + "learned.bin"
    assert refused_by_it(long, "5") == (1, f"{long}: File name too long\n")
    for damaged in (b"1" + content, content + b"1"):
        (tmp_path / "learned.bin").write_bytes(damaged)
        assert refused_by_it("learned.bin") == (1, "learned.bin is damaged, or of another program\n")


FLASH_TEST = """
static uint8_t flash[SAVED_BYTES + UNIT];
static uint8_t image[IMAGE_BYTES];

int flash_erase(uint8_t *start, size_t count)
{
    memset(start, 255, (count + UNIT - 1) / UNIT * UNIT);
    return 0;
}

int flash_write(uint8_t *address, const uint8_t bytes[UNIT])
{
    for (int i = 0; i < UNIT; i++)
        if (address[i] != 255)
            return 1; /* not erased */
    memcpy(address, bytes, UNIT);
    return 0;
}

static int decision(void)
{
    NAME(result) result;
    NAME(classify)(image, &result);
    return result.decision;
}

int main(void)
{
    NAME(result) result;
    memset(image, 200, sizeof image / 2);
    const int empty = load_from_flash(flash);
    NAME(learn)(image, 3, &result);
    const int saved = save_to_flash(flash) || save_to_flash(flash);
    NAME(reset)();
    const int forgotten = decision();
    const int loaded = load_from_flash(flash);
    const int remembered = decision();
    flash[100] ^= 1;
    return !(empty == -1 && !saved && forgotten == -1 && !loaded && remembered == 3 && load_from_flash(flash) == -1);
}
"""


def test_the_functions_of_the_page_keep_what_was_learned_in_flash_memory(tmp_path, capsys, monkeypatch):
    """The flash memory of the test refuses to write what was not erased; damaged data are not loaded."""
    monkeypatch.chdir(tmp_path)
    kept = next(text for language, text in blocks(PAGE) if language == "c" and "save_to_flash" in text)
    prefix = "goupy2024_ncg_prototypes"
    macros = [f"#define {macro} {prefix.upper()}_{macro}" for macro in ("SAVED_BYTES", "IMAGE_BYTES")]
    macros.append(f"#define NAME(function) {prefix}_##function")
    (tmp_path / "flash.c").write_text("\n".join([kept, *macros, FLASH_TEST]))
    export = next(line for line in all_commands(PAGE) if "--learn" in line)
    Command("export").main(shlex.split(export)[2:])
    capsys.readouterr()
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    sources = ["flash.c", f"exported/{prefix}.c"]
    subprocess.run(["cc", *strict, "-O1", "-Iexported", *sources, "-o", "flash"], check=True)
    subprocess.run(["./flash"], check=True)


def test_features_without_a_decision_learn_as_many_classes_as_are_given(tmp_path, capsys):
    """A readout is put on their last stage; they have no number of classes of their own."""
    network = pixels()
    made = drawn(dataclasses.replace(network, classes=0, stages=network.stages[:1], decision=None, epochs=()))
    Trained(made.network, made.weights(), SHAPE).save(tmp_path / "weights.npz")
    given = [tmp_path / "weights.npz", "--to", "c", "--learn", "--out", tmp_path / "made"]
    assert "`classes` must be at least 1, and pixels has none" in refused(Command("export"), capsys, *given)
    assert "`classes` must be at most 256, got 257" in refused(Command("export"), capsys, *given, "--classes", 257)
    assert not (tmp_path / "made").exists()
    Command("export").main([*given, "--classes", 7])
    assert "_CLASSES 7\n" in (tmp_path / "made/pixels_prototypes.h").read_text()
    readout = integer_prototypes(prototypes_on(made, 7))
    target = compiled(c.program(prototypes_on(made, 7), 8, SHAPE, learning=readout), tmp_path, *STRICT, main=STREAM)
    found = streamed(target, PICTURES[:40], LABELS[:40], tmp_path / "file")
    inputs = inputs_of(quantise(prototypes_on(made, 7), 8), PICTURES[:40])
    answers, _ = learned(readout, inputs, LABELS[:40])
    assert [each[0] for each in found] == [each[0] for each in answers]
    assert {-1, 1, 5} <= {each[0] for each in found} <= {*range(-1, 7)}


def test_more_neurons_than_memory_are_refused(tmp_path, capsys, monkeypatch):
    """They were drawn before: a traceback, or a computer without memory."""
    monkeypatch.setattr(files, "MEMORY", 1 << 30)
    given = ["pretrained:goupy2024_ncg_mnist", "--to", "c", "--learn", "--out", tmp_path / "made"]
    error = refused(Command("export"), capsys, *given, "--per_class", 100_000)
    inputs = 10 * 128 * 5 * 5 * 24  # bytes of one neuron of each class
    assert f"`per_class` must be at most {2**30 // inputs}, so that 10 classes fit into 1.0 GiB of memory" in error
    assert "got 100000" in error
    assert not (tmp_path / "made").exists()


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
