"""The page on which a network runs: its simulation under Node, the page itself in Chromium."""

import base64
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from command import Command, refused
from PIL import Image
from tiny import FIRST, branches, images, labelled, plain, with_zeros

import snnjax
from snnjax import InputError, SpikingNetwork, Stream
from snnjax.app.page import is_ours
from snnjax.data import digits, load, read_handwriting, read_picture
from snnjax.encoding import PIXELS, Encoder, OnOff, Pixels
from snnjax.export import page
from snnjax.kernels.ramp import ramp_levels
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.layers.ramp import Ramp, Standardise
from snnjax.learners import RSTDP
from snnjax.networks import NETWORKS, Earliest, ImageSpec, Input, Network, stage
from snnjax.networks.quantisation import quantise
from snnjax.runs.trained import Trained
from snnjax.training.loop import Trainer
from snnjax.training.run_plan import network_for
from snnjax.training.state import Settings

pytestmark = pytest.mark.slow

NCG = "pretrained:goupy2024_ncg_mnist"
TEMPLATES = pathlib.Path(page.__file__).parent / "templates"
LAST = Conv(10, kernel=3, learners=RSTDP())
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PROGRAM = """
const network = networkOf(JSON.parse(require("fs").readFileSync(0, "utf8")));
const responses = network.pictures.map((text) => {
  const latencies = encode(network, network.floats ? floatsOf(text) : bytesOf(text));
  const run = simulate(network, latencies);
  const spikes = run.spikes.map((counts) => counts.at(-1));
  const fired = run.latencies.map((each) => [...each]);
  return { ...run, latencies: fired, spikes, operations: run.operations.at(-1), potentials: 0 };
});
console.log(JSON.stringify(responses));
"""
LESSON = """
const { page, pictures, labels, names } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const network = networkOf(page);
const inputs = pictures.map((picture) => inputsOf(network, picture));
let lesson = names.reduce((before, name) => withClass(network, before, name), UNTAUGHT);
labels.forEach((label, index) => { lesson = learn(network, lesson, label, inputs[index], pictures[index]); });
const decided = (of) => inputs.map((each) => decideBy(of, each).decision);
const base64 = async (of) => Buffer.from(await fileOf(network, of)).toString("base64");
(async () => {
  const without = withoutClass(lesson, 1);
  const files = [await base64(lesson), await base64(without)];
  const again = await lessonOf(network, bytesOf(files[0]));
  const other = bytesOf(files[0]);
  other[other.length >> 1] ^= 1; // of the weights
  const refused = await lessonOf(network, other).then(() => "", (error) => error.message);
  const same = files[0] === await base64(again);
  const decisions = [decided(lesson), decided(without)];
  const kept = again.right.join() === lesson.right.join();
  console.log(JSON.stringify({ files, decisions, right: lesson.right, same, kept, refused }));
})();
"""
OPENED = """
const { page, pictures, file } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const network = networkOf(page);
const inputs = pictures.map((picture) => inputsOf(network, picture));
const answer = async () => {
  try {
    const lesson = await lessonOf(network, bytesOf(file));
    const decisions = inputs.map((each) => decideBy(lesson, each).decision);
    const next = learn(network, lesson, 1, inputs[0], pictures[0]);
    const again = await lessonOf(network, await fileOf(network, next));
    const painted = again.classes.map(({ neurons }) => neurons.filter(({ picture }) => picture).length);
    return { decisions, right: lesson.right, painted };
  } catch (error) {
    return { error: error.message };
  }
};
answer().then((result) => console.log(JSON.stringify(result)));
"""
SCRIPTS = "demo_simulation.js demo_teaching.js demo_file.js"
HOLD = """
const held = new DataTransfer();
held.items.add(new File([new Uint8Array(arguments[0])], "picture.png", { type: "image/png" }));
"""


def made(make, encoder=None, data=None):
    """An untrained network, which decides for many classes; a tenth of its weights are 0."""
    return with_zeros(network_for(make, data or images(), encoder), 1)


def crowded(images):
    """A network of all that geometry can be: strides, paddings, windows that overlap, several places of the readout."""
    first = Conv(
        4, kernel=(5, 3), padding=(2, 1), stride=(2, 1), threshold=np.array([5.0, 10, 15, 20]), output_padding=1
    )
    second = dataclasses.replace(FIRST, features=6, kernel=3, padding=1, threshold=4.0)
    last = dataclasses.replace(
        LAST, features=2 * images.classes, kernel=(2, 3), stride=2, threshold=9.0, weight_mean=0.5
    )
    stages = stage(first, pool=Pool(3, stride=2, padding=1)), stage(second, pool=Pool((2, 3))), stage(last)
    return Network("crowded", images.input_shape, images.classes, stages, decision=Earliest(), epochs=(1, 1, 1))


