"""Brian2's Diehl & Cook network, with generated Cython code.

Recipe: examples/frompapers/Diehl_Cook_2015.py,
https://github.com/brian-team/brian2/blob/master/examples/frompapers/Diehl_Cook_2015.py, rewritten from its
equations and settings with Brian2's API. The recipe asks for 25,000 to 50,000 training images, 2,000 images from which
classes are assigned, and 1,000 test images. Three things differ here: the test uses the synaptic delays drawn for
training, an image with too few spikes is shown at most 10 times, and silent neurons have no class, which helps after a
short training run.
"""

from collections.abc import Sequence

import numpy as np
import recipe

RUN = recipe.Run(
    "brian2",
    simulator="Brian2",
    recipe="examples/frompapers/Diehl_Cook_2015.py",
    url="https://github.com/brian-team/brian2/blob/aec54d2afae3621f42be2a7030b9bb6f21488571/examples/frompapers/Diehl_Cook_2015.py",
    licence="CeCILL-2.1",
    assignment="most active neurons, assigned after training",
    neuron="784 Poisson inputs, conductance-based excitatory LIF with adaptive thresholds, as many inhibitory, delays",
    time_steps=5000,
    spikes="many",
)

from brian2 import Hz, Network, NeuronGroup, PoissonGroup, SpikeMonitor, Synapses, ms, mV, prefs, seed

prefs.codegen.target = "cython"
seed(RUN.seed)
NEURONS = RUN.options.neurons or 400
RUN.about["neurons"] = NEURONS
OBSERVED = 2000  # training images from which classes are assigned
MOST_SHOWN = 10
COUNTED = 20  # test images whose events are counted, outside the measured time

# recipe
MEMBRANE = """
dv/dt = (v_rest - v + ge * -v + gi * (v_inh - v)) / tau : volt (unless refractory)
dge/dt = -ge / (1 * ms) : 1
dgi/dt = -gi / (2 * ms) : 1
"""
EXCITATORY = MEMBRANE + "dtimer/dt = 1 : second\n"
TRACES = """
w : 1
post2_before : 1
dpre/dt = -pre / (20 * ms) : 1 (event-driven)
dpost1/dt = -post1 / (20 * ms) : 1 (event-driven)
dpost2/dt = -post2 / (40 * ms) : 1 (event-driven)
"""
ON_PRE = "ge_post += w\n pre = 1\n w = clip(w - 0.0001 * post1, 0, 1)"
ON_POST = "post2_before = post2\n w = clip(w + 0.01 * pre * post2_before, 0, 1)\n post1 = 1\n post2 = 1"


def build(
    weights: np.ndarray,
    delays: np.ndarray | str,
    theta: np.ndarray | None = None,
    counted: Sequence[str] = ("exc",),
) -> Network:
    """Builds the network, which learns unless its thresholds are given; counts the spikes of the groups `counted`."""
    learning = theta is None
    exc = NeuronGroup(
        NEURONS,
        EXCITATORY + ("dtheta/dt = -theta / (1e7 * ms) : volt" if learning else "theta : volt"),
        threshold="v > theta - 72 * mV and timer > 50 * ms",
        reset="v = -65 * mV; timer = 0 * ms" + ("; theta += 0.05 * mV" if learning else ""),
        refractory=5 * ms,
        method="euler",
        namespace=dict(v_rest=-65 * mV, v_inh=-100 * mV, tau=100 * ms),
        name="exc",
    )
    exc.v = -65 * mV
    exc.theta = 20 * mV if learning else theta
    inh = NeuronGroup(
        NEURONS,
        MEMBRANE,
        threshold="v > -40 * mV",
        reset="v = -45 * mV",
        refractory=2 * ms,
        method="euler",
        namespace=dict(v_rest=-60 * mV, v_inh=-85 * mV, tau=10 * ms),
        name="inh",
    )
    inh.v = -60 * mV
    pixels = PoissonGroup(784, 0 * Hz, name="pixels")
    learned = Synapses(
        pixels,
        exc,
        TRACES if learning else "w : 1",
        on_pre=ON_PRE if learning else "ge_post += w",
        on_post=ON_POST if learning else None,
        name="learned",
    )
    learned.connect()
    learned.delay = delays
    learned.w = weights
    up = Synapses(exc, inh, on_pre="ge_post += 10.4", name="up")
    up.connect(j="i")
    down = Synapses(inh, exc, on_pre="gi_post += 17", name="down")
    down.connect("i != j")
    groups = [group for group in (pixels, exc, inh) if group.name in counted]
    counters = [SpikeMonitor(group, record=False, name=f"{group.name}_count") for group in groups]
    return Network(pixels, exc, inh, learned, up, down, *counters)


def respond(network: Network, image: np.ndarray) -> np.ndarray:
    """Spike counts of the excitatory neurons; an image with fewer than 5 spikes is shown again, brighter."""
    for intensity in range(2, 2 + MOST_SHOWN):
        before = np.array(network["exc_count"].count)
        network["pixels"].rates = image.ravel() / 8 * intensity * Hz
        network.run(350 * ms)
        counts = np.array(network["exc_count"].count) - before
        network["pixels"].rates = 0 * Hz
        network.run(150 * ms)
        if counts.sum() >= 5:
            break
    return counts


# end

# Both networks are compiled before the clock starts; Brian2 keeps compiled code in ~/.cython.
for thresholds in (None, np.zeros(NEURONS) * mV):
    warm = build(np.zeros(784 * NEURONS), 0 * ms, thresholds)
    respond(warm, np.full(784, 255))

# recipe
network = build((RUN.rng.random(784 * NEURONS) + 0.01) * 0.3, "rand() * 10 * ms")
learned = network["learned"]
for (index,) in RUN.phase("train", RUN.presentations(25_000)):
    weights = np.array(learned.w).reshape(784, NEURONS)
    learned.w = (weights * 78 / weights.sum(0)).ravel()
    respond(network, RUN.train_images[index])

network = build(np.array(learned.w), learned.delay[:], network["exc"].theta[:])
order = RUN.permutation()
observed = [respond(network, RUN.train_images[index]) for (index,) in RUN.phase("label", order[:OBSERVED])]
responses = np.array(observed)
assigned = recipe.assign(responses, RUN.train_labels[order[: len(responses)]])
features = [respond(network, RUN.test_images[index]) for (index,) in RUN.phase("test", np.arange(len(RUN.test_labels)))]
# end

names = ("pixels", "exc", "inh")
network = build(np.array(network["learned"].w), network["learned"].delay[:], network["exc"].theta[:], names)
pictures = RUN.test_images[:COUNTED]
for picture in pictures:
    respond(network, picture)
inputs, exc, inh = (float(network[f"{name}_count"].num_spikes) / len(pictures) for name in names)
synops = inputs * NEURONS + exc + inh * (NEURONS - 1)
RUN.finish(recipe.vote(np.array(features), assigned), spikes=inputs + exc + inh, synops=synops)
if RUN.options.features:
    later = order[len(responses) :]
    observed += [respond(network, RUN.train_images[index]) for (index,) in RUN.phase("features", later)]
    RUN.save_features(order, np.array(observed), np.array(features))
