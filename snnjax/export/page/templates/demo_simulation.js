"use strict";

/* A spiking network on one picture, spike by spike, with integer weights.
 *
 * Each neuron fires at most once. A spike adds the weights that it meets to the potentials of the next layer; a neuron
 * whose potential exceeds its threshold fires, and its spike continues within the same step. In a layer with a ramp,
 * spikes add their weights until their window ends; the neurons fire in the next window. Weights are at least 0 in
 * other layers, so the order of spikes within a step never matters, and one layer can follow another. Nothing here
 * needs a page: `networkOf`, `encode`, `simulate`.
 */

/* The network of the JSON data of the page, with its arrays as numbers. */
function networkOf(data) {
  const encoder = { ...data.encoder };
  for (const name of ["minimum", "span"]) if (encoder[name]) encoder[name] = floatsOf(encoder[name]);
  if (encoder.filters) encoder.filters = encoder.filters.map((filter) => ({ ...filter, taps: floatsOf(filter.taps) }));
  const layers = data.layers.map((layer) => {
    const [maps] = layer.input;
    const count = maps * layer.kernel[0] * layer.kernel[1] * layer.features;
    const weights = unpacked(bytesOf(layer.weights), data.bits, count).map((weight) => weight - layer.offset);
    const limits = Float64Array.from(layer.thresholds || new Array(layer.features).fill(0));
    const positions = layer.size.map((count, axis) => count * layer.dendrites[axis]);
    const reach = positions.map((count, axis) => reachOf(layer, count, axis));
    return { ...layer, weights, limits, positions, reach, synapses: synapsesOf(weights, layer.features) };
  });
  const readout = data.decision ? readoutOf(layers[layers.length - 1], data.classes.length) : data.readout;
  return { ...data, encoder, layers, readout };
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; ++index) bytes[index] = text.charCodeAt(index);
  return bytes;
}

/* So many integers of a few bits each, low bits first, as Python packs them. */
function unpacked(bytes, bits, count) {
  const mask = (1 << bits) - 1;
  return Int16Array.from({ length: count }, (_, index) => {
    const place = index * bits;
    const first = Math.floor(place / 8);
    return ((bytes[first] | (bytes[first + 1] << 8)) >> (place % 8)) & mask;
  });
}

