"""BindsNET's Diehl & Cook network, one image at a time.

Recipe: examples/mnist/eth_mnist.py,
https://github.com/BindsNET/bindsnet/blob/master/examples/mnist/eth_mnist.py,
rewritten from its settings on BindsNET's public API. Left out: plots and the voltage monitors that only feed them.
Added: the last, incomplete window of training images also assigns classes.
"""

import numpy as np
import recipe

RUN = recipe.Run(
    "bindsnet",
    training=0.75,  # classes are assigned during training
    simulator="BindsNET",
    recipe="examples/mnist/eth_mnist.py",
    url="https://github.com/BindsNET/bindsnet/blob/34ee2920cf3b605a8d29e777ad6af1bf4bd04036/examples/mnist/eth_mnist.py",
    licence="AGPL-3.0",
    assignment="most active neurons, assigned from responses during training",
    neuron="784 Poisson inputs, excitatory LIF with adaptive thresholds, as many inhibitory LIF",
    time_steps=250,
    spikes="many",
)

import torch
from bindsnet.encoding import PoissonEncoder
from bindsnet.evaluation import all_activity, assign_labels, proportion_weighting
from bindsnet.models import DiehlAndCook2015
from bindsnet.network.monitors import Monitor

torch.manual_seed(RUN.seed)
torch.set_num_threads(max(1, recipe.THREADS - 1))  # as the example
NEURONS = RUN.options.neurons or 100
RUN.about["neurons"] = NEURONS
WINDOW = 250  # images between two assignments
COUNTED = 100  # test images whose events are counted, after the clock

# recipe
network = DiehlAndCook2015(
    n_inpt=784, n_neurons=NEURONS, exc=22.5, inh=120, dt=1.0, norm=78.4, theta_plus=0.05, inpt_shape=(1, 28, 28)
)
encode = PoissonEncoder(time=250, dt=1.0)
monitor = Monitor(network.layers["Ae"], ["s"], time=250)
network.add_monitor(monitor, name="Ae")


def respond(image: np.ndarray) -> torch.Tensor:
    """Spikes of the excitatory neurons, (1, time, neurons)."""
    rates = torch.from_numpy(image).float() / 255 * 128
    network.reset_state_variables()
    network.run(inputs={"X": encode(rates).view(250, 1, 1, 28, 28)}, time=250)
    return monitor.get("s").view(1, 250, NEURONS)


# The class of each neuron, the share of each class in its spikes, and its mean response to each class.
assignment = (-torch.ones(NEURONS), torch.zeros(NEURONS, 10), torch.zeros(NEURONS, 10))
window: list[torch.Tensor] = []
labels: list[int] = []


def assign() -> None:
    """Assigns classes to neurons by the responses and labels since the last time."""
    global assignment
    assignment = assign_labels(torch.cat(window), torch.tensor(labels), 10, assignment[2])
    window.clear()
    labels.clear()


for (index,) in RUN.phase("train", RUN.presentations(60_000)):
    window.append(respond(RUN.train_images[index]))
    labels.append(RUN.train_labels[index])
    if len(window) == WINDOW:
        assign()
if window:
    assign()

network.train(mode=False)
features = []
for (index,) in RUN.phase("test", np.arange(len(RUN.test_labels))):
    features.append(respond(RUN.test_images[index]).sum(1))
with RUN.also("test"):
    counts = torch.stack(features)  # (N, 1, neurons), which both decisions sum over time
    predicted = all_activity(counts, assignment[0], 10).numpy()
# end

weighted = proportion_weighting(counts, *assignment[:2], 10).numpy()
monitors = [Monitor(network.layers[name], ["s"], time=250) for name in ("X", "Ai")]
for number, other in enumerate(monitors):
    network.add_monitor(other, name=str(number))
events = np.zeros(3)
for image in RUN.test_images[:COUNTED]:
    respond(image)
    events += [float(each.get("s").sum()) for each in (monitors[0], monitor, monitors[1])]
inputs, exc, inh = events / len(RUN.test_images[:COUNTED])
RUN.finish(
    predicted,
    accuracy_proportion=float(np.mean(weighted == RUN.test_labels[: len(weighted)])),
    spikes=inputs + exc + inh,
    synops=inputs * NEURONS + exc + inh * (NEURONS - 1),
)
if RUN.options.features:
    order = RUN.permutation()
    responses = [respond(RUN.train_images[index]).sum(1).numpy()[0] for (index,) in RUN.phase("features", order)]
    RUN.save_features(order, np.array(responses), counts.numpy())
