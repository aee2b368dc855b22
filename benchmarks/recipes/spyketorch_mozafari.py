"""SpykeTorch, as used by aidinattar/snn: two convolutions that learn by STDP, then a third that learns by reward.

Recipe: train.py with --model mozafari2018 in https://github.com/aidinattar/snn (MIT; its folder SpykeTorch is
GPL-3.0), imported from a checkout. train.py trains for 2, 4 and at most 100 epochs; here the layers share the
training time in the ratio 1 : 2 : 6, which is our choice, and a layer that runs out of time ends early. As in train.py,
images are encoded only once.
"""

import os

import numpy as np
import recipe

os.environ["TQDM_DISABLE"] = "1"
RUN = recipe.Run(
    None,
    training=0.68,  # the remaining time suffices for the test
    simulator="SpykeTorch (aidinattar/snn)",
    recipe="train.py --model mozafari2018",
    url="https://github.com/aidinattar/snn/blob/bad4eda56da0f36411aa904fac72b45c14eb105c/train.py",
    licence="MIT, with SpykeTorch under GPL-3.0",
    assignment="supervised: 20 neurons a class, trained by reward (R-STDP); the highest potential decides",
    neuron="integrate-and-fire without leak, three convolutions (30, 250, 200 maps), DoG-filtered input",
    time_steps=15,
    spikes="at most one",
)

import sys

sys.path.insert(0, str(RUN.options.checkout.resolve()))
import torch
from model.mozafari2018 import MozafariMNIST2018
from s1c1 import S1C1
from SpykeTorch import functional, utils

torch.manual_seed(RUN.seed)
torch.set_num_threads(recipe.THREADS)
torch.set_grad_enabled(False)
CHUNK = 50  # images between two checks of the clock
ADAPT = 1000  # images between two changes of the reward rates, which is the batch size of train.py

# recipe
pairs = [(size, size / 9, size / 4.5) for size in (3, 7, 13)]
kernels = [utils.DoGKernel(*one) for size, near, far in pairs for one in ((size, near, far), (size, far, near))]
encode = S1C1(utils.Filter(kernels, padding=6, thresholds=50), timesteps=15)
model = MozafariMNIST2018(in_channels=6, num_classes=10, device="cpu")
waves: dict[int, torch.Tensor] = {}


def cached(index: np.ndarray) -> torch.Tensor:
    for one in index:
        if one not in waves:
            waves[one] = encode(RUN.train_images[one])
    return torch.stack([waves[one] for one in index])


outcomes = np.zeros(3)  # correct, wrong, silent
seen = 0
epochs = dict(layer1=2, layer2=4, layer3=100)
for layer, index in RUN.stages(dict(layer1=1, layer2=2, layer3=6), RUN.permutation(), CHUNK, epochs):
    if layer != "layer3":
        model.train_unsupervised(cached(index), layer_idx=int(layer[-1]))
        continue
    labels = torch.from_numpy(RUN.train_labels[index])
    outcomes += model.train_rl(cached(index), labels, layer_idx=3) * len(index)
    seen += len(index)
    if seen >= ADAPT:
        correct, wrong, _ = outcomes / seen
        model.update_learning_rates(0.004 * wrong, -0.003 * wrong, 0.0005 * correct, -0.004 * correct, layer_idx=3)
        outcomes[:] = seen = 0

model.eval()
predicted = []
for (index,) in RUN.phase("test", np.arange(len(RUN.test_labels))):
    predicted.append(int(model(encode(RUN.test_images[index]), 3)))
# end


def responses(wave: torch.Tensor) -> torch.Tensor:
    """The number of time steps in which the pooled neurons of the second layer are active, from their spikes on."""
    return functional.pooling(model(wave, 2)[0], 3, 3).sum(0).flatten()


spikes = synops = 0.0
some = RUN.test_images[:50]
for image in some:
    wave = encode(image)
    first = model(wave, 1)[0]
    second = model(wave, 2)[0]
    pooled = [float(functional.pooling(one, size, size)[-1].sum()) for one, size in ((first, 2), (second, 3))]
    spikes += float(wave[-1].sum() + first[-1].sum() + second[-1].sum())
    synops += float(wave[-1].sum()) * 25 * 30 + pooled[0] * 9 * 250 + pooled[1] * 25 * 200
version = dict(torch=torch.__version__, commit="bad4eda")
RUN.finish(np.array(predicted), spikes=spikes / len(some), synops=synops / len(some), versions=version)
if RUN.options.features:
    tested = [responses(encode(image)).numpy() for image in RUN.test_images[: len(predicted)]]
    order = RUN.permutation()
    learned = [responses(encode(RUN.train_images[index])).numpy() for (index,) in RUN.phase("features", order)]
    RUN.save_features(order, np.array(learned), np.array(tested))