function floatsOf(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

/* Where the spikes of each input row (axis 0) or column (1) go: pairs of a row of dendrites or neurons and a row
 * of the kernel. Around the input of a layer with a ramp is its reflection. */
function reachOf({ input, kernel, stride, padding, ramp }, positions, axis) {
  const length = input[axis + 1];
  const reach = Array.from({ length }, () => []);
  for (let to = 0; to < positions; ++to) {
    for (let tap = 0; tap < kernel[axis]; ++tap) {
      const from = to * stride[axis] + tap - padding[axis];
      const reflected = ramp ? length - 1 - Math.abs(length - 1 - Math.abs(from)) : from;
      if (reflected >= 0 && reflected < length) reach[reflected].push([to, tap]);
    }
  }
  return reach;
}

/* The number of weights other than 0 that an input meets, for each map and place in the kernel. */
function synapsesOf(weights, features) {
  const counts = new Uint32Array(weights.length / features);
  for (let index = 0; index < weights.length; ++index) if (weights[index]) counts[Math.floor(index / features)] += 1;
  return counts;
}

/* The neurons of the last layer: class, threshold, and index among the potentials and among the latencies. */
function readoutOf({ features, size, limits }, classes) {
  const area = size[0] * size[1];
  return Array.from({ length: features * area }, (_, index) => {
    const feature = index % features;
    const label = Math.floor(feature / (features / classes));
    return { label, limit: limits[feature], index, place: feature * area + Math.floor(index / features) };
  });
}

/* Encoders. Sums are computed as in Python: integers times powers of two add up exactly in doubles, and Math.fround
 * rounds where Python rounds to float32. Therefore all latencies are the same. */

/* The step at which each input fires, for a picture of 0 to 255; `network.steps` if it is silent. */
function encode(network, picture) {
  const encoders = { pixels: encodePixels, on_off: encodeOnOff, rank_order: encodeByRank };
  return encoders[network.encoder.kind](network, Float32Array.from(picture));
}

/* The brighter a pixel, the earlier its spike; colours are maps. */
function encodePixels(network, picture) {
  const last = network.steps - 1;
  const step = (pixel) => Math.min(Math.floor(Math.fround(Math.fround((255 - pixel) * network.steps) / 255)), last);
  const [maps, rows, columns] = network.input;
  return Uint16Array.from(picture, (_, index) => {
    const pixel = picture[(index % (rows * columns)) * maps + Math.floor(index / (rows * columns))];
    return pixel > 0 ? step(pixel) : network.steps;
  });
}

/* The closer the output of a filter is to its largest output for the training pictures, the earlier its spike. */
function encodeOnOff(network, picture) {
  const { minimum, span, rounding } = network.encoder;
  const outputs = filterOutputs(network, picture);
  return Uint16Array.from(outputs, (output, index) => {
    const above = Math.fround(Math.max(output, 0) - minimum[index]);
    const share = above > rounding && span[index] > rounding ? Math.min(Math.fround(above / span[index]), 1) : 0;
    const step = Math.floor(Math.fround(Math.fround(1 - share) * network.steps));
    return share > 0 ? Math.min(step, network.steps - 1) : network.steps;
  });
}

/* The strongest inputs fire first, equally many at each step; the remaining ones are silent. */
function encodeByRank(network, picture) {
  const strengths = strengthsOf(network, picture);
  const order = [...strengths.keys()].filter((index) => strengths[index] > 0);
  order.sort((one, other) => strengths[other] - strengths[one] || one - other);
  const atOnce = Math.max(Math.floor(order.length / network.steps), 1);
  const latencies = new Uint16Array(strengths.length).fill(network.steps);
  order.forEach((index, rank) => { latencies[index] = Math.min(Math.floor(rank / atOnce), network.steps); });
  return latencies;
}

/* The outputs of the filters above their thresholds, normalised if the encoder has a radius. */
function strengthsOf(network, picture) {
  const { thresholds, radius } = network.encoder;
  const [, rows, columns] = network.input;
  const outputs = filterOutputs(network, picture).map((output, index) => {
    const threshold = thresholds[Math.floor(index / (rows * columns))];
    return output < threshold ? 0 : output;
  });
  return radius === null ? outputs : normalise(outputs, network);
}

/* The outputs of the filters of all maps. */
function filterOutputs(network, picture) {
  const { filters, maps, bits, parts, edge } = network.encoder;
  const [, rows, columns] = network.input;
  const pictures = split(picture, bits, parts).filter((part) => part.some((value) => value !== 0));
  const made = filters.map((filter) => filterPicture(filter, pictures, network.picture, [rows, columns], edge));
  const outputs = new Float32Array(maps.length * rows * columns);
  maps.forEach(({ filter, factor }, map) => {
    const first = map * rows * columns;
    made[filter].forEach((value, position) => { outputs[first + position] = value * factor; });
  });
  return outputs;
}

/* A picture filtered; both are given in parts, so that each sum is exact. The smallest sums are added first. */
function filterPicture(filter, pictures, shape, [rows, columns], edge) {
  const area = filter.size * filter.size;
  const output = new Float32Array(rows * columns);
  for (let part = filter.taps.length / area - 1; part >= 0; --part) {
    const taps = filter.taps.subarray(part * area, (part + 1) * area);
    for (const picture of [...pictures].reverse()) {
      for (let position = 0; position < rows * columns; ++position) {
        const top = Math.floor(position / columns) - filter.before;
        const left = (position % columns) - filter.before;
        output[position] += filterSum(taps, filter.size, picture, shape, top, left, edge);
      }
    }
  }
  return output;
}

/* The sum at one position; outside the picture, pixels are 0 or, with `edge`, those of its edge. */
function filterSum(taps, size, picture, [height, width], top, left, edge) {
  let sum = 0;
  for (let tap = 0; tap < taps.length; ++tap) {
    const row = top + Math.floor(tap / size);
    const column = left + (tap % size);
    const y = Math.min(Math.max(row, 0), height - 1);
    const x = Math.min(Math.max(column, 0), width - 1);
    if (edge || (y === row && x === column)) sum += taps[tap] * picture[y * width + x];
  }
  return sum;
}

/* Divides each value by the mean of its square neighbourhood; a map is padded with zeros. */
function normalise(values, network) {
  const { radius, bits_of_sums: bits, parts_of_sums: parts, neighbour, epsilon } = network.encoder;
  const [, rows, columns] = network.input;
  const totals = new Float32Array(values.length);
  for (const part of split(values, bits, parts).reverse()) {
    const sums = boxSums(boxSums(part, columns, 1, radius), rows, columns, radius);
    sums.forEach((sum, index) => { totals[index] += sum; });
  }
  return values.map((value, index) => (value > 0 ? value / Math.fround(totals[index] * neighbour + epsilon) : 0));
}

/* Sums over values up to `radius` away along one axis, given its length and the distance of neighbours in memory. */
function boxSums(values, length, pitch, radius) {
  return Float64Array.from(values, (_, index) => {
    const place = Math.floor(index / pitch) % length;
    let sum = 0;
    for (let near = Math.max(place - radius, 0); near <= Math.min(place + radius, length - 1); ++near) {
      sum += values[index + (near - place) * pitch];
    }
    return sum;
  });
}

/* Values as a sum of parts, each an integer of `bits` bits times a power of two; the first part is the largest. */
function split(values, bits, parts) {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 2 ** -60);
  let power = 2 ** -70;
  while (power <= largest) power *= 2;
  let rest = Float64Array.from(values);
  return Array.from({ length: parts }, (_, part) => {
    const unit = power / 2 ** (bits * (part + 1));
    const pieces = rest.map((value) => nearestInteger(value / unit) * unit);
    rest = rest.map((value, index) => value - pieces[index]);
    return pieces;
  });
}

