"""Networks as estimators of scikit-learn: they do what `Trainer` does, and keep scikit-learn's contract."""

import dataclasses
import pickle
import warnings

import numpy as np
import pytest
import tiny
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import snnjax
from snnjax import (
    ImageSpec,
    InputError,
    Network,
    Settings,
    SpikingClassifier,
    SpikingFeatures,
    SupervisedSTDP,
    Trainer,
    stage,
)
from snnjax.data import Dataset
from snnjax.data.pictures import enlarged
from snnjax.encoding import Pixels
from snnjax.layers.conv import Conv
from snnjax.networks import Earliest, LinearSVM

DATA = tiny.images()
X = DATA.train_images
BYTES = X.astype(np.uint8)
Y = DATA.train_labels
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
CORNER = np.arange(784).reshape(28, 28) == 0
TRAINED: dict[str, SpikingClassifier] = {}


def classifier(**given) -> SpikingClassifier:
    """Learns from all images, as other tests do, whose programs it shares."""
    return SpikingClassifier(**dict(network=tiny.labelled, validation_fraction=0) | given)


@pytest.fixture
def trained() -> SpikingClassifier:
    if not TRAINED:
        TRAINED["labelled"] = classifier().fit(X, Y)
    return TRAINED["labelled"]


@pytest.mark.parametrize("held_out", [0, 0.25])
def test_fit_is_a_training_whose_best_epoch_is_chosen_without_test_images(held_out):
    model = classifier(validation_fraction=held_out, random_state=3).fit(X, Y)
    data = Dataset("X", X, Y, X, Y)
    if held_out:
        data = data.hold_out(held_out, seed=0)
    network = tiny.labelled(ImageSpec.of(data))
    trainer = Trainer(network, data, dataclasses.replace(Settings.of(network, data), seed=3))
    state = trainer.run(trainer.initial_state())
    expected = trainer.trained(state).weights()
    for name, weights in model.network_.weights().items():
        np.testing.assert_array_equal(weights, expected[name], name)
    part = "validation" if held_out else "test"
    assert model.validation_scores_ == [record[part]["accuracy"] for record in state.epochs]
    decisions, scores = trainer.predict(state, DATA.test_images)
    np.testing.assert_array_equal(model.predict(DATA.test_images), decisions)
    np.testing.assert_array_equal(model.decision_function(DATA.test_images), scores)


def test_any_number_of_images(trained, monkeypatch):
    expected = trained.predict(X)
    monkeypatch.setitem(snnjax.core.devices.BATCH_SIZES, "cpu", 8)  # 16 on the two devices of the tests
    for count in (1, 3, 16, 17, 40):
        np.testing.assert_array_equal(trained.predict(X[:count]), expected[:count])
        np.testing.assert_array_equal(trained.predict(X[-count:]), expected[-count:])


@pytest.mark.parametrize("labels", [NAMES, NAMES.astype(object), 7 - 3 * np.arange(10), np.arange(10.0)], ids=str)
def test_labels_are_of_any_kind(labels, trained, tmp_path):
    y = labels[Y]
    model = classifier().fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    assert model.predict(X).dtype == y.dtype
    assert model.decision_function(X).shape == (40, 10)
    model.save(tmp_path / "model.npz")
    loaded = SpikingClassifier.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.classes_, model.classes_, strict=True)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X), strict=True)
    assert snnjax.load(tmp_path / "model.npz").class_names == tuple(map(str, model.classes_))
    if labels.dtype.kind == "f":  # in the order of the classes
        np.testing.assert_array_equal(model.predict(X), trained.predict(X))


def test_two_classes_have_one_score():
    model = classifier().fit(X, Y > 4)
    scores = model.decision_function(X)
    assert scores.shape == (40,)
    np.testing.assert_array_equal(model.predict(X), scores > 0)
    assert model.score(X, Y > 4) > 0.5


