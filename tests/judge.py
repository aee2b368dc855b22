"""A slow judge in plain NumPy: one position or one step at a time, in float64.

Written from the description of the networks and sharing nothing with `snnjax`, so that both can only agree by being
right. Layouts are those of the kernels: latencies (C, H, W), weights (F, C, kh, kw); strides and paddings are pairs.
At the end stand the hypothesis strategies that draw cases for it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Size = tuple[int, int]
Neuron = tuple[int, int, int]  # feature, row, column


def wave(latency: np.ndarray, time_steps: int) -> np.ndarray:
    """The cumulative spike wave, (T, ...) bool."""
    return np.stack([latency <= step for step in range(time_steps)])


def first_steps(wave: np.ndarray) -> np.ndarray:
    """The first step of each neuron of a wave, T where it is silent."""
    return np.where(wave.any(axis=0), wave.argmax(axis=0), len(wave))


def pad(latency: np.ndarray, padding: Size, time_steps: int) -> np.ndarray:
    """Silent rows and columns on each side."""
    margins = [(0, 0), *((margin, margin) for margin in padding)]
    return np.pad(latency, margins, constant_values=time_steps)


def slide(maps: np.ndarray, window: Size, stride: Size, see: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What `see` makes of each window of (..., H, W), as maps (..., H', W')."""
    rows, columns = (
        range(0, length - taken + 1, step) for length, taken, step in zip(maps.shape[-2:], window, stride, strict=True)
    )
    seen = [[see(maps[..., i : i + window[0], j : j + window[1]]) for j in columns] for i in rows]
    return np.stack([np.stack(row, axis=-1) for row in seen], axis=-2)


def pool(latency: np.ndarray, window: Size, time_steps: int, stride: Size | None = None, padding: Size = (0, 0)):
    """The earliest spike in each window: the maximum of the wave."""
    padded = wave(pad(latency, padding, time_steps), time_steps)
    return first_steps(slide(padded, window, stride or window, lambda seen: seen.max(axis=(-2, -1))))


def potentials(latency: np.ndarray, weights: np.ndarray, time_steps: int, stride: Size = (1, 1)) -> np.ndarray:
    """Potentials at every step, (T, F, H', W')."""
    weights = weights.astype(np.float64)
    movie = wave(latency, time_steps)
    return slide(movie, weights.shape[2:], stride, lambda seen: (weights * seen[:, None]).sum(axis=(2, 3, 4)))