/* The nearest integer; of two equally near ones, the even one. */
function nearestInteger(value) {
  const floor = Math.floor(value);
  const fraction = value - floor;
  return fraction > 0.5 || (fraction === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/* The network's response to latencies of its input, layer after layer. The steps of all windows are numbered
 * consecutively.
 *
 * decision: the class, -1 if the network is silent; step: when it decides; winner: the neuron that decides, if any.
 * latencies: of the input, then of each layer, before pooling, map by map, in its window; `network.steps` if silent.
 * spikes: of the input and of each layer, up to each step; operations: synaptic operations up to each step.
 * potentials: of the neurons of the readout after each step of its window.
 */
function simulate(network, latencies) {
  const { layers, end } = network;
  const run = { latencies: [latencies], operations: new Float64Array(end), potentials: [] };
  outputsOf(network, run);
  run.spikes = run.latencies.map((fired, part) => spikesOf(fired, part ? layers[part - 1].begin : 0, network));
  accumulate(run.operations);
  return { ...run, ...decide(network, run) };
}

/* The input and the pooled outputs of the layers; the latencies of the layers are added to the run. */
function outputsOf(network, run) {
  const { steps, layers } = network;
  const outputs = [...run.latencies];
  for (const layer of layers) {
    const fired = respond(network, layer, joined(layer, outputs, steps), run);
    run.latencies.push(fired);
    outputs.push(pooled(fired, layer, steps));
  }
  return outputs;
}

/* The latencies that a layer reads: outputs of earlier stages, each pooled, map after map. */
function joined({ input, reads }, outputs, silent) {
  const latencies = new Uint16Array(input[0] * input[1] * input[2]);
  let filled = 0;
  for (const read of reads) {
    const maps = pooled(outputs[read.of], read, silent);
    latencies.set(maps, filled);
    filled += maps.length;
  }
  return latencies;
}

/* Maps of latencies, pooled: only the earliest spike of each window passes; with `mean`, the steps that remain
 * after its spikes are averaged. */
function pooled(latencies, { features, size, margin, window, window_stride: stride, output, mean }, silent) {
  if (window[0] * window[1] === 1 && output[0] === size[0] && output[1] === size[1]) return latencies;
  const maps = new Uint16Array(features * output[0] * output[1]);
  let cell = 0;
  for (let map = 0; map < features; ++map) {
    for (let row = -margin[0]; row < output[0] * stride[0] - margin[0]; row += stride[0]) {
      for (let column = -margin[1]; column < output[1] * stride[1] - margin[1]; column += stride[1], ++cell) {
        let earliest = silent;
        let remaining = 0;
        for (let y = Math.max(row, 0); y < Math.min(row + window[0], size[0]); ++y) {
          for (let x = Math.max(column, 0); x < Math.min(column + window[1], size[1]); ++x) {
            const latency = latencies[(map * size[0] + y) * size[1] + x];
            earliest = Math.min(earliest, latency);
            remaining += silent - latency;
          }
        }
        maps[cell] = mean ? silent - Math.floor(remaining / (window[0] * window[1])) : earliest;
      }
    }
  }
  return maps;
}

/* The latencies of a layer's neurons, given those of its inputs. A spike adds its weights to potentials or, with a
 * ramp, to their slopes: it counts for all steps that remain. */
function respond(network, layer, inputs, run) {
  const { steps, layers, decision } = network;
  const { features, positions, size, ramp, thresholds, inputs_begin: begin } = layer;
  const reached = new Uint8Array(positions[0] * positions[1]);
  const potentials = new Int32Array(features * reached.length); // feature after feature of a position
  const latencies = new Uint16Array(features * size[0] * size[1]).fill(steps);
  const first = thresholds ? 0 : steps - 1; // step at which its neurons may fire
  eventsOf(inputs, steps).forEach((events, step) => {
    const times = ramp ? steps - step : 1;
    for (const input of events) run.operations[begin + step] += spread(layer, input, times, potentials, reached);
    if (!ramp && step >= first) fire(layer, potentials, reached, step, latencies, steps);
    if (decision && layer === layers[layers.length - 1]) run.potentials.push(potentials.slice());
  });
  if (ramp) fireOnRamp(layer, potentials, latencies);
  return latencies;
}

/* The inputs that fire at each step. */
function eventsOf(latencies, steps) {
  const events = Array.from({ length: steps }, () => []);
  latencies.forEach((step, input) => { if (step < steps) events[step].push(input); });
  return events;
}

/* A spike reaches all neurons whose kernel covers it: its weights are added `times` times. Returns the operations. */
function spread(layer, input, times, potentials, reached) {
  const { input: [, rows, columns], kernel, positions, features, weights, synapses, reach } = layer;
  const map = Math.floor(input / (rows * columns));
  const place = input % (rows * columns);
  let operations = 0;
  for (const [row, down] of reach[0][Math.floor(place / columns)]) {
    for (const [column, right] of reach[1][place % columns]) {
      const tap = (map * kernel[0] + down) * kernel[1] + right;
      const position = row * positions[1] + column;
      reached[position] = 1;
      operations += synapses[tap];
      addWeights(potentials, position * features, weights, tap * features, features, times);
    }
  }
  return operations;
}

/* Most of the time is spent here; four at a time halve it. */
function addWeights(potentials, first, weights, start, features, times) {
  const end = first + features;
  let to = first;
  let from = start;
  for (; to + 4 <= end; to += 4, from += 4) {
    potentials[to] += times * weights[from];
    potentials[to + 1] += times * weights[from + 1];
    potentials[to + 2] += times * weights[from + 2];
    potentials[to + 3] += times * weights[from + 3];
  }
  for (; to < end; ++to, ++from) potentials[to] += times * weights[from];
}

/* Neurons that a spike has reached fire, once, if their potential is above their threshold. */
function fire({ features, size, limits }, potentials, reached, step, latencies, silent) {
  const area = size[0] * size[1];
  for (let position = 0; position < area; ++position) {
    if (!reached[position]) continue;
    reached[position] = 0;
    for (let feature = 0; feature < features; ++feature) {
      if (potentials[position * features + feature] <= limits[feature]) continue;
      const neuron = feature * area + position;
      if (latencies[neuron] === silent) latencies[neuron] = step;
    }
  }
}

/* In the next window, neurons fire at the first step at which the falling level is not above their potential. */
function fireOnRamp(layer, potentials, latencies) {
  const { features, size, ramp: { factors, levels } } = layer;
  let neuron = 0;
  for (let feature = 0; feature < features; ++feature) {
    for (let row = 0; row < size[0]; ++row) {
      for (let column = 0; column < size[1]; ++column, ++neuron) {
        const potential = factors[feature] * aboveThreshold(layer, potentials, feature, row, column);
        latencies[neuron] = firstAtMost(levels, potential);
      }
    }
  }
}

/* The sum, over the dendrites of a neuron, of their potentials above the threshold of its feature. */
function aboveThreshold({ features, positions, dendrites, ramp: { thresholds } }, potentials, feature, row, column) {
  let sum = 0;
  for (let y = row * dendrites[0]; y < (row + 1) * dendrites[0]; ++y) {
    for (let x = column * dendrites[1]; x < (column + 1) * dendrites[1]; ++x) {
      sum += Math.max(potentials[(y * positions[1] + x) * features + feature] - thresholds[feature], 0);
    }
  }
  return sum;
}

/* The index of the first falling level that is at most a potential; the number of levels if there is none. */
function firstAtMost(levels, potential) {
  let first = 0;
  let end = levels.length;
  while (first < end) {
    const middle = (first + end) >> 1;
    if (levels[middle] <= potential) end = middle;
    else first = middle + 1;
  }
  return first;
}

/* The spikes up to each step of neurons whose window begins at a step. */
function spikesOf(latencies, begin, { steps, end }) {
  const counts = new Uint32Array(end);
  for (const latency of latencies) if (latency < steps) counts[begin + latency] += 1;
  return accumulate(counts);
}

function accumulate(counts) {
  for (let step = 1; step < counts.length; ++step) counts[step] += counts[step - 1];
  return counts;
}

/* The class of the earliest neuron; at equal times the largest potential decides, then the lowest class.
 * Scores are those of `Earliest` in Python, in float32. */
function decide(network, run) {
  const { readout, classes, layers, steps, end, decision: { fallback } } = network;
  const neurons = readout.map((neuron) => ({ neuron, ...crossing(network, run, neuron) }));
  const best = classes.map((_, label) => neurons.filter(({ neuron }) => neuron.label === label).reduce(earlier));
  const scores = best.map(({ time, potential }) => {
    if (time === 1) return fallback ? potential * 2 ** -60 : 0;
    const beaten = best.filter((other) => other.time === time && other.potential < potential).length;
    return raised(1 - time, beaten);
  });
  const decision = scores.indexOf(Math.max(...scores, 2 ** -99)); // -1 where all are 0
  const { neuron, time } = best[Math.max(decision, 0)];
  if (decision < 0 || time === 1) return { decision, step: end - 1, winner: null };
  const layer = layers[layers.length - 1];
  return { decision, step: layer.begin + run.latencies[layers.length][neuron.place], winner: neuron };
}

const earlier = (one, other) => {
  return other.time < one.time || (other.time === one.time && other.potential > one.potential) ? other : one;
};

/* When a readout neuron fires, as a share of the window (1 if it does not, or if times do not matter), and its
 * potential then. If times are fractional, the potential rises evenly within a step. */
function crossing({ steps, layers, decision }, { latencies, potentials }, { index, place, limit }) {
  const { timed, fractional } = decision;
  const step = latencies[layers.length][place];
  if (!timed || step === steps) return { time: 1, potential: potentials[steps - 1][index] };
  const potential = potentials[step][index];
  const before = step ? potentials[step - 1][index] : 0;
  const share = Math.fround((limit - before) / (potential - before));
  const late = fractional ? Math.fround(step + share) : step;
  return { time: Math.min(Math.fround(late * Math.fround(1 / steps)), 1 - 2 ** -24), potential };
}

/* A float32 number above 0, raised by a number of units in its last place. */
function raised(number, units) {
  const floats = Float32Array.of(number);
  new Int32Array(floats.buffer)[0] += units;
  return floats[0];
}

/* Latencies with a share of the spikes erased; a larger share erases the same spikes and others. */
function erase(latencies, share, silent) {
  let state = 1;
  return latencies.map((latency) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 < share ? silent : latency;
  });
}
