"""`SpikingClassifier.partial_fit`: it learns as a stream does, begins networks, and adds classes."""

import pickle

import numpy as np
import pytest
import tiny
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

import snnjax
from snnjax import ImageSpec, InputError, Network, SpikingClassifier, Stream, SupervisedSTDP, stage
from snnjax.encoding import Pixels
from snnjax.kernels import use_backend
from snnjax.layers.conv import Conv
from snnjax.networks import Earliest, LinearSVM

DATA = tiny.images()
X = DATA.train_images
Y = DATA.train_labels
NAMES = np.array([f"class {label}" for label in range(10)])


def classifier(**given) -> SpikingClassifier:
    return SpikingClassifier(**dict(network=tiny.labelled, validation_fraction=0) | given)


def test_a_fitted_classifier_goes_on_as_a_stream(tmp_path):
    model = classifier().fit(X, Y)
    features = model.network_.weights()["layer1"]
    stream = Stream(model.network_)
    _, state = stream.learn(stream.init(), X, Y)
    expected = stream.network(state).weights()
    for part in (slice(0, 16), slice(16, 40)):
        model.partial_fit(X[part], Y[part])
        model = pickle.loads(pickle.dumps(model))
    for name, weights in model.network_.weights().items():
        np.testing.assert_array_equal(weights, expected[name])
    np.testing.assert_array_equal(features, expected["layer1"])
    model.save(tmp_path / "model.npz")
    loaded = SpikingClassifier.load(tmp_path / "model.npz").partial_fit(X[:16], Y[:16])
    assert not np.array_equal(loaded.network_.weights()["layer2"], expected["layer2"])


def test_a_new_classifier_begins_with_features_of_the_first_images():
    names = np.array([f"class {label}" for label in Y])
    model = classifier().partial_fit(X[:16], names[:16], classes=np.unique(names))
    features = classifier().fit(X[:16], np.arange(16) % 10).network_.weights()["layer1"]
    np.testing.assert_array_equal(model.network_.weights()["layer1"], features)
    model.partial_fit(X[16:], names[16:])
    np.testing.assert_array_equal(model.network_.weights()["layer1"], features)
    assert model.network_.class_names == tuple(np.unique(names))
    assert not hasattr(clone(model), "network_")


def test_new_labels_grow_the_readout():
    names = np.array([f"class {label}" for label in Y])
    known = Y % 2 == 1
    model = classifier().fit(X[known], names[known])
    before = model.network_.weights()
    with pytest.warns(UserWarning, match="readout of labelled forgets classes .* begin with network='ncg_prototypes'"):
        model.partial_fit(X[:2], ["class 0", "class 1"])
    assert model.classes_.tolist() == ["class 0", *np.unique(names[known])]
    assert model.network_.class_names == tuple(model.classes_)
    after = model.network_.weights()
    np.testing.assert_array_equal(after["layer1"], before["layer1"])
    per_class = len(before["layer2"]) // 5
    kept = (after["layer2"][per_class:] == before["layer2"]).all(axis=(1, 2, 3))
    assert kept.any()  # neurons that did not learn from the two images are as they were
    loaded = clone(model).fit(X[known], names[known])
    with pytest.warns(UserWarning, match="forgets"):
        loaded.partial_fit(X[:1], ["class 1"], classes=["class 0"])
    new = loaded.network_.weights()["layer2"][:per_class]
    assert not np.array_equal(new, before["layer2"][:per_class])


def test_the_memory_stays_when_there_are_new_labels():
    names = np.array([f"class {label}" for label in Y])
    known = Y % 2 == 1
    model = classifier(memory=4, replays=2).fit(X[known], names[known]).partial_fit(X[known], names[known])
    _, before = model._earlier()
    model.partial_fit(X[:1], ["class 0"])
    _, after = model._earlier()
    assert before.counts.sum() == known.sum()
    assert after.counts.tolist() == [1, *before.counts]
    np.testing.assert_array_equal(after.inputs[1:], before.inputs)


