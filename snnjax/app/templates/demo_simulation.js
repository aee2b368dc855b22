"use strict";

/* A spiking network on one picture, event by event, with integer weights.
 *
 * Each neuron fires at most once. A spike adds the weights that it meets to the potentials of the next layer; a neuron
 * whose potential exceeds its threshold fires, and its spike continues within the same step. Weights are at least 0, so
 * the order of spikes within a step does not matter. Nothing here needs a page: `networkOf`, `encode`, `simulate`.
 */

/* The network of the JSON data of the page, with its arrays as numbers. */
function networkOf(data) {
  const encoder = { ...data.encoder };
  for (const name of ["minimum", "span"]) if (encoder[name]) encoder[name] = floatsOf(encoder[name]);
  if (encoder.filters) encoder.filters = encoder.filters.map((filter) => ({ ...filter, taps: floatsOf(filter.taps) }));
  const layers = data.layers.map((layer) => {
    const weights = bytesOf(layer.weights);
    const limits = Float64Array.from(layer.thresholds || new Array(layer.features).fill(Infinity));
    return { ...layer, weights, limits, synapses: synapsesOf(weights, layer.features) };
  });
  return { ...data, encoder, layers, readout: readoutOf(layers[layers.length - 1], data.classes.length) };
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; ++index) bytes[index] = text.charCodeAt(index);
  return bytes;
}

