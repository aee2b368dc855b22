"use strict";

/* Classes that are taught one picture at a time, by the rule `Prototypes` of snnjax in its first epoch, in float32.
 *
 * A lesson is { length, classes, right }: the mean length of the images, in windows; the name of each class and its
 * neurons, { weights, threshold, wins, picture }, the last one the mean of the pictures that moved its weights; and
 * whether each picture was decided correctly before it was learned. A lesson never changes: learning returns a new
 * one. This code does not need a page.
 */

const LEAST_LENGTH = 2 ** -8; // of a picture from which neurons learn, in steps; smaller lengths are rounding errors
const UNTAUGHT = { length: 0, classes: [], right: [] };

/* The inputs of the readout for a picture: what each one adds to a potential, divided by its weight. */
function inputsOf(network, picture) {
  const { input, reads, risen } = network.readout;
  const run = { latencies: [encode(network, picture)], operations: new Float64Array(network.end) };
  const outputs = outputsOf(network, run);
  return Float32Array.from(joined({ input, reads }, outputs, network.steps), (latency) => risen[latency]);
}

function withClass(network, lesson, name) {
  const { input, per_class: length } = network.readout;
  const silent = new Float32Array(input[0] * input[1] * input[2]);
  const neurons = Array.from({ length }, () => ({ weights: silent, threshold: 0, wins: 0, picture: null }));
  return { ...lesson, classes: [...lesson.classes, { name, neurons }] };
}

function withoutClass(lesson, label) {
  return { ...lesson, classes: lesson.classes.filter((_, index) => index !== label) };
}

/* The largest potential above 0 of each class, and the class of the largest of all, -1 if there is none. */
function decideBy(lesson, inputs) {
  const scores = lesson.classes.map(({ neurons }) => Math.max(0, ...potentialsOf(neurons, inputs)));
  return { scores, decision: scores.indexOf(Math.max(...scores, 2 ** -99)) };
}

function potentialsOf(neurons, inputs) {
  return neurons.map(({ weights, threshold }) => dot(weights, inputs) - threshold);
}

function dot(one, other) {
  let sum = 0;
  for (let index = 0; index < one.length; ++index) sum += one[index] * other[index];
  return sum;
}

/* The lesson after a picture of a class; the same lesson if the features see nothing in the picture. */
function learn(network, lesson, label, inputs, picture) {
  const { image, length } = imageOf(network, inputs);
  if (length * network.steps < LEAST_LENGTH) return lesson;
  const { neurons } = lesson.classes[label];
  const winner = winnerOf(network, neurons, inputs, length);
  const ofClass = neurons.reduce((sum, { wins }) => sum + wins - 1, 0) + 2; // the number of images, including this one
  const mean = Math.fround(lesson.length + (length - lesson.length) / (imagesOf(lesson) + 1));
  const moved = neurons.map((neuron, index) => {
    const rate = rateOf(neuron.wins, index === winner, ofClass);
    const weights = rate === 0 ? neuron.weights : towards(neuron.weights, image, rate);
    return {
      weights,
      threshold: Math.fround((-network.steps * mean * (1 - dot(weights, weights))) / 2),
      wins: neuron.wins + (neuron.wins === 0 || index === winner),
      picture: rate === 0 ? neuron.picture : towards(neuron.picture || picture, picture, rate),
    };
  });
  const growth = lesson.length ? mean / lesson.length : 1;
  const classes = lesson.classes.map((other, index) => {
    if (index === label) return { ...other, neurons: moved };
    return { ...other, neurons: other.neurons.map((neuron) => scaledBy(neuron, growth)) };
  });
  return { length: mean, classes, right: [...lesson.right, decideBy(lesson, inputs).decision === label] };
}

/* Inputs minus their mean over the features at each position, scaled to length 1; and the length, in windows. */
function imageOf({ steps, readout: { input: [features, rows, columns] } }, inputs) {
  const area = rows * columns;
  const image = Float64Array.from(inputs, (value) => value / steps);
  for (let position = 0; position < area; ++position) {
    let mean = 0;
    for (let index = position; index < image.length; index += area) mean += image[index] / features;
    for (let index = position; index < image.length; index += area) image[index] -= mean;
  }
  const length = Math.sqrt(dot(image, image));
  return { image: image.map((value) => value / length), length };
}

/* Of the neurons whose potentials are within `tie` of the largest, the first one of those with the fewest wins. */
function winnerOf({ steps, readout: { tie } }, neurons, inputs, length) {
  const potentials = potentialsOf(neurons, inputs);
  const least = Math.max(...potentials) - tie * steps * length;
  const wins = neurons.map((neuron, index) => (potentials[index] >= least ? neuron.wins : Infinity));
  return wins.indexOf(Math.min(...wins));
}

/* How far a neuron of the class moves. All neurons have won the first image; until a neuron wins another one, it is the
 * mean of all images of the class. */
function rateOf(wins, won, ofClass) {
  if (wins === 0) return 1;
  if (won) return 1 / (wins + 1);
  return wins === 1 ? 1 / ofClass : 0;
}

function towards(values, goal, rate) {
  return values.map((value, index) => value + rate * (goal[index] - value));
}

function scaledBy(neuron, factor) {
  return { ...neuron, threshold: Math.fround(neuron.threshold * factor) };
}

/* The number of images that a lesson has learned; the first image of a class counts for all of its neurons. */
function imagesOf({ classes }) {
  return classes.reduce((sum, { neurons }) => sum + imagesOfClass(neurons), 0);
}

function imagesOfClass(neurons) {
  if (neurons[0].wins === 0) return 0;
  return neurons.reduce((sum, { wins }) => sum + wins, 1 - neurons.length);
}