@pytest.mark.parametrize(
    ("classes", "many", "begun"), [(None, 16, "plain"), (np.arange(10), 17, "plain"), (np.arange(10), 16, "labelled")]
)
def test_a_network_is_chosen_by_the_number_of_images_and_whether_classes_may_be_added(
    classes, many, begun, monkeypatch
):
    monkeypatch.setitem(snnjax.networks.NETWORKS, "ncg_prototypes", tiny.plain)
    monkeypatch.setitem(snnjax.networks.NETWORKS, "goupy2024_ncg", tiny.labelled)
    monkeypatch.setattr(snnjax.estimators.classifier, "MANY", many)
    model = classifier(network=None)
    assert model.partial_fit(X[:16], Y[:16], classes).network_.network.name == begun
    assert clone(model).fit(X, Y).network_.network.name == "labelled"


def pickled(model: SpikingClassifier, folder) -> SpikingClassifier:
    return pickle.loads(pickle.dumps(model))


def saved(model: SpikingClassifier, folder) -> SpikingClassifier:
    model.save(folder / "model.npz")
    return SpikingClassifier.load(folder / "model.npz")


@pytest.mark.parametrize("copied", [pytest.param(pickled, marks=pytest.mark.slow), saved])
def test_memory_and_learners_go_on_from_call_to_call(copied, tmp_path):
    model = classifier(network=tiny.plain, memory=4, replays=2).fit(X, Y)
    stream = Stream(model.network_, memory=4, replays=2)
    _, state = stream.learn(stream.init(), X, Y)  # 120 images with those replayed: rates adapt after 100
    for part in (slice(0, 20), slice(20, 36), slice(36, 40)):
        model = copied(model.partial_fit(X[part], Y[part]), tmp_path)
    np.testing.assert_array_equal(model.network_.weights()["layer2"], stream.network(state).weights()["layer2"])