function floatsOf(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

/* How many weights other than 0 an input meets, for each map and place in the kernel. */
function synapsesOf(weights, features) {
  const counts = new Uint32Array(weights.length / features);
  for (let index = 0; index < weights.length; ++index) if (weights[index]) counts[Math.floor(index / features)] += 1;
  return counts;
}

/* The neurons of the last layer: class, threshold, place among the potentials and among the latencies. */
function readoutOf({ features, size, limits }, classes) {
  const area = size[0] * size[1];
  return Array.from({ length: features * area }, (_, index) => {
    const feature = index % features;
    const label = Math.floor(feature / (features / classes));
    return { label, limit: limits[feature], index, place: feature * area + Math.floor(index / features) };
  });
}

/* Encoders. Sums are arranged as in Python: integers times powers of two add up exactly in doubles, and only where
 * Python rounds to float32 does Math.fround. So latencies are the same to the last neuron. */

/* The step at which each input fires, for a picture of 0 to 255; `network.steps` where it stays silent. */
function encode(network, picture) {
  const encoders = { pixels: encodePixels, on_off: encodeOnOff, rank_order: encodeByRank };
  return encoders[network.encoder.kind](network, Float32Array.from(picture));
}

/* The brighter a pixel, the earlier its spike. */
function encodePixels(network, picture) {
  const last = network.steps - 1;
  const step = (pixel) => Math.min(Math.floor(Math.fround(Math.fround((255 - pixel) * network.steps) / 255)), last);
  return Uint16Array.from(picture, (pixel) => (pixel > 0 ? step(pixel) : network.steps));
}

/* The nearer the output of a filter to the largest one of the training pictures, the earlier its spike. */
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

/* The strongest inputs fire first, equally many at each step; those left over stay silent. */
function encodeByRank(network, picture) {
  const strengths = strengthsOf(network, picture);
  const order = [...strengths.keys()].filter((index) => strengths[index] > 0);
  order.sort((one, other) => strengths[other] - strengths[one] || one - other);
  const atOnce = Math.max(Math.floor(order.length / network.steps), 1);
  const latencies = new Uint16Array(strengths.length).fill(network.steps);
  order.forEach((index, rank) => { latencies[index] = Math.min(Math.floor(rank / atOnce), network.steps); });
  return latencies;
}

/* The outputs of the filters above their thresholds, normalised where the encoder has a radius for it. */
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

/* A picture, in parts, through a filter, in parts: each sum is exact, and the smallest ones are added up first. */
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

/* The sum at one place; beyond the border the picture is 0, or continues as at its `edge`. */
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

/* Divides each value by the mean of its square neighbourhood; around a map there are zeros. */
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

/* The sums of the values up to `radius` away along one axis, of a length and with a pitch between neighbours. */
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

/* Values as a sum of parts, integers of so many bits times a power of two; the first part is the largest. */
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

/* The nearest integer, the even one of two, of numbers from 0 on or below. */
function nearestInteger(value) {
  const floor = Math.floor(value);
  const fraction = value - floor;
  return fraction > 0.5 || (fraction === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/* The network's response to latencies of its input, until the last step.
 *
 * decision: the class, -1 if the network stays silent; step: when it decides.
 * latencies: of the input, then of each layer, before pooling, map by map; `network.steps` where silent.
 * spikes: of the input and of each layer, up to each step; operations: synaptic operations up to each step.
 * potentials: of the neurons of the readout after each step, as shares of their thresholds if they have some.
 */
function simulate(network, latencies) {
  const events = Array.from({ length: network.steps }, () => []);
  latencies.forEach((step, input) => { if (step < network.steps) events[step].push(input); });
  const run = new Run(network, latencies);
  events.forEach((inputs, step) => run.takeStep(step, inputs));
  return run.result();
}

class Run {
  constructor(network, latencies) {
    const { steps, layers } = network;
    this.network = network;
    this.step = 0;
    this.potentials = layers.map((layer) => new Uint32Array(layer.features * layer.size[0] * layer.size[1]));
    this.pooled = layers.map((layer) => new Uint8Array(layer.features * layer.output[0] * layer.output[1]));
    this.latencies = [latencies, ...this.potentials.map((neurons) => new Uint16Array(neurons.length).fill(steps))];
    this.counts = this.latencies.map(() => 0);
    this.operationCount = 0;
    this.spikes = this.latencies.map(() => new Uint32Array(steps));
    this.operations = new Float64Array(steps);
    this.shares = [];
    this.decision = -1;
    this.decisionStep = steps - 1;
  }

  /* One step: the spikes of the input, and all that follows from them. */
  takeStep(step, inputs) {
    const [, rows, columns] = this.network.input;
    this.step = step;
    this.counts[0] += inputs.length;
    for (const input of inputs) {
      const position = input % (rows * columns);
      this.receive(0, Math.floor(input / (rows * columns)), Math.floor(position / columns), position % columns);
    }
    if (step === this.network.steps - 1) this.fireAtLast();
    if (this.decision < 0) this.decide();
    this.spikes.forEach((counts, part) => { counts[step] = this.counts[part]; });
    this.operations[step] = this.operationCount;
    this.shares.push(this.sharesOfReadout());
  }

  /* A spike reaches a layer: it meets all neurons whose kernel covers it. */
  receive(number, map, row, column) {
    const { kernel, stride, padding, size } = this.network.layers[number];
    const y = row + padding[0];
    const x = column + padding[1];
    for (let down = y % stride[0]; down < kernel[0] && down <= y; down += stride[0]) {
      const toRow = (y - down) / stride[0];
      if (toRow >= size[0]) continue;
      for (let right = x % stride[1]; right < kernel[1] && right <= x; right += stride[1]) {
        const toColumn = (x - right) / stride[1];
        const tap = (map * kernel[0] + down) * kernel[1] + right;
        if (toColumn < size[1]) this.add(number, tap, toRow, toColumn);
      }
    }
  }

  /* Adds the weights of an input to the potentials of all features at a position. */
  add(number, tap, row, column) {
    const { features, weights, limits, synapses, size } = this.network.layers[number];
    const potentials = this.potentials[number];
    const latencies = this.latencies[number + 1];
    const position = row * size[1] + column;
    const first = position * features;
    this.operationCount += synapses[tap];
    for (let feature = 0; feature < features; ++feature) {
      const potential = (potentials[first + feature] += weights[tap * features + feature]);
      if (potential <= limits[feature]) continue;
      const neuron = feature * size[0] * size[1] + position;
      if (latencies[neuron] < this.network.steps) continue;
      latencies[neuron] = this.step;
      this.fire(number, feature, row, column);
    }
  }

  /* A neuron fires: its spike passes the windows of the pooling that no earlier one has passed. */
  fire(number, feature, row, column) {
    const { margin, window, window_stride: stride, output } = this.network.layers[number];
    this.counts[number + 1] += 1;
    if (number === this.network.layers.length - 1) return;
    const y = row + margin[0];
    const x = column + margin[1];
    const top = Math.max(Math.ceil((y - window[0] + 1) / stride[0]), 0);
    const left = Math.max(Math.ceil((x - window[1] + 1) / stride[1]), 0);
    for (let toRow = top; toRow < output[0] && toRow * stride[0] <= y; ++toRow) {
      for (let toColumn = left; toColumn < output[1] && toColumn * stride[1] <= x; ++toColumn) {
        const cell = (feature * output[0] + toRow) * output[1] + toColumn;
        if (this.pooled[number][cell]) continue;
        this.pooled[number][cell] = 1;
        this.receive(number + 1, feature, toRow, toColumn);
      }
    }
  }

  /* Without thresholds, neurons of the readout whose potential is above 0 fire at the last step. */
  fireAtLast() {
    const last = this.network.layers.length;
    for (const { limit, index, place } of this.network.readout) {
      if (limit < Infinity || this.potentials[last - 1][index] === 0) continue;
      this.latencies[last][place] = this.step;
      this.counts[last] += 1;
    }
  }

  /* The first spike of the readout decides. */
  decide() {
    const { steps, decision, readout, layers } = this.network;
    const latencies = this.latencies[layers.length];
    const fired = readout.filter(({ place }) => latencies[place] === this.step);
    if (decision.timed && fired.length) this.choose(fired);
    if (this.decision < 0 && this.step === steps - 1 && decision.fallback) this.choose(readout);
  }

  /* The class of the neuron of the largest potential above 0, among equals the lowest class. */
  choose(neurons) {
    const potentials = this.potentials[this.network.layers.length - 1];
    let largest = 0;
    for (const { label, index } of neurons) {
      const potential = potentials[index];
      if (potential < largest || potential === 0 || (potential === largest && label >= this.decision)) continue;
      largest = potential;
      this.decision = label;
      this.decisionStep = this.step;
    }
  }

  /* How near each neuron of the readout is to its spike; without thresholds, the potentials themselves. */
  sharesOfReadout() {
    const potentials = this.potentials[this.network.layers.length - 1];
    return this.network.readout.map(({ limit, index }) => {
      return limit < Infinity ? Math.min(potentials[index] / (limit + 1), 1) : potentials[index];
    });
  }

  result() {
    const { decision, decisionStep: step, latencies, spikes, operations, shares: potentials } = this;
    return { decision, step, latencies, spikes, operations, potentials };
  }
}

/* Latencies without a share of the spikes; a larger share erases the same spikes and more. */
function erase(latencies, share, silent) {
  let state = 1;
  return latencies.map((latency) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 < share ? silent : latency;
  });
}
