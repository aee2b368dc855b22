"""BindsNET's Diehl & Cook network, with one image at a time or with 32 at a time, its fastest published recipe.

Recipes: examples/mnist/eth_mnist.py and examples/mnist/batch_eth_mnist.py of github.com/BindsNET/bindsnet, rewritten
from their settings with BindsNET's public API. Plots, and the voltage monitors that only feed them, are left out. The
last, incomplete window of training images also assigns classes, unlike in the recipes. The recipe with batches
does not run as published, because it passes `device` twice to one call.
"""

import numpy as np
import recipe

PUBLISHED = "34ee2920cf3b605a8d29e777ad6af1bf4bd04036"  # the commit of BindsNET whose recipes these are
BATCH = recipe.arguments().batch
SINGLE = BATCH == 1
FILE = f"examples/mnist/{'' if SINGLE else 'batch_'}eth_mnist.py"
TIME = 250 if SINGLE else 100
RUN = recipe.Run(
    "bindsnet",
    training=0.75,  # classes are assigned during training
    simulator="BindsNET" if SINGLE else f"BindsNET, batches of {BATCH}",
    recipe=FILE,
    url=f"https://github.com/BindsNET/bindsnet/blob/{PUBLISHED}/{FILE}",
    licence="AGPL-3.0",
    assignment="most active neurons, assigned from responses during training",
    neuron="784 Poisson inputs, excitatory LIF with adaptive thresholds, as many inhibitory LIF",
    time_steps=TIME,
    spikes="many",
)

import torch
from bindsnet.encoding import PoissonEncoder
from bindsnet.evaluation import all_activity, assign_labels, proportion_weighting
from bindsnet.models import DiehlAndCook2015
from bindsnet.network.monitors import Monitor

torch.manual_seed(RUN.seed)
torch.set_num_threads(recipe.THREADS)
NEURONS = RUN.options.neurons or 100
RUN.about["neurons"] = NEURONS
ORDER = RUN.presentations(60_000)
WINDOW = 250 if SINGLE else max(1, len(ORDER) // BATCH // 10)  # batches between two assignments of classes
COUNTED = 128 // BATCH  # batches of test images whose events are counted, outside the measured time

# recipe
network = DiehlAndCook2015(
    n_inpt=784,
    n_neurons=NEURONS,
    batch_size=BATCH,
    exc=22.5,
    inh=120,
    dt=1.0,
    norm=78.4,
    nu=(1e-4, 1e-2),
    theta_plus=0.05,
    inpt_shape=(1, 28, 28),
)
encode = PoissonEncoder(time=TIME, dt=1.0)
monitor = Monitor(network.layers["Ae"], ["s"], time=TIME)
network.add_monitor(monitor, name="Ae")


def respond(images: np.ndarray) -> torch.Tensor:
    """Spikes of the excitatory neurons, (batch, time, neurons)."""
    rates = torch.from_numpy(images).float()[:, None] / 255 * 128
    network.reset_state_variables()
    network.run(inputs={"X": torch.stack([encode(one) for one in rates], 1)}, time=TIME)
    return monitor.get("s").permute(1, 0, 2)


# The class of each neuron, the share of each class in its spikes, and its mean response to each class.
assignment = (-torch.ones(NEURONS), torch.zeros(NEURONS, 10), torch.zeros(NEURONS, 10))
window: list[torch.Tensor] = []
labels: list[int] = []


def assign() -> None:
    """Assigns classes to neurons, based on the responses and labels since the last assignment."""
    global assignment
    assignment = assign_labels(torch.cat(window), torch.tensor(labels), 10, assignment[2])
    window.clear()
    labels.clear()


for index in RUN.phase("train", ORDER, BATCH):
    window.append(respond(RUN.train_images[index]))
    labels.extend(RUN.train_labels[index])
    if len(window) == WINDOW:
        assign()
if window:
    assign()

network.train(mode=False)
features = []
for index in RUN.phase("test", np.arange(len(RUN.test_labels)), BATCH):
    features.append(respond(RUN.test_images[index]).sum(1, keepdim=True))
with RUN.also("test"):
    counts = torch.cat(features)  # (N, 1, neurons), which both decisions sum over time
    predicted = all_activity(counts, assignment[0], 10).numpy()
# end

weighted = proportion_weighting(counts, *assignment[:2], 10).numpy()
monitors = [Monitor(network.layers[name], ["s"], time=TIME) for name in ("X", "Ai")]
for number, other in enumerate(monitors):
    network.add_monitor(other, name=str(number))
events = np.zeros(3)
counted = min(COUNTED * BATCH, len(RUN.test_images) // BATCH * BATCH)
for first in range(0, counted, BATCH):
    respond(RUN.test_images[first : first + BATCH])
    events += [float(each.get("s").sum()) for each in (monitors[0], monitor, monitors[1])]
inputs, exc, inh = events / counted
RUN.finish(
    predicted,
    accuracy_proportion=float(np.mean(weighted == RUN.test_labels[: len(weighted)])),
    spikes=inputs + exc + inh,
    synops=inputs * NEURONS + exc + inh * (NEURONS - 1),
)
if RUN.options.features:
    order = RUN.permutation()
    responses = [respond(RUN.train_images[index]).sum(1).numpy() for index in RUN.phase("features", order, BATCH)]
    RUN.save_features(order, np.concatenate(responses), counts.numpy())