@pytest.mark.parametrize(
    "backends", [("native", "xla"), pytest.param(("xla", "native"), marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("copied", [pytest.param(pickled, marks=pytest.mark.slow), saved])
@pytest.mark.filterwarnings("ignore:the network stays silent")
def test_copies_go_on_with_another_back_end(copied, backends, compiler, tmp_path):
    with use_backend(backends[0]):
        model = classifier(network=tiny.plain, memory=4, replays=2).fit(X, Y).partial_fit(X[:20], Y[:20])
        written = copied(model, tmp_path)
        expected = model.partial_fit(X[20:], Y[20:]).network_.weights()["layer2"]
    with use_backend(backends[1]):
        written = copied(written, tmp_path).partial_fit(X[20:], Y[20:])
    np.testing.assert_array_equal(written.network_.weights()["layer2"], expected)
    np.testing.assert_array_equal(written.predict(X), model.predict(X))


def test_a_refused_fit_changes_nothing():
    model = classifier(memory=4, replays=2, enlarge=False).fit(X, Y).partial_fit(X, Y)
    before = dict(vars(model))
    small = X[:, :8, :8]
    for images, labels, words in [
        (small, Y * 0, "`y` must hold at least 2 classes"),
        (small - 1, Y, "Negative values"),
        (small, Y, "the kernel must fit into the map"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.fit(images, labels)
        assert vars(model) == before
    model.partial_fit(X, Y)
    new = classifier()
    with pytest.raises(ValueError, match="`y` must hold at least 2 classes"):
        new.fit(X, Y * 0)
    with pytest.raises(NotFittedError):
        new.predict(X)


def test_a_refused_call_changes_nothing():
    new = classifier()
    parameters = dict(vars(new))
    refusals = [
        (dict(y=Y[:9], classes=np.arange(10)), "must hold at least 10 images, got 9"),
        (dict(y=Y[:9] * 0), "`classes` must hold at least 2 classes"),
        (dict(y=Y[:9], classes=["one", "two"]), "`classes` must hold labels like 1 of int32, got 'one' of <U3"),
        (dict(y=Y[:9], classes=[0.5, 1]), "Unknown label type"),
    ]
    for given, words in refusals:
        with pytest.raises(ValueError, match=words):
            new.partial_fit(X[:9], **given)
        assert vars(new) == parameters
    model = new.partial_fit(X[:16], Y[:16], classes=np.arange(10))
    for given, words in [
        (dict(X=X[:1, :5], y=[1]), r"`shape` of images in `X` must be \(28, 28\), got \(5, 28\)"),
        (dict(X=X[:1], y=["x"]), "`y` must hold labels like 0 of int64, got 'x' of <U1"),
        (dict(X=X[:1], y=[11], classes=["x"]), "`classes` must hold labels like 0 of int64, got 'x' of <U1"),
    ]:
        before = dict(vars(model))
        with pytest.raises(ValueError, match=words):
            model.partial_fit(**given)
        assert vars(model) == before
    with pytest.raises(ValueError, match="`replays` must be at least 1 with a `memory`"):
        model.set_params(memory=2).partial_fit(X[:16], Y[:16])
    model.set_params(replays=1).partial_fit(X[:16], Y[:16])
    before = dict(vars(model.set_params(memory=3)))
    names = model.network_.class_names
    with pytest.raises(ValueError, match="`memory` must be 2, got 3: it must stay as in earlier calls"):
        model.partial_fit(X[:1], [11])
    assert vars(model) == before
    assert model.network_.class_names == names
    assert not hasattr(classifier(network="kheradpisheh2018"), "partial_fit")


def decided_by_an_svm(images: ImageSpec) -> Network:
    if images.count > 100:
        raise InputError("made for few images")
    features = stage(tiny.FIRST, pool=7)
    return Network("by_svm", images.input_shape, images.classes, (features,), decision=LinearSVM(), epochs=(1,))


def test_a_network_without_a_readout_is_refused_before_it_learns(capsys):
    model = classifier(network=decided_by_an_svm, verbose=True)
    with pytest.raises(ValueError, match="`network` must have layers that learn from labels, got one"):
        model.partial_fit(X[:16], Y[:16], classes=np.arange(10))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("known", "new"),
    [
        (np.arange(10), np.array([11], np.uint64)),
        (np.arange(10, dtype=np.uint64), np.array([11])),
        (np.arange(10, dtype=np.int8), np.array([1000])),
        (np.arange(10, dtype=np.uint8), np.array([300])),
        (np.arange(10, dtype=np.uint8), np.array([-1])),
        (np.arange(10, dtype=np.int16), np.array([40_000], np.uint32)),
        (np.arange(10, dtype=np.uint8), np.array([300.0])),
        (np.arange(10), np.array([11.0])),
        (NAMES, np.array(["a longer name"], object)),
        (NAMES.astype(object), np.array(["a longer name"])),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:the readout")
def test_classes_keep_their_type(known, new):
    model = classifier().fit(X, known[Y]).partial_fit(X[:1], new)
    kinds = {known.dtype.kind, "i"} if known.dtype.kind == "u" else {known.dtype.kind}
    assert model.classes_.dtype.kind in kinds
    assert sorted(model.classes_.tolist()) == sorted([*known.tolist(), *new.tolist()])


@pytest.mark.parametrize(
    ("known", "new"),
    [
        (np.int32, 2.0**63),
        (np.int32, 0.5),
        (np.int32, np.uint64(2**64 - 1)),
        (np.int32, "10"),
        (np.uint64, -1),
        (bool, 2),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # by scikit-learn
def test_labels_that_classes_cannot_hold_are_refused(known, new):
    model = classifier(epochs=(1, 1)).fit(X, Y.astype(known))
    dtype = np.dtype(known).name
    with pytest.raises(ValueError, match=f"(`y` must hold labels like (0|False) of {dtype}, got|Unknown label type)"):
        model.partial_fit(X[:1], [new])
    with pytest.raises(ValueError, match="`classes` must hold labels like -1 of int64, got"):
        classifier().partial_fit(X, -Y.astype(int) % -2, classes=[np.uint64(2**64 - 1)])


def numbers(images: ImageSpec) -> Network:
    """A readout of a few numbers in place of an image, as scikit-learn's checks have."""
    shape = PIXELS.output_shape(images.shape)
    last = Conv(2 * images.classes, kernel=shape[1:], threshold=0.3, weight_mean=0.5, learners=SupervisedSTDP())
    return Network("numbers", shape, images.classes, (stage(last),), 255, encoder=PIXELS, decision=Earliest(True))


PIXELS = Pixels(255)
CHECKS = ("estimators_partial_fit_n_features", "n_features_in_after_fitting", "fit_score_takes_y")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", CHECKS)
def test_partial_fit_keeps_the_contract_of_scikit_learn(check):
    model = classifier(network=numbers, image_shape=(1, -1), largest=200, epochs=(1,))
    getattr(estimator_checks, f"check_{check}")("SpikingClassifier", model)
