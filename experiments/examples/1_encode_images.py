"""From your own images to latencies: one small integer per neuron, the time step of its only spike.

python experiments/examples/1_encode_images.py
"""

import jax
import numpy as np

from snnjax import encode, kernels

# Images are (H, W) of 0..255. Here: a bright disc that moves to the right, at five places.
rows, columns = np.mgrid[:28, :28]
images = np.stack([255.0 * ((rows - 14) ** 2 + (columns - place) ** 2 < 36) for place in (8, 11, 14, 17, 20)])

# `encode` takes one image, `jax.vmap` makes it take many. Six filters respond to light spots on dark ground and dark
# ones on light ground, at three scales. The strongest responses fire first: rank order over all of them.
latencies = jax.vmap(encode)(images)
print(f"{images.shape} images of {images.dtype} become {latencies.shape} latencies of {latencies.dtype}")

# 15 means that a neuron stays silent. Every time step has equally many spikes.
steps = 15
print("spikes at each time step:", np.bincount(np.asarray(latencies[0]).ravel(), minlength=steps + 1)[:steps])

# Kernels take latencies. The spike wave, T frames of zeros and ones, holds the same information.
wave = kernels.latency_to_wave(latencies[0], time_steps=steps)
print(f"as a wave: {wave.shape}, {int(wave.sum())} ones, since a neuron that has fired stays at one")

# Which map fires first in the middle of the disc?
first = np.asarray(latencies)[2, :, 14, 14]
print("latencies of the six maps in its middle:", first.tolist())