@pytest.mark.parametrize(
    ("images", "given"),
    [
        (BYTES.tolist(), {}),
        (BYTES / 255, {}),
        (BYTES * 257.0, dict(largest=65535)),
        (BYTES.reshape(40, -1), dict(image_shape=(28, -1))),
        (BYTES.reshape(40, -1), {}),
    ],
    ids=["lists", "0..1", "16 bits", "rows", "rows of squares"],
)
def test_pixels_of_any_range(images, given):
    model = classifier(**given).fit(images, Y)
    np.testing.assert_array_equal(model.decision_function(images), classifier().fit(BYTES, Y).decision_function(BYTES))


def test_white_is_the_largest_pixel_where_it_is_neither_1_nor_255():
    with pytest.warns(UserWarning, match="`largest` is taken to be 16, the largest pixel of `X`: give the value"):
        model = classifier().fit(BYTES / 255 * 16, Y)
    assert model.largest_ == 16
    expected = classifier().fit(BYTES / 255, Y).predict(BYTES / 255)
    np.testing.assert_array_equal(model.predict(BYTES / 255 * 16), expected)


def test_rounding_of_a_scaler_is_clipped_and_so_are_a_few_pixels_beyond_the_training_images():
    images = (BYTES / 255.0).reshape(40, -1)
    rounded = images.copy()
    rounded[images == 1] = np.nextafter(1, 2)
    rounded[images == 0] = -1e-9
    for given in ({}, dict(largest=1)):
        with warnings.catch_warnings(action="error"):
            model = classifier(**given).fit(rounded, Y)
            scores = model.decision_function(rounded)
    expected = classifier().fit(images, Y).decision_function(images)
    np.testing.assert_array_equal(scores, expected)
    rounded[:, 400] = 2
    rounded[:, 0] = -3
    images[:, 400] = 1
    with pytest.warns(UserWarning, match=r"^80 of 31,360 pixels of `X` are clipped to 0\.\.1, the range of"):
        scores = model.decision_function(rounded)
    np.testing.assert_array_equal(scores, model.decision_function(images))
    model = make_pipeline(MinMaxScaler(), classifier()).fit(X[:30].reshape(30, -1), Y[:30])
    with pytest.warns(UserWarning, match="clipped"):
        assert model.predict(X.reshape(40, -1)).shape == (40,)


SMALL = BYTES[:, 2:26:3, 2:26:3]  # 8x8


@pytest.mark.parametrize("kind", [classifier, lambda **given: SpikingFeatures(**dict(network=tiny.labelled) | given)])
def test_small_images_are_enlarged_as_those_of_the_digits(kind, tmp_path):
    large = enlarged(SMALL)
    expected = kind().fit(large, Y)
    respond = "decision_function" if kind is classifier else "transform"
    rows = SMALL.reshape(40, 64)
    for images, given in [(SMALL, {}), (rows, {}), (rows, dict(image_shape=(8, 8)))]:
        model = kind(largest=255, **given).fit(images, Y)
        assert (model.image_shape_, model.n_features_in_, model.enlarged_) == ((8, 8), 64, True)
        np.testing.assert_array_equal(getattr(model, respond)(images), getattr(expected, respond)(large))
    model = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(getattr(model, respond)(SMALL), getattr(expected, respond)(large))
    assert not expected.enlarged_
    with pytest.raises(ValueError, match="images of X are 8 high, 8 wide: take a larger"):
        kind(largest=255, enlarge=False).fit(SMALL, Y)


def test_a_saved_classifier_enlarges_images(tmp_path):
    model = classifier().fit(SMALL, Y)
    model.save(tmp_path / "model.npz")
    loaded = SpikingClassifier.load(tmp_path / "model.npz")
    assert (loaded.image_shape_, loaded.n_features_in_, loaded.enlarged_) == ((8, 8), 64, True)
    expected = model.decision_function(SMALL)
    np.testing.assert_array_equal(loaded.decision_function(SMALL), expected)
    np.testing.assert_array_equal(snnjax.load(tmp_path / "model.npz").scores(enlarged(SMALL)), expected)
    np.testing.assert_array_equal(clone(loaded).fit(SMALL, Y).decision_function(SMALL), expected)
    loaded.partial_fit(SMALL, Y)
    large = classifier().fit(enlarged(SMALL), Y).partial_fit(enlarged(SMALL), Y)
    np.testing.assert_array_equal(loaded.decision_function(SMALL), large.decision_function(enlarged(SMALL)))