def ramped(features, kernel, fan_in, ramp, **settings):
    """A layer with a ramp whose potentials are about 1."""
    fitted = dataclasses.replace(ramp, levels=ramp_levels(2.0, power=ramp.power, time_steps=60))
    standardise = Standardise(mean=20.0, variance=400.0)
    return Conv(
        features, kernel, weight_mean=0.0, weight_std=fan_in**-0.5, ramp=fitted, standardise=standardise, **settings
    )


def ramps(images):
    """Layers with ramps, their neurons with and without dendrites, and a readout of both and of the encoded image."""
    first = ramped(6, (5, 3), 45, Ramp(0.7), padding=(2, 1))
    second = ramped(7, 3, 54, Ramp(1.4, dendrites=(2, 1)), padding=1)
    last = Conv(
        2 * images.classes,
        2,
        threshold=9.0,
        fractional=True,
        weight_mean=0.5,
        learners=LAST.learners,
    )
    reads = Input("encoder", pool=Pool((13, 14))), Input("stage1", pool=Pool(6, mean=True)), Input("stage2")
    stages = (
        stage(first, pool=Pool(4, stride=2, padding=1)),
        stage(second, pool=Pool((3, 7))),
        stage(last, inputs=reads),
    )
    decision = Earliest(fallback=True)
    return Network("ramps", images.input_shape, images.classes, stages, time_steps=60, decision=decision)


def coloured(images):
    """Images with colours, as many rows as 26 of them, (N, 26, 28, 3)."""
    colours = np.stack([images, images[:, ::-1], 255 - images], axis=-1)
    return np.rint(colours[:, 1:-1]).astype(np.uint8)


def in_colour(data):
    return dataclasses.replace(data, train_images=coloured(data.train_images), test_images=coloured(data.test_images))


def decided(network, pictures):
    """The decisions on pictures in Python, by weights of 8 bits."""
    return np.asarray(jax.jit(jax.vmap(quantise(network, 8)))(pictures))