def fire(potentials: np.ndarray, threshold: float | np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Latency and potential at spike: the first crossing, or without a threshold who is above 0 at the last step."""
    time_steps = len(potentials)
    limits = np.broadcast_to(0 if threshold is None else threshold, potentials.shape[1])[:, None, None]
    crossed = potentials > limits
    if threshold is None:
        crossed[:-1] = False
    latency = first_steps(crossed)
    at_spike = np.take_along_axis(potentials, latency[None].clip(max=time_steps - 1), axis=0)[0]
    return latency, np.where(latency < time_steps, at_spike, 0)


def pointwise_inhibition(latency: np.ndarray, potential: np.ndarray, time_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """At each position only the earliest, then strongest, then lowest feature keeps its spike."""
    first = np.lexsort((-potential, latency), axis=0)[:1]  # among equals the lowest feature
    wins = np.arange(len(latency))[:, None, None] == first
    return np.where(wins, latency, time_steps).astype(latency.dtype), np.where(wins, potential, 0)


def k_winners(latency: np.ndarray, potential: np.ndarray, k: int, radius: int, time_steps: int) -> list[Neuron]:
    """Up to k times the earliest, then strongest, then lowest neuron left; it removes its map and its surroundings."""
    left = [neuron for neuron in np.ndindex(latency.shape) if latency[neuron] < time_steps]
    winners: list[Neuron] = []
    while left and len(winners) < k:
        winner = min(left, key=lambda neuron: (latency[neuron], -potential[neuron], neuron))
        winners.append(winner)
        far = [n for n in left if radius == 0 or max(abs(n[1] - winner[1]), abs(n[2] - winner[2])) > radius]
        left = [n for n in far if n[0] != winner[0]]
    return winners


def stdp(
    weights: np.ndarray,
    latency: np.ndarray,
    winners: list[tuple[Neuron, int]],
    rates: tuple[float, float],
    time_steps: int,
    bounds: tuple[float, float],
    stabiliser: bool,
    stride: Size = (1, 1),
) -> np.ndarray:
    """One update by all `winners`, each a neuron with its latency; if there are any, all weights are clipped."""
    new = weights.astype(np.float64)
    lower, upper = bounds
    for (feature, row, column), spike in winners:
        top, left = row * stride[0], column * stride[1]
        field = latency[:, top : top + weights.shape[2], left : left + weights.shape[3]]
        rate = np.where((field < time_steps) & (field <= spike), *rates)
        new[feature] += rate * (new[feature] - lower) * (upper - new[feature]) if stabiliser else rate
    return np.clip(new, lower, upper) if winners else new


def filter_image(image: np.ndarray, kernels: list[np.ndarray], thresholds: list[float]) -> np.ndarray:
    """Cross-correlation with zero padding; values below a kernel's threshold become 0."""
    maps = []
    for kernel, threshold in zip(kernels, thresholds, strict=True):
        padded = np.pad(image.astype(np.float64), len(kernel) // 2)
        output = slide(padded, kernel.shape, (1, 1), lambda seen, kernel=kernel: (seen * kernel).sum())
        maps.append(np.where(output < threshold, 0, output))
    return np.stack(maps)


def local_normalization(maps: np.ndarray, radius: int) -> np.ndarray:
    """Each value over the mean of its zero-padded neighbourhood."""
    padded, window = pad(maps.astype(np.float64), (radius, radius), 0), 2 * radius + 1
    return maps / (slide(padded, (window, window), (1, 1), lambda seen: seen.mean(axis=(-2, -1))) + 1e-12)


def rank_order(intensities: np.ndarray, time_steps: int) -> np.ndarray:
    """The value of rank r spikes at r // bin; ranks beyond T bins and zeros stay silent."""
    flat = intensities.ravel()
    alive = np.count_nonzero(flat)
    latency = np.full(flat.shape, time_steps)
    ranked = np.argsort(-flat, kind="stable")[:alive]
    latency[ranked] = np.minimum(np.arange(alive) // max(alive // time_steps, 1), time_steps)
    return latency.reshape(intensities.shape)


def max_pooling(maps: np.ndarray, window: Size, stride: Size, padding: Size = (0, 0)) -> np.ndarray:
    """The largest value in each window of the zero-padded maps."""
    padded = pad(maps, padding, 0)
    return slide(padded, window, stride, lambda seen: seen.max(axis=(-2, -1)))


def replicated(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Cross-correlation of (C, H, W) with one kernel (C, n, n), borders replicated: (H, W)."""
    margin = kernel.shape[-1] // 2
    padded = np.pad(image.astype(np.float64), ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    return slide(padded, kernel.shape[1:], (1, 1), lambda seen: (seen * kernel).sum())


def on_off(image: np.ndarray, window: int, centre: float, surround: float) -> np.ndarray:
    """Positive and negative part of an image (H, W) of 0..255, filtered by Gaussians each divided by its sum."""
    squared = ((np.indices((window, window)) - window // 2) ** 2).sum(axis=0)
    bells = [np.exp(-squared / (2 * sigma**2)) for sigma in (centre, surround)]
    filtered = replicated(image[None] / 255, (bells[0] / bells[0].sum() - bells[1] / bells[1].sum())[None])
    return np.stack([np.maximum(filtered, 0), np.maximum(-filtered, 0)])


def whitening(patches: np.ndarray, epsilon: float, share: float = 1.0) -> np.ndarray:
    """The filters (C, C, n, n) of patches (P, C, n, n) of 0..255: impulse responses, each minus its mean."""
    count, _, size, _ = patches.shape
    covariance = np.cov((patches / 255).reshape(count, -1), rowvar=False, bias=True)
    left, variances, _ = np.linalg.svd(covariance)  # the largest first
    kept = round(share * len(covariance))
    whitening = sum(
        np.outer(each, each) / np.sqrt(s + epsilon) for each, s in zip(left.T[:kept], variances, strict=False)
    )
    responses = whitening.reshape(2 * patches.shape[1:])[..., size // 2, size // 2]
    return np.stack([response - response.mean() for response in np.moveaxis(responses, 3, 0)])


def linear_latency(values: np.ndarray, time_steps: int) -> np.ndarray:
    """min(floor((1 - v) T), T - 1) of values of 0..1, T where they are 0."""
    step = np.floor((1 - values) * time_steps).astype(int)
    return np.where(values > 0, np.minimum(step, time_steps - 1), time_steps)


def calibrate(maps: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Maps (C, H, W) by the minimum and maximum over those of training images (N, C, H, W)."""
    low, high = train.min(axis=0).astype(float), train.max(axis=0).astype(float)
    return np.where(high > low, np.clip((maps - low) / np.where(high > low, high - low, 1), 0, 1), 0)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The fixed part of a case. There are few, so that few programs are compiled."""

    channels: int
    size: Size
    features: int
    kernel: Size
    time_steps: int
    stride: Size = (1, 1)
    padding: Size = (0, 0)
    thresholds: str = "own"  # of each feature; or "one", or "none"

    @property
    def output_size(self) -> Size:
        """Rows and columns of the layer's output."""
        rows, columns = (
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(self.size, self.padding, self.kernel, self.stride, strict=True)
        )
        return rows, columns


GEOMETRIES = (
    Geometry(2, (6, 5), 4, (3, 3), time_steps=5),
    Geometry(1, (4, 7), 5, (2, 3), time_steps=15, stride=(1, 2), padding=(0, 1), thresholds="one"),
    Geometry(2, (7, 6), 3, (3, 2), time_steps=5, stride=(2, 1), thresholds="none"),
    Geometry(3, (3, 4), 6, (3, 4), time_steps=1),
)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One drawn layer and its stimulus, padding included."""

    geometry: Geometry
    latency: np.ndarray  # [C, H, W] uint8
    weights: np.ndarray  # [F, C, kh, kw] float32
    threshold: float | np.ndarray | None


def arrays(shape: tuple[int, ...], elements: st.SearchStrategy, dtype: type = np.uint8) -> st.SearchStrategy:
    """Arrays whose elements are all drawn one by one."""
    return hnp.arrays(dtype, shape, elements=elements, fill=st.nothing())


def latencies(shape: tuple[int, ...], time_steps: int) -> st.SearchStrategy:
    """Latencies, a third of them silent."""
    return arrays(shape, st.integers(0, time_steps + time_steps // 2).map(lambda step: min(step, time_steps)))


def dyadic(shape: tuple[int, ...], low: int = 0, high: int = 64) -> st.SearchStrategy:
    """float32 multiples of 1/64, from few values: all sums are exact, and ties are real ties."""
    levels = [level for level in (-64, -33, -16, 0, 1, 16, 32, 63, 64, 80) if low <= level <= high]
    return arrays(shape, st.sampled_from(levels), np.int64).map(lambda numbers: np.float32(numbers) / np.float32(64))


@st.composite
def layers(draw: st.DrawFn, low: int = 0, high: int = 64) -> Layer:
    """A layer with weights from `low`/64 to `high`/64 and a stimulus; the threshold is often hit exactly."""
    geometry = draw(st.sampled_from(GEOMETRIES))
    latency = draw(latencies((geometry.channels, *geometry.size), geometry.time_steps))
    weights = draw(dyadic((geometry.features, geometry.channels, *geometry.kernel), low, high))
    quarters = st.integers(-1, 16)
    thresholds = dict(
        own=arrays((geometry.features,), quarters, np.int64).map(lambda numbers: np.float32(numbers) / 4),
        one=quarters.map(lambda number: number / 4),
        none=st.none(),
    )
    threshold = draw(thresholds[geometry.thresholds])
    return Layer(geometry, pad(latency, geometry.padding, geometry.time_steps), weights, threshold)