@pytest.mark.parametrize("kind", [classifier, SpikingFeatures])
@pytest.mark.parametrize("time_steps", [15, 10])
@pytest.mark.parametrize("side", [8, 28])
def test_a_network_gets_small_images_of_the_size_that_it_is_made_for(side, time_steps, kind):
    last = Conv(20, kernel=side, threshold=8, weight_mean=0.5, learners=SupervisedSTDP())
    decision = Earliest(fallback=True)
    network = Network("small", (6, side, side), 10, (stage(last),), time_steps, decision=decision, epochs=(1,))
    model = kind(network=network).fit(SMALL, Y)
    assert model.enlarged_ == (side == 28)
    assert model.network_.network.input_shape == (6, side, side)
    assert model.network_.network.time_steps == time_steps


@pytest.mark.parametrize(
    ("images", "y", "given", "words"),
    [
        (X, Y, dict(largest=100), r"`X` must hold pixels of 0\.\.100, got values up to 255: scale X"),
        (X, Y, dict(largest=-1), r"`largest` must be finite and above 0, got -1"),
        (
            X - 1,
            Y,
            {},
            "Negative values in data passed to SpikingClassifier: `X` must .* from 0, which is black, got -1",
        ),
        (np.where(CORNER, -2, X), Y, {}, "Negative values .* got -2: scale X"),
        (
            np.where(np.arange(28) == 0, 20, X / 16),
            Y,
            dict(largest=16),
            r"`X` must hold pixels of 0\.\.16, got .* up to 20",
        ),
        (X / 50 - 1, Y, {}, r"Negative values .*: `X` must hold pixels from 0, which is black, got -1: scale X$"),
        (X.reshape(40, -1)[:, 1:], Y, {}, r"`image_shape` must be \(H, W\).*got None for 783 pixels"),
        (X.reshape(40, -1), Y, dict(image_shape=(9, 9)), r"`image_shape` must be .* got \(9, 9\)"),
        (X[..., None], Y, {}, r"The shape of images in `X` must be .*, got \(28, 28, 1\)"),
        (X, Y * 0, {}, "`y` must hold at least 2 classes, got one class: 0"),
        (X, Y, dict(network="goupy2024_ncf"), "`network` must be one of .* did you mean 'goupy2024_ncg'"),
        (X, Y, dict(network=3), "`network` must be a name of snnjax.NETWORKS"),
        (X, Y, dict(hyperparameters={"layer9.threshold": 1}), "layer9.threshold"),
        (X, Y, dict(validation_fraction=1), "`validation_fraction` must be finite and at least 0 and below 1, got 1"),
        (
            X,
            Y,
            dict(validation_fraction=-0.1),
            "`validation_fraction` must be finite and at least 0 and below 1, got -0.1",
        ),
        (
            X[:10],
            np.arange(10),
            dict(validation_fraction=0.1),
            "`validation_fraction` .* a class must have at least 2 training images",
        ),
    ],
)
def test_wrong_input_is_refused(images, y, given, words):
    with pytest.raises(ValueError, match=words):
        classifier(**given).fit(images, y)


def test_other_images_than_those_of_the_training_are_refused(trained):
    with pytest.raises(InputError, match=r"pixels of 0\.\.255, got values up to 1: scale X"):
        trained.predict(X / 255)
    with pytest.raises(InputError, match=r"`shape` of images in `X` must be \(28, 28\), got \(14, 56\)"):
        trained.predict(X.reshape(40, 14, 56))
    with pytest.raises(NotFittedError):
        classifier().predict(X)
    sixteen = classifier(largest=16).fit(X / 16, Y)
    with pytest.warns(UserWarning, match=r"`X` must hold pixels of 0\.\.16, got values up to 1.*that dark"):
        sixteen.predict(X / 255)


