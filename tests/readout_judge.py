"""Supervised STDP of readouts in NumPy, neuron by neuron and step by step, in float64."""

from typing import Any, NamedTuple

import numpy as np


class Spike(NamedTuple):
    """When a neuron fired: its time and step, 1 and T where silent, and its potential then."""

    time: float
    step: int
    potential: float


def fire(latency: np.ndarray, weights: np.ndarray, threshold: float, time_steps: int, fractional: bool) -> Spike:
    """The spike of a neuron with weights (K,)."""
    before = 0.0
    for step in range(time_steps):
        potential = weights[latency <= step].sum()
        if potential > threshold:
            late = (threshold - before) / (potential - before) if fractional and before <= threshold else 0.0
            return Spike((step + late) / time_steps, step, potential)
        before = potential
    return Spike(1.0, time_steps, before)


def earliest(spikes: dict[int, Spike]) -> int:
    """The neuron that fires first, then with the largest potential, then of the lowest number."""
    return min(spikes, key=lambda neuron: (spikes[neuron].time, -spikes[neuron].potential, neuron))


def learn(
    weights: np.ndarray,
    excess: np.ndarray,
    latencies: np.ndarray,
    labels: np.ndarray,
    rates: np.ndarray,
    learns: np.ndarray,
    *,
    threshold: np.ndarray,
    classes: int,
    time_steps: int,
    gap: float,
    bounds: tuple[float, float],
    sums: np.ndarray | None,
    threshold_rate: float,
    non_targets: int,
    competition: bool,
    one_sided: bool,
    fractional: bool,
    update_batch: int,
) -> tuple[Any, ...]:
    """The fields of `LearnedReadout`, its spikes as a tuple, given weights (F, K) and latencies (S, K)."""
    weights = np.clip(np.float64(weights), *bounds)
    excess = np.float64(excess)
    features = len(weights)
    size = features // classes
    count = classes if competition else features
    targets = size - non_targets
    competitors = targets if competition and targets > 1 else 0
    stimuli = len(latencies)
    step = np.full((stimuli, classes), time_steps)
    potential = np.zeros((stimuli, classes))
    when = np.ones((stimuli, classes))
    learned = np.full(stimuli, -1)
    neuron = np.full((stimuli, count), -1)
    time = np.zeros((stimuli, count))
    error = np.zeros((stimuli, count))
    thresholds = np.zeros((stimuli, competitors))

    def fired(stimulus: int, limits: np.ndarray) -> dict[int, Spike]:
        return {f: fire(latencies[stimulus], weights[f], limits[f], time_steps, fractional) for f in range(features)}

    for start in range(0, stimuli, update_batch):
        group = range(start, min(start + update_batch, stimuli))
        usual = {stimulus: fired(stimulus, threshold) for stimulus in group}
        raised = {stimulus: fired(stimulus, threshold + excess) for stimulus in group}
        for stimulus in group:
            if not learns[stimulus]:
                continue
            spikes = usual[stimulus]
            for c in range(classes):
                first = spikes[earliest({f: spikes[f] for f in range(c * size, (c + 1) * size)})]
                when[stimulus, c], step[stimulus, c], potential[stimulus, c] = first
            label = labels[stimulus]
            if label < 0 or (latencies[stimulus] >= time_steps).all():
                continue
            learned[stimulus] = label
            own = range(label * size + non_targets, (label + 1) * size)
            if competitors:
                spikes = spikes | {f: raised[stimulus][f] for f in own}
                won = earliest({f: spikes[f] for f in own})
                for f in own:
                    share = (competitors - 1) / competitors if f == won else -1 / competitors
                    excess[f] = max(excess[f] + threshold_rate * share, 0)
                thresholds[stimulus] = [threshold[f] + excess[f] for f in own]
            of_class = [{f: spikes[f] for f in range(c * size, (c + 1) * size)} for c in range(classes)]
            chosen = [earliest(each) for each in of_class] if competition else list(range(features))
            times = np.array([spikes[f].time for f in chosen])
            share = 1 / classes  # of the neurons that learn, those of a class
            base = min([1 - gap * share, *([times[times < 1].mean()] if (times < 1).any() else [])])
            for place, f in enumerate(chosen):
                late = base + gap * share
                desired = base - gap * (1 - share) if f in own else late
                if one_sided:
                    desired = min(times[place], desired) if f in own else max(times[place], late)
                neuron[stimulus, place] = f
                time[stimulus, place] = times[place]
                error[stimulus, place] = times[place] - desired
                causal = latencies[stimulus] <= spikes[f].step
                change = np.where(causal, rates[0], rates[1]) * error[stimulus, place]
                weights[f] = np.clip(weights[f] + change, *bounds)
                if sums is not None and weights[f].sum() > 0:
                    weights[f] = np.clip(weights[f] * sums[f] / weights[f].sum(), *bounds)
    return weights, excess, (step, potential, when), neuron, time, error, learned, thresholds