def in_node(network, pictures, labels, bits):
    """What the script of the page of a network makes of its pictures under Node."""
    text = page.page_of(network, pictures, labels, bits)
    (data,) = re.findall('<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(run_script("demo_simulation.js", PROGRAM, data))


def run_script(names, program, given):
    """What a program prints under Node that uses scripts of the page."""
    scripts = [(TEMPLATES / name).read_text() for name in names.split()]
    command = ["node", "-e", "".join(scripts) + program]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def pictures():
    test = digits()
    return test.test_images[:200], test.test_labels[:200]


@pytest.fixture(scope="module")
def ncg():
    return snnjax.load(NCG)


@pytest.mark.skipif(not shutil.which("node"), reason="no Node")
@pytest.mark.parametrize(
    ("make", "bits"),
    [
        (lambda: snnjax.load(NCG), 8),
        (lambda: made(plain), 8),
        (lambda: made(labelled, PIXELS), 4),
        (lambda: made(labelled, OnOff().fit(digits().train_images[:50])), 3),
        (lambda: made(crowded, Encoder(radius=None, scale=0.7, time_steps=60)), 6),
        (lambda: made(ramps, Pixels(60), in_colour(images())), 5),
    ],
    ids=["pretrained", "grey", "pixels", "on_off", "crowded", "ramps"],
)
def test_simulation_is_python(make, bits):
    network = make()
    data = images().subset(None, 20)
    if network.network.input_shape[0] == 3:
        data = in_colour(data)
    responses = in_node(network, data.test_images, data.test_labels, bits)
    small = quantise(network, bits)
    observe = jax.jit(lambda pictures: jax.lax.map(lambda x: small.model.observe(small.model.encode(x)), pictures))
    for part, latencies in enumerate(observe(data.test_images).latencies.values()):
        expected = np.reshape(latencies, (len(latencies), -1))
        assert np.array_equal([response["latencies"][part] for response in responses], expected), part
    cost = snnjax.cost(small, data.test_images, backend="xla")
    decisions = cost.decisions[:, -1]
    assert np.array_equal([response["decision"] for response in responses], decisions)
    assert len(set(decisions.tolist())) > 1
    assert np.array_equal([response["operations"] for response in responses], cost.effective_operations)
    spikes = np.array([response["spikes"] for response in responses]).T
    assert np.array_equal(spikes, [cost.input_spikes, *(layer.spikes for layer in cost.layers)])
    if cost.first_spike is not None:
        steps = np.minimum(cost.first_spike, network.network.time_steps - 1)
        windows = len(network.network.ramped)  # before the last one
        assert np.array_equal(
            [response["step"] for response in responses], steps + windows * network.network.time_steps
        )


@pytest.mark.skipif(not shutil.which("node"), reason="no Node")
@pytest.mark.parametrize("size", [(26, 32), (50, 120), (333, 97), (70, 121), (127, 64)])
@pytest.mark.parametrize(("fit", "function"), [("crop", "resized"), ("pad", "padded")])
def test_pictures_are_resized_as_by_predict(size, fit, function, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    shape = (26, 32)
    given = dict(data=pixels.ravel().tolist(), height=size[0], width=size[1])
    program = 'const image = JSON.parse(require("fs").readFileSync(0, "utf8"));'
    program += f"console.log(JSON.stringify([...{function}(image, {list(shape)})]));"
    resized = json.loads(run_script("demo_simulation.js demo_resizing.js", program, json.dumps(given)))
    expected, _ = read_picture(tmp_path / "picture.png", (*shape, 3), fit=fit)
    difference = np.abs(np.reshape(resized, expected.shape) - expected.astype(int))
    assert difference.max() <= (1 if size[0] > size[1] else 0)  # Pillow goes through columns first then, and rounds


def taught(network, data, **settings):
    """The page of a network whose features are taught, and its data."""
    came_from = dict(dataset="mnist", data_dir="folder_of_mine")
    trained = Trained(network.network, weights_of(network), data.test_images.shape[1:], came_from, network.class_names)
    text = page.teaching_page(trained, data.test_images, data.test_labels, **settings)
    (found,) = re.findall('<script type="application/json" id="data">(.*?)</script>', text)
    return text, json.loads(found)


def weights_of(network):
    return {name: np.asarray(values) for name, values in network.weights().items()}


@pytest.mark.skipif(not shutil.which("node"), reason="no Node")
@pytest.mark.parametrize(
    ("make", "colour", "bits"),
    [(lambda: snnjax.load(NCG), False, 8), (lambda: made(ramps, Pixels(60), in_colour(images())), True, 5)],
    ids=["pretrained", "ramps"],
)
def test_what_a_page_learns_is_python(make, colour, bits, tmp_path):
    """Weights, wins, thresholds and decisions; those of a page that has forgotten a class, too."""
    data = images().subset(None, 40)
    if colour:
        data = in_colour(data)
    labels = data.test_labels % 3
    names = ('nought, "0"', "ünder", "2")
    text, found = taught(make(), data, bits=bits)
    assert "folder_of_mine" not in text
    given = dict(page=found, pictures=data.test_images.reshape(40, -1).tolist(), labels=labels.tolist(), names=names)
    made_there = json.loads(run_script(SCRIPTS, LESSON, json.dumps(given)))
    assert made_there["same"]
    assert made_there["kept"]
    assert made_there["refused"] == "is damaged"
    for kept, file, decisions in zip((names, names[::2]), made_there["files"], made_there["decisions"], strict=True):
        (tmp_path / "taught.npz").write_bytes(base64.b64decode(file))
        network = snnjax.load(tmp_path / "taught.npz")
        assert network.class_names == kept
        assert np.array_equal(network(data.test_images), decisions)
        assert len(set(decisions)) == len(kept)
    (tmp_path / "taught.npz").write_bytes(base64.b64decode(made_there["files"][0]))
    network = snnjax.load(tmp_path / "taught.npz")
    (deciding,) = network.network.deciding
    weights = weights_of(network)
    begun = SpikingNetwork(network.untrained, weights=weights | {deciding: 0 * weights[deciding]})
    stream = Stream(begun)
    _, state = stream.learn(stream.init(), data.test_images, labels)
    expected = stream.network(state)
    conv, expected_conv = (each.network.stages[-1].branches[0] for each in (network, expected))
    assert np.array_equal(conv.learners.wins, expected_conv.learners.wins)
    np.testing.assert_allclose(conv.learners.length, expected_conv.learners.length, rtol=1e-5)
    np.testing.assert_allclose(conv.threshold, expected_conv.threshold, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(weights[deciding], weights_of(expected)[deciding], atol=1e-5)
    assert np.array_equal(quantise(make(), bits).weights()["layer1"], network.weights()["layer1"])
    assert Trained.read(tmp_path / "taught.npz").settings == dict(dataset="mnist")
    assert network.untrained.stages[-1].branches[0].learners.wins == 0
    assert not made_there["right"][0]
    assert np.mean(made_there["right"][20:]) > 0.5


@pytest.mark.skipif(not shutil.which("node"), reason="no Node")
def test_what_a_stream_has_continued_is_opened(ncg, tmp_path):
    """What Python learned from a file of a page goes on there, unless it is corrected or of other features."""
    data = images().subset(None, 40)
    _, found = taught(ncg, data)
    given = dict(page=found, pictures=data.test_images.reshape(40, -1).tolist())
    lesson = given | dict(labels=(data.test_labels % 3).tolist(), names=["a", "b", "c"])
    (file, _) = json.loads(run_script(SCRIPTS, LESSON, json.dumps(lesson)))["files"]
    path = tmp_path / "taught.npz"
    path.write_bytes(base64.b64decode(file))
    stream = Stream(snnjax.load(path))
    _, state = stream.learn(stream.init(), data.test_images[:10], np.arange(10) % 3)
    stream.save(state, path)
    opened = opened_there(given, path)
    assert opened["decisions"] == np.asarray(snnjax.load(path)(data.test_images)).tolist()
    assert opened["right"] == []
    assert opened["painted"][0] == 0  # Python keeps no pictures
    assert opened["painted"][1] > 0
    _, state = stream.learn(stream.end_epoch(state), data.test_images, np.arange(40) % 3)
    stream.save(state, path)
    assert opened_there(given, path)["error"].startswith("has corrected errors")
    _, other = taught(ncg, data, bits=4)
    stream.save(stream.init(), path)
    assert "different network" in opened_there(given | dict(page=other), path)["error"]


def opened_there(given, path):
    """What a page says of a file, and goes on with."""
    file = base64.b64encode(path.read_bytes()).decode()
    return json.loads(run_script(SCRIPTS, OPENED, json.dumps(given | dict(file=file))))


@pytest.mark.parametrize("bits", [8, 3])
def test_weights_are_on_a_page_once_in_few_bits(bits):
    """The weights in the file of a taught network are those that the page computes with."""
    _, found = taught(made(ramps, Pixels(60), in_colour(images())), in_colour(images().subset(None, 2)), bits=bits)
    assert found["layers"]
    for layer in found["layers"]:
        count = layer["input"][0] * np.prod(layer["kernel"]) * layer["features"]
        packed = -(-count * bits // 8)
        assert len(layer["weights"]) == 4 * -(-packed // 3)
        arrays = [kept for name, kept in found["file"]["arrays"].items() if name.split(" ")[0] == layer["name"]]
        assert [kept["shape"][0] for kept in arrays] == [layer["features"]]
        assert "data" not in arrays[0]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("node"), reason="no Node")
def test_narrow_network_on_a_page():
    """Trained on few digits with colours, it decides as in Python, and the page stays small."""
    data = in_colour(digits().subset(200, 50))
    description = NETWORKS["softhebb_narrow"](ImageSpec.of(data))
    settings = dataclasses.replace(Settings.of(description, data), epochs=(1, 1, 1, 2))
    trainer = Trainer(description, data, settings)
    network = trainer.trained(trainer.run(trainer.initial_state()))
    assert len(page.page_of(network, data.test_images[:20], data.test_labels[:20])) < 3_000_000
    responses = in_node(network, data.test_images, data.test_labels, 8)
    assert np.array_equal([response["decision"] for response in responses], decided(network, data.test_images))


def test_page_is_one_small_file(ncg, pictures):
    whole = np.rint(pictures[0][:20]).astype(np.uint8)
    text = page.page_of(ncg, whole, pictures[1][:20])
    assert len(text.encode()) < 1_500_000
    assert not re.search(r"https?://|src=|@import|url\(", text)
    assert page.page_of(renamed(ncg, "</script>"), whole, pictures[1][:20]).count("</script>") == text.count(
        "</script>"
    )
    assert text.count('"use strict"') == 5
    assert "Draw a digit" in text


def renamed(network, name):
    """The network with another name of its first class."""
    names = (name, *network.class_names[1:])
    return SpikingNetwork(network.network, weights=network.weights(), class_names=names)


def test_networks_and_pictures_that_a_page_cannot_show_or_teach_are_refused(ncg, pictures):
    some, labels = pictures[0][:2], pictures[1][:2]
    with pytest.raises(InputError, match="stage 2 of branches must have one layer on a page"):
        page.page_of(made(branches), some, labels)
    for message, arguments in {
        "`pictures` must be grey": (np.stack([some] * 3, axis=3), labels),
        r"`image` must be as those that the encoder is fitted to": (np.pad(some, ((0, 0), (0, 0), (1, 1))), labels),
        r"`labels` must have shape \(2,\)": (some, labels[:1]),
        r"`labels` must lie in 0..9, got 10..11": (some, np.array([10, 11])),
        r"`bits` must": (some, labels, 9),
    }.items():
        with pytest.raises(InputError, match=message):
            page.page_of(ncg, *arguments)
    data = images().subset(None, 2)
    scales = made(NETWORKS["ncg_scales"], OnOff().fit(data.train_images))
    with pytest.raises(InputError, match="stage 2 of ncg_scales_prototypes must read only the stage before it"):
        taught(scales, data)
    with pytest.raises(InputError, match=r"`bits` of layer2, .* must be at least 2"):
        taught(ncg, data, bits=1)


def test_command_writes_a_page_over_its_own_alone(tmp_path, capsys):
    out = tmp_path / "demo.html"
    given = [NCG, "--dataset", "digits", "--bits", 4, "--out", out]
    Command("demo").main(given)
    Command("demo").main(given)
    assert "demo.html: open it in a browser; 0." in capsys.readouterr().out
    assert is_ours(out)
    assert out.read_text().count('"floats": true') == 1
    Command("demo").main([*given, "--teach"])
    assert "Teach a spiking network" in out.read_text()
    out.write_text("mine")
    assert "already exists" in refused(Command("demo"), capsys, *given)
    assert out.read_text() == "mine"


@pytest.fixture
def browser():
    """Chromium without a window, in which pages do not move unless a test asks for it."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and shutil.which("chromedriver")):
        pytest.skip("no Chromium")
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1600"):
        chosen.add_argument(argument)
    for argument in ("device-for-media-stream", "ui-for-media-stream"):
        chosen.add_argument(f"--use-fake-{argument}")
    chosen.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(chosen, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        move(driver, False)
        yield driver
        assert driver.get_log("browser") == []
    finally:
        driver.quit()


def move(driver, wanted):
    """Whether the person wants motion."""
    preference = dict(name="prefers-reduced-motion", value="no-preference" if wanted else "reduce")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=[preference]))


def until(driver, condition):
    wait_for(driver, lambda: driver.execute_script(f"return {condition}"))


def wait_for(driver, condition, seconds=30):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, seconds, 0.05).until(lambda _: condition())


@pytest.fixture(scope="module")
def file(ncg, pictures, tmp_path_factory):
    """The page of the network, with 200 test pictures."""
    path = tmp_path_factory.mktemp("demo") / "demo.html"
    path.write_text(page.page_of(ncg, *pictures, centred=True))
    return path.as_uri()


def test_picked_pictures_are_decided(browser, file, ncg, pictures):
    browser.get(file)
    decisions = decided(ncg, pictures[0])
    buttons = browser.find_elements("css selector", "#samples button")
    result = browser.find_element("id", "result")
    assert len(buttons) == 200
    for number in (1, 50, 199):
        buttons[number].click()
        assert result.text.startswith(f"Decided for {decisions[number]} at step")
        assert ("Right." in result.text) == (decisions[number] == pictures[1][number])
        assert browser.find_element("id", "decision").text == str(decisions[number])
        assert buttons[number].get_attribute("aria-pressed") == "true"
    assert result.get_attribute("aria-live") == "polite"
    browser.find_element("id", "clear").click()
    assert result.text == "The sheet is empty."


def test_time_and_noise_by_keyboard(browser, file):
    from selenium.webdriver.common.keys import Keys

    browser.get(file)
    time = browser.find_element("id", "time")
    time.send_keys(Keys.HOME)
    assert browser.find_element("id", "result").text == "No decision yet."
    time.send_keys(Keys.ARROW_RIGHT)
    assert time.get_attribute("aria-valuetext") == "step 1 of 255"
    time.send_keys(Keys.END)
    assert "Decided" in browser.find_element("id", "result").text
    before = browser.execute_script("return state.run.spikes[0].at(-1)")
    browser.find_element("id", "erased").send_keys(Keys.END)
    assert browser.execute_script("return state.run.spikes[0].at(-1)") < before / 4
    slider = browser.find_element("css selector", ".feature input")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuetext").startswith("feature 2,")
    button = browser.find_element("css selector", ".feature button")
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-pressed") == "true"


def test_plays_until_the_decision(browser, file):
    browser.get(file)
    move(browser, True)
    browser.find_element("css selector", "#samples button:nth-child(3)").click()
    play = browser.find_element("id", "play")
    assert play.text == "Pause"
    until(browser, "state.step > 20")
    play.click()
    paused = browser.execute_script("return state.step")
    assert play.text == "Play"
    play.click()
    until(browser, "!state.play")
    assert paused > 20
    assert browser.execute_script("return state.step === state.run.step")


def test_drawings_are_read_as_handwriting(browser, file, tmp_path, ncg):
    from selenium.webdriver import ActionChains

    browser.get(file)
    sheet = browser.find_element("id", "sheet")
    actions = ActionChains(browser, duration=20).move_to_element_with_offset(sheet, -40, -70).click_and_hold()
    for across, down in ((70, 0), (0, 40), (-50, 90)):
        actions.move_by_offset(across, down)
    actions.release().perform()
    until(browser, "state.label === -1 && state.picture !== null && !sheet.stroke")
    png = browser.execute_script("return sheet.canvas.toDataURL('image/png')").split(",")[1]
    (tmp_path / "drawn.png").write_bytes(base64.b64decode(png))
    read, _ = read_handwriting(tmp_path / "drawn.png")
    drawn = np.array(browser.execute_script("return [...state.picture]")).reshape(28, 28)
    assert np.abs(drawn - read.astype(int)).max() <= 1
    assert np.mean(drawn != read) < 0.02
    decision = int(decided(ncg, drawn[None].astype(np.uint8))[0])
    assert browser.find_element("id", "decision").text == str(decision)


def test_drawings_are_dark_on_light_where_pictures_are(browser, ncg, pictures, tmp_path):
    path = tmp_path / "light.html"
    path.write_text(page.page_of(ncg, 255 - pictures[0][:2], pictures[1][:2]))
    browser.get(path.as_uri())
    drawn = browser.execute_script("""
      clear();
      sheet.drawn = true;
      sheet.stroke = [40, 60];
      drawTo([40, 200]);
      endStroke();
      return [...state.picture];
    """)
    drawn = np.reshape(drawn, (28, 28))
    assert (drawn.min(), np.median(drawn)) == (0, 255)
    rows, columns = np.nonzero(drawn < 128)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 20, 3, 4)  # where it is, neither scaled


NEAR_THE_SHEET = ("sheet", "decision", "undo", "result")


def test_decision_is_beside_the_sheet_on_a_phone(browser, file):
    size = dict(width=390, height=844, deviceScaleFactor=2, mobile=True)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(file)
    sheet, decision, result = (browser.find_element("id", name).rect for name in ("sheet", "decision", "result"))
    assert decision["x"] >= sheet["x"] + sheet["width"]
    assert decision["y"] < sheet["y"] + sheet["height"]
    assert result["y"] < sheet["y"] + sheet["height"] + 100
    play = browser.find_element("id", "play")
    assert play.is_enabled()
    browser.find_element("id", "clear").click()
    assert not play.is_enabled()


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_no_page_scrolls_sideways(browser, file, width):
    size = dict(width=width, height=900, deviceScaleFactor=2, mobile=width < 500)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(file)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_files_and_the_camera_are_decided_in_colour(browser, tmp_path):
    data = in_colour(images()).subset(None, 3)
    network = made(ramps, Pixels(60), data)
    path = tmp_path / "colour.html"
    path.write_text(page.page_of(network, data.test_images, data.test_labels))
    browser.get(path.as_uri())
    pixels = np.random.default_rng(0).integers(0, 256, (70, 121, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    browser.find_element("id", "file").send_keys(str(tmp_path / "picture.png"))
    until(browser, "state.label === -1")
    expected, _ = read_picture(tmp_path / "picture.png", (26, 28, 3))
    assert np.array_equal(browser.execute_script("return [...state.picture]"), expected.ravel())
    assert browser.find_element("id", "decision").text == str(decided(network, expected[None])[0])
    (tmp_path / "other.png").write_text("no picture")
    browser.find_element("id", "file").send_keys(str(tmp_path / "other.png"))
    until(browser, "document.getElementById('source').textContent !== ''")
    assert browser.find_element("id", "source").text == "other.png is not a picture that this browser can read."
    for event in ("DragEvent('drop', { dataTransfer: held })", "ClipboardEvent('paste', { clipboardData: held })"):
        browser.find_element("css selector", "#samples button").click()
        browser.execute_script(f"{HOLD} dispatchEvent(new {event});", [*(tmp_path / "picture.png").read_bytes()])
        until(browser, "state.label === -1")
        assert np.array_equal(browser.execute_script("return [...state.picture]"), expected.ravel())
    browser.find_element("id", "camera").click()
    seen = browser.execute_script("return state.picture.join()")
    until(browser, f"state.picture.join() !== '{seen}'")
    assert browser.find_element("id", "camera").get_attribute("aria-pressed") == "true"
    assert browser.find_element("id", "result").text.startswith("Decided for")
    browser.find_element("css selector", "#samples button").click()
    assert browser.execute_script("return camera.stream === null && state.label") == data.test_labels[0]
    browser.execute_script(
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); }"
    )
    browser.find_element("id", "camera").click()
    until(browser, "document.getElementById('source').textContent !== ''")
    assert browser.find_element("id", "source").text.startswith("There is no camera (NotAllowedError).")
    assert browser.find_element("id", "camera").get_attribute("aria-pressed") == "false"


LEAVE = "return !dispatchEvent(new Event('beforeunload', { cancelable: true }));"
CLASSES = ("nought", "one", "two", "three", "four")


@pytest.fixture(scope="module")
def drawings():
    """Ten test pictures of each of five digits of MNIST, in a random order."""
    beside = pathlib.Path(__file__).parents[2] / "shared"
    folder = pathlib.Path(os.environ.get("SNNJAX_SHARED", beside)) / "mnist"
    if not folder.exists():
        pytest.skip("no MNIST: set SNNJAX_SHARED to a folder with mnist")
    data = load("mnist", folder)
    order = np.concatenate([np.flatnonzero(data.test_labels == label)[:10] for label in range(len(CLASSES))])
    order = np.random.default_rng(0).permutation(order)
    rest = np.setdiff1d(np.flatnonzero(data.test_labels < len(CLASSES)), order)[:40]
    drawn = dataclasses.replace(data, test_images=data.test_images[order], test_labels=data.test_labels[order])
    return drawn, data.test_images[rest], data.test_labels[rest]


@pytest.fixture(scope="module")
def lesson_file(ncg, drawings, tmp_path_factory):
    """The page on which the features of the network are taught, with fifty drawings."""
    path = tmp_path_factory.mktemp("teach") / "teach.html"
    path.write_text(taught(ncg, drawings[0], centred=True)[0])
    return path.as_uri()


def text_of(browser, name):
    return browser.find_element("id", name).text


def name_classes(browser, names):
    from selenium.webdriver.common.keys import Keys

    field = browser.find_element("id", "name")
    for name in names:
        field.clear()
        field.send_keys(name, Keys.ENTER)


def teach(browser, picture, label):
    """Picks a picture and presses a class, both by number."""
    browser.find_elements("css selector", "#samples button")[picture].click()
    browser.find_elements("css selector", ".teach")[label].click()


def test_fifty_drawings_are_learned_and_saved(browser, lesson_file, drawings, tmp_path, capsys):
    data, others, their_labels = drawings
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", dict(behavior="allow", downloadPath=str(tmp_path)))
    browser.get(lesson_file)
    assert browser.find_elements("css selector", "#classes li") == []
    name_classes(browser, CLASSES)
    pictures = browser.find_elements("css selector", "#samples button")
    classes = browser.find_elements("css selector", ".teach")
    for picture, label in zip(pictures, data.test_labels, strict=True):
        picture.click()
        classes[label].click()
        assert text_of(browser, "result").startswith(f"Learned as {CLASSES[label]} in ")
    right = browser.execute_script("return state.lesson.right")
    assert len(right) == 50
    assert not right[0]
    assert np.mean(right[25:]) >= 0.75
    assert text_of(browser, "accuracy").endswith(
        f"{sum(right[40:])} of the last 10 ({10 * sum(right[40:])} %), of 50 in all."
    )
    browser.find_element("id", "save").click()
    path = tmp_path / "goupy2024_ncg_taught.npz"
    until(browser, "document.getElementById('problem').textContent.startsWith('Saved')")
    wait_for(browser, path.exists)
    network = snnjax.load(path)
    assert network.class_names == CLASSES
    pictures = np.concatenate([data.test_images, others])
    decide = "return arguments[0].map((x) => decideBy(state.lesson, inputsOf(network, x)).decision);"
    assert np.array_equal(browser.execute_script(decide, pictures.reshape(90, -1).tolist()), network(pictures))
    tested = dict(test_images=others, test_labels=their_labels)
    np.savez(tmp_path / "set.npz", train_images=others, train_labels=their_labels, **tested)
    Command("evaluate").main([path, "--dataset", tmp_path / "set.npz", "--out", tmp_path / "results.json"])
    accuracy = json.loads((tmp_path / "results.json").read_text())["accuracy"]
    assert accuracy == pytest.approx(np.mean(np.asarray(network(others)) == their_labels))
    assert accuracy > 0.75
    browser.get(lesson_file)
    browser.find_element("id", "lesson").send_keys(str(tmp_path / "set.npz"))
    until(browser, "document.getElementById('problem').textContent !== ''")
    assert text_of(browser, "problem") == "set.npz is not a network that was taught on this page."
    browser.find_element("id", "lesson").send_keys(str(path))
    until(browser, "state.lesson.classes.length === 5")
    assert browser.execute_script("return state.lesson.right") == right
    assert np.array_equal(browser.execute_script(decide, others.reshape(40, -1).tolist()), network(others))


def test_lessons_by_keyboard(browser, lesson_file, drawings):
    """Names, a taught picture, weights that light up, forgetting, undoing."""
    from selenium.webdriver.common.keys import Keys

    labels = drawings[0].test_labels
    browser.get(lesson_file)
    assert text_of(browser, "result") == "Name a class to begin, or several."
    name_classes(browser, ["a", "a", " ", "(silent)"])
    assert text_of(browser, "problem") == "Use a name of plain characters."
    name_classes(browser, ["b"])
    assert browser.execute_script("return namesOf(state.lesson)") == '["a","b"]'
    first = int(np.flatnonzero(labels == 0)[0])
    browser.find_elements("css selector", "#samples button")[first].send_keys(Keys.ENTER)
    button = browser.find_element("css selector", ".teach")
    button.send_keys(Keys.ENTER)
    assert text_of(browser, "result").endswith("Before that it had not decided.")
    assert text_of(browser, "decision") == "a"
    assert browser.switch_to.active_element == button
    assert len(browser.find_elements("css selector", "#classes li:first-child .changes")) == 5
    assert browser.find_elements("css selector", "#classes li:last-child .changes") == []
    button.send_keys(Keys.ENTER)
    assert text_of(browser, "result").startswith("It has already learned this picture.")
    teach(browser, int(np.flatnonzero(labels == 1)[0]), 1)
    teach(browser, int(np.flatnonzero(labels == 1)[1]), 1)
    after = browser.execute_script("return state.lesson")
    browser.find_element("css selector", ".forget").send_keys(Keys.ENTER)
    assert browser.execute_script("return namesOf(state.lesson)") == '["b"]'
    undo = browser.find_element("id", "undo")
    assert browser.switch_to.active_element == undo
    undo.send_keys(Keys.ENTER)
    assert text_of(browser, "result") == "Undone: a forgotten."
    assert browser.execute_script("return state.lesson") == after
    assert browser.execute_script(LEAVE)  # the browser asks before what is not saved is lost
    for _ in range(5):
        assert undo.is_enabled()
        undo.send_keys(Keys.ENTER)
    assert not undo.is_enabled()
    assert float(undo.value_of_css_property("opacity")) < 0.7
    assert not browser.execute_script(LEAVE)
    assert browser.execute_script("return state.lesson") == dict(length=0, classes=[], right=[])


def test_a_stroke_after_a_lesson_begins_another_drawing(browser, lesson_file):
    browser.get(lesson_file)
    name_classes(browser, "l")
    ink = """
      const point = (type, x, y) => sheet.canvas.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y }));
      const { left, top } = sheet.canvas.getBoundingClientRect();
      sheet.canvas.setPointerCapture = () => {};
      const [x, from, to] = arguments;
      point("pointerdown", left + x, top + from);
      point("pointermove", left + x, top + to);
      point("pointerup", left + x, top + to);
      const { data } = sheet.pen.getImageData(0, 0, 280, 280);
      return data.filter((value, index) => index % 4 === 3 && value > 0).length;
    """
    one = browser.execute_script(ink, 60, 60, 180)
    assert browser.execute_script(ink, 160, 60, 180) == pytest.approx(2 * one, rel=0.05)
    browser.find_element("css selector", ".teach").click()
    assert browser.execute_script("return state.lesson.right.length") == 1
    assert browser.execute_script(ink, 60, 60, 180) == one


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_of_a_lesson_on_a_phone(browser, lesson_file, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", dict(features=[dict(name="prefers-color-scheme", value=scheme)])
    )
    size = dict(width=390, height=844, deviceScaleFactor=2, mobile=True)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(lesson_file)
    name_classes(browser, ["a", "a class with a long name, or several words"])
    teach(browser, 0, 1)
    sheet, decision, undo, result = (browser.find_element("id", name).rect for name in NEAR_THE_SHEET)
    assert decision["x"] >= sheet["x"] + sheet["width"]
    assert decision["y"] < sheet["y"] + sheet["height"]
    assert undo["x"] >= sheet["x"] + sheet["width"]
    assert undo["y"] < sheet["y"] + sheet["height"] + 60
    classes = browser.find_element("id", "classes").rect
    assert max(result["y"], classes["y"] + classes["height"]) - sheet["y"] < 844  # one can see all of them at once
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    pixels = browser.execute_script("""
      const canvas = document.querySelector(".decided .strength");
      return [...canvas.getContext("2d").getImageData(1, canvas.height / 2, 1, 1).data];
    """)
    assert pixels == ([226, 113, 29, 255] if scheme == "light" else [255, 154, 74, 255])


def test_pictures_in_colour_are_taught(browser, tmp_path):
    data = in_colour(images()).subset(None, 3)
    path = tmp_path / "colour.html"
    path.write_text(taught(made(ramps, Pixels(60), data), data)[0])
    browser.get(path.as_uri())
    name_classes(browser, ["a", "b"])
    teach(browser, 0, 0)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 121, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    browser.find_element("id", "file").send_keys(str(tmp_path / "picture.png"))
    until(browser, "!state.learned")
    browser.find_elements("css selector", ".teach")[1].click()
    assert text_of(browser, "decision") == "b"
    browser.find_element("id", "camera").click()
    until(browser, "camera.video.videoWidth > 0 && !state.learned")
    browser.find_element("css selector", ".teach").click()
    assert browser.execute_script("return state.lesson.right.length") == 3
    assert browser.find_element("id", "camera").get_attribute("aria-pressed") == "true"