def test_silence_is_the_first_class_and_noticed():
    model = classifier(network=tiny.plain).fit(X, NAMES[Y])
    with pytest.warns(UserWarning, match=r"silent for 3 of 3 images: they get the first class, eight"):
        assert model.predict(np.zeros((3, 28, 28), np.uint8)).tolist() == ["eight"] * 3


def test_copies(trained, tmp_path):
    expected = trained.decision_function(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(trained)).decision_function(X), expected)
    named = classifier(hyperparameters={"layer1.threshold": np.float64(15)}, epochs=(2, 3)).fit(X, Y)
    named.save(tmp_path / "model.npz")
    loaded = SpikingClassifier.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.decision_function(X), expected)
    assert loaded.get_params() == named.get_params() | dict(network=named.network_.untrained)
    np.testing.assert_array_equal(clone(loaded).fit(X, Y).decision_function(X), expected)
    pretrained = SpikingClassifier.load("pretrained:goupy2024_ncg_mnist")
    np.testing.assert_array_equal(pretrained.classes_, np.arange(10))
    assert pretrained.score(X, Y) > 0.4
    with pytest.raises(FileNotFoundError):
        SpikingClassifier.load(tmp_path / "none")


@pytest.mark.slow
def test_searches_and_cross_validation():
    y = Y % 2
    scores = cross_val_score(classifier(), X, y, cv=2)
    assert (scores > 0).all()
    grid = dict(spikingclassifier__hyperparameters=[{"layer1.threshold": 15}, {"layer1.threshold": 5000.0}])
    search = GridSearchCV(make_pipeline("passthrough", classifier()), grid, cv=2, error_score="raise")
    with pytest.warns(UserWarning, match="silent"):
        search.fit(X, y)
    assert search.best_params_["spikingclassifier__hyperparameters"] == {"layer1.threshold": 15}


@pytest.mark.parametrize("network", [tiny.labelled, tiny.branches])
def test_features_are_those_of_the_trainer_and_need_no_labels(network):
    features = SpikingFeatures(network).fit(X)
    made = features.transform(X)
    data = Dataset("X", X, Y, X, Y)
    described = network(ImageSpec.of(data))
    trainer = Trainer(described, data, dataclasses.replace(Settings.of(described, data), backend="native"))
    trained = trainer.trained(trainer.run(trainer.initial_state()))
    number = described.first_supervised
    assert made.dtype == np.float32
    assert features.get_feature_names_out().shape == made.shape[1:]
    for image, row in zip(X[:3], made, strict=False):
        expected = 1 - np.asarray(trained.features(image, number)).ravel() / np.float32(described.time_steps)
        np.testing.assert_array_equal(row, expected)


def test_features_in_front_of_a_classifier():
    model = make_pipeline(SpikingFeatures(tiny.labelled), LogisticRegression(max_iter=1000)).fit(X, NAMES[Y])
    assert model.score(X, NAMES[Y]) > 0.7


def test_progress_is_printed_when_asked_for(capsys):
    classifier().fit(X, Y)
    assert capsys.readouterr().out == ""
    classifier(verbose=True).fit(X, Y)
    printed = capsys.readouterr().out
    assert "STDP layer1: 80 images in " in printed
    assert "epoch 3: accuracy " in printed


def points(images: ImageSpec) -> Network:
    """A linear machine on the latencies of pixels: scikit-learn's checks have a few numbers in place of an image."""
    shape = POINTS.output_shape(images.shape)
    stages = (stage(inputs="encoder"),)
    decision = LinearSVM(C=100, tolerance=1e-4, iterations=1000)
    return Network("points", shape, images.classes, stages, POINTS.time_steps, encoder=POINTS, decision=decision)


POINTS = Pixels(1000)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [classifier, SpikingFeatures])
@pytest.mark.slow
def test_contract_of_scikit_learn(kind):
    estimator = kind(network=points, image_shape=(1, -1), enlarge=False)
    names = []
    for checked, check in estimator_checks_generator(estimator):
        names.append(getattr(check, "func", check).__name__)
        try:
            check(checked)
        except Exception as error:
            if type(error).__name__ != "SkipTest":  # of what is not installed
                raise AssertionError(names[-1]) from error
    assert len(names) > 45
