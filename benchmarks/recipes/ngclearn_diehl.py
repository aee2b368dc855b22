"""ngc-learn's Diehl & Cook network from its model museum.

Recipe: exhibits/diehl_cook_snn (README.md, dcsnn_model.py, train_dcsnn.py),
https://github.com/NACLab/ngc-museum/tree/main/exhibits/diehl_cook_snn (BSD-3-Clause), rewritten from its README with
ngc-learn's API. Saving, loading and pictures are left out. A pass over training images that assigns classes, and the
test, are added, because the exhibit ends with receptive fields and does not classify.
"""

import numpy as np
import recipe

RUN = recipe.Run(
    "ngclearn",
    simulator="ngc-learn",
    recipe="exhibits/diehl_cook_snn",
    url="https://github.com/NACLab/ngc-museum/tree/8da671ded8faf6b24db95971e4dc0cbaa23a7e28/exhibits/diehl_cook_snn",
    licence="BSD-3-Clause",
    assignment="most active neurons (added here), assigned after training from training images",
    neuron="784 Poisson inputs, excitatory LIF with adaptive thresholds, as many inhibitory LIF; at most one "
    "excitatory neuron spikes in a time step",
    time_steps=200,
    spikes="many",
)

import jax
import jax.numpy as jnp
from ngclearn import Context, JointProcess, MethodProcess
from ngclearn.components.input_encoders.poissonCell import PoissonCell
from ngclearn.components.neurons.spiking.LIFCell import LIFCell
from ngclearn.components.other.varTrace import VarTrace
from ngclearn.components.synapses.hebbian.traceSTDPSynapse import TraceSTDPSynapse
from ngclearn.components.synapses.staticSynapse import StaticSynapse
from ngclearn.utils.distribution_generator import DistributionGenerator as Init
from ngclearn.utils.model_utils import normalize_matrix
from ngcsimlib.global_state import stateManager
from ngcsimlib.operations import Summation

NEURONS = RUN.options.neurons or 100
RUN.about["neurons"] = NEURONS
STEPS = 200
ASSIGNED = 2000  # training images from which classes are assigned, as in Brian2's recipe
SYNCHRONISED = 50  # number of images after which the clock waits for JAX
COUNTED = 100  # test images whose events are counted, outside the measured time

# recipe
keys = iter(jax.random.split(jax.random.PRNGKey(RUN.seed), 8))
tau = 100.500896468  # ms
excitatory = dict(thr=-52.0, v_rest=-65.0, v_reset=-60.0, tau_theta=1e7, theta_plus=0.05, one_spike=True)
inhibitory = dict(thr=-40.0, v_rest=-60.0, v_reset=-45.0, tau_theta=0.0, one_spike=False)
membrane = dict(n_units=NEURONS, tau_m=tau, resist_m=tau, refract_time=5.0)
trace = dict(tau_tr=20.0, decay_type="exp", a_delta=0.0)
with Context("diehl_cook"):
    pixels = PoissonCell("pixels", n_units=784, target_freq=63.75, key=next(keys))
    exc = LIFCell("exc", **membrane, **excitatory, key=next(keys))
    inh = LIFCell("inh", **membrane, **inhibitory, key=next(keys))
    before = VarTrace("before", n_units=784, **trace, key=next(keys))
    after = VarTrace("after", n_units=NEURONS, **trace, key=next(keys))
    learned = TraceSTDPSynapse(
        "learned",
        shape=(784, NEURONS),
        A_plus=1e-2,
        A_minus=1e-4,
        eta=1.0,
        pretrace_target=0.0,
        weight_init=Init.uniform(0.0, 0.3),
        key=next(keys),
    )
    square = (NEURONS, NEURONS)
    up = StaticSynapse("up", shape=square, weight_init=Init.constant(22.5, eye=True), key=next(keys))
    down = StaticSynapse("down", shape=square, weight_init=Init.constant(-120.0, hollow=True), key=next(keys))

    pixels.outputs >> learned.inputs
    inh.s >> down.inputs
    Summation(learned.outputs, down.outputs) >> exc.j
    exc.s >> up.inputs
    up.outputs >> inh.j
    pixels.outputs >> before.inputs
    exc.s >> after.inputs
    before.trace >> learned.preTrace
    pixels.outputs >> learned.preSpike
    after.trace >> learned.postTrace
    exc.s >> learned.postSpike

    advance = MethodProcess(name="advance")
    observe = MethodProcess(name="observe")  # the same process, for counting events
    for part in (learned, down, up, pixels, exc, inh, before, after):
        advance >> part.advance_state
        observe >> part.advance_state
    reset = MethodProcess(name="reset")
    for part in (pixels, exc, inh, before, after, learned, down, up):
        reset >> part.reset
    evolve = MethodProcess(name="evolve") >> learned.evolve
    learn = JointProcess(name="learn") >> advance >> evolve
    advance.watch(exc.s)
    observe.watch(exc.s, pixels.outputs, inh.s)
steps = {process: jnp.array(process.pack_rows(STEPS, t=lambda t: t, dt=1.0)) for process in (advance, learn, observe)}


def respond(image: np.ndarray, process: MethodProcess | JointProcess = advance) -> list:
    """The watched spikes of each group, (time, 1, units); the first group is the excitatory neurons."""
    reset.run()
    pixels.inputs.set(jnp.asarray(image.reshape(1, 784) / 255.0))
    stateManager.state, spikes = process.scan(steps[process])
    return spikes


for shown, (index,) in enumerate(RUN.phase("train", RUN.presentations(10_000))):
    respond(RUN.train_images[index], advance if RUN.options.untrained else learn)
    learned.weights.set(normalize_matrix(learned.weights.get(), 78.4, order=1, axis=0))
    # end
    if shown % SYNCHRONISED == 0:
        jax.block_until_ready(learned.weights.get())
    # recipe
thresholds = exc.thr_theta.get()


def count(image: np.ndarray) -> np.ndarray:
    """The spike counts of the excitatory neurons, with their thresholds reset to the learned thresholds."""
    exc.thr_theta.set(thresholds)
    return np.asarray(respond(image)[0].sum((0, 1)))


order = RUN.permutation()
responses = [count(RUN.train_images[index]) for (index,) in RUN.phase("label", order[:ASSIGNED])]
assigned = recipe.assign(np.array(responses), RUN.train_labels[order[: len(responses)]])
features = np.array([count(RUN.test_images[index]) for (index,) in RUN.phase("test", np.arange(len(RUN.test_labels)))])
# end

events = np.zeros(3)
for image in RUN.test_images[:COUNTED]:
    exc.thr_theta.set(thresholds)
    events += [float((one > 0).sum()) for one in respond(image, observe)]
outputs, inputs, inhibitory = events / len(RUN.test_images[:COUNTED])
RUN.finish(
    recipe.vote(features, assigned),
    spikes=outputs + inputs + inhibitory,
    synops=inputs * NEURONS + outputs + inhibitory * (NEURONS - 1),
)
if RUN.options.features:
    further = order[len(responses) :]
    responses += [count(RUN.train_images[index]) for (index,) in RUN.phase("features", further)]
    RUN.save_features(order, np.array(responses), features)
