"use strict";

/* Lessons as .npz files that `snnjax.load` reads: NumPy arrays in a zip file without compression. This code does not
 * need a page. An array is { dtype, shape, bytes }. */

const LOCAL = 0x04034b50; // the signatures of the parts of a zip file
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const VERSION = 20;
const UTF8 = 0x800;
const DAY = 33; // the first day of 1980, so that the same lesson always gives the same file
const ALIGNMENT = 64; // of the data in an .npy file
const TOLERANCE = 0.005; // the largest error of a threshold, as a share of the mean length

class Refused extends Error {}

/* A lesson as the bytes of a file. */
async function fileOf(network, lesson) {
  const neurons = lesson.classes.flatMap((each) => each.neurons);
  const { file, readout } = network;
  const arrays = featureArrays(network);
  arrays[file.weights] = floatArray([neurons.length, ...readout.input], neurons.map(({ weights }) => weights));
  arrays[file.threshold] = floatArray([neurons.length], neurons.map(({ threshold }) => [threshold]));
  arrays[file.wins] = floatArray([neurons.length], neurons.map(({ wins }) => [wins]));
  arrays.pictures = picturesOf(network, neurons);
  arrays.right = byteArray(Uint8Array.from(lesson.right));
  arrays.meta = byteArray(new TextEncoder().encode(metaOf(network, lesson)));
  arrays.checksum = byteArray(await digestOf(arrays));
  return zipped(Object.entries(arrays).map(([name, array]) => [`${name}.npy`, npyOf(array)]));
}

/* The arrays of a file that learning does not change; the weights are computed from the integers of the layers. */
function featureArrays(network) {
  const arrays = {};
  for (const [name, { dtype, shape, data, layer, units }] of Object.entries(network.file.arrays)) {
    const bytes = data === undefined ? weightsOf(network.layers[layer], units, dtype) : bytesOf(data);
    arrays[name] = { dtype, shape, bytes };
  }
  return arrays;
}

/* The weights of a layer, (F, C, kh, kw), in the units of its features, as bytes of a dtype. */
function weightsOf({ weights, features }, units, dtype) {
  const values = dtype === "|u1" ? new Uint8Array(weights.length) : new Float32Array(weights.length);
  const inputs = weights.length / features;
  for (let feature = 0; feature < features; ++feature) {
    for (let input = 0; input < inputs; ++input) {
      values[feature * inputs + input] = weights[input * features + feature] * units[feature];
    }
  }
  return new Uint8Array(values.buffer);
}

/* The lesson in a file that this page has written, or that `Stream` has continued in Python; all other files raise an
 * error. */
async function lessonOf(network, bytes) {
  const contents = unzipped(bytes);
  const { file, readout } = network;
  const meta = JSON.parse(new TextDecoder().decode(contents.meta.bytes));
  const features = Object.entries(featureArrays(network));
  if (!agrees(JSON.parse(file.meta).network, meta.network) || !features.every(([name, one]) => same(one, contents[name]))) {
    throw new Refused("holds a different network from the one on this page: its features must be the same");
  }
  const [weights, thresholds, wins] = [file.weights, file.threshold, file.wins].map((name) => floatsIn(contents, name));
  const inputs = weights.length / wins.length;
  const neurons = Array.from(wins, (count, index) => ({
    weights: weights.slice(index * inputs, (index + 1) * inputs),
    threshold: thresholds[index],
    wins: count,
    picture: pictureIn(contents, index, wins.length),
  }));
  const classes = meta.class_names.map((name, label) => {
    return { name, neurons: neurons.slice(label * readout.per_class, (label + 1) * readout.per_class) };
  });
  if (classes.length * readout.per_class !== wins.length || inputs !== product(readout.input)) {
    throw new Refused("has a different readout from the one on this page");
  }
  const { stages } = meta.network;
  const { length } = stages[stages.length - 1].branches[0].learners;
  if (neurons.some((neuron) => isCorrected(network, neuron, length))) {
    throw new Refused("has corrected errors in Python after its first epoch, which this page cannot continue");
  }
  return { length, classes, right: Array.from(contents.right?.bytes || [], Boolean) };
}

/* Whether JSON data are as expected; "@..." stands for any value, and later versions of snnjax may add fields. */
function agrees(expected, found) {
  if (typeof expected === "string" && expected.startsWith("@")) return true;
  if (expected === null || typeof expected !== "object") return expected === found;
  if (found === null || typeof found !== "object") return false;
  return Object.keys(expected).every((key) => agrees(expected[key], found[key]));
}

function same(one, other) {
  if (!other || one.dtype !== other.dtype || one.shape.join() !== other.shape.join()) return false;
  return one.bytes.every((value, index) => value === other.bytes[index]);
}

/* The numbers of an array. Weights that are all multiples of 1/256, such as 0, are stored as bytes. */
function floatsIn(contents, name) {
  const found = contents[name];
  if (!found) return Float32Array.from(contents[`${name} * 256`].bytes, (value) => value / 256);
  return new Float32Array(found.bytes.slice().buffer);
}

/* The mean picture of a neuron; null if it has none, for example because it learned in Python. */
function pictureIn({ pictures }, index, count) {
  if (!pictures) return null;
  const pixels = pictures.bytes.length / count;
  const picture = Float32Array.from(pictures.bytes.subarray(index * pixels, (index + 1) * pixels));
  return picture.some((value) => value > 0) ? picture : null;
}

/* Whether the threshold of a neuron differs from that of a mean of images: the same condition as in `Prototypes`. */
function isCorrected({ steps }, { weights, threshold, wins }, length) {
  const missed = threshold + (steps * length * (1 - dot(weights, weights))) / 2;
  return wins > 0 && Math.abs(missed) > TOLERANCE * steps * length;
}

/* The JSON data of the file: the description of the network with the classes of a lesson. */
function metaOf({ file, readout }, { classes, length }) {
  const numbers = {
    features: readout.per_class * classes.length,
    classes: classes.length,
    class_names: JSON.stringify(classes.map(({ name }) => name)),
    length: Number.isInteger(length) ? length.toFixed(1) : length, // also a float in Python
  };
  return file.meta.replace(/"@(\w+)"/g, (text, name) => numbers[name]);
}

/* The mean pictures of neurons. Python does not need them; the page shows them when the lesson continues. */
function picturesOf({ picture, colour }, neurons) {
  const shape = [neurons.length, ...picture, ...(colour ? [3] : [])];
  const pixels = product(shape.slice(1));
  const bytes = new Uint8Array(neurons.length * pixels);
  neurons.forEach((neuron, index) => { if (neuron.picture) bytes.set(neuron.picture.map(Math.round), index * pixels); });
  return { dtype: "|u1", shape, bytes };
}

function floatArray(shape, parts) {
  const floats = Float32Array.from(parts.flatMap((part) => [...part]));
  return { dtype: "<f4", shape, bytes: new Uint8Array(floats.buffer) };
}

function byteArray(bytes) {
  return { dtype: "|u1", shape: [bytes.length], bytes };
}

const product = (counts) => counts.reduce((most, count) => most * count, 1);
const tupleOf = (shape) => (shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);

/* The SHA-256 of arrays with their names, dtypes and shapes, which snnjax checks. */
async function digestOf(arrays) {
  if (!globalThis.crypto?.subtle) throw new Error("insecure");
  const parts = Object.keys(arrays).sort().flatMap((name) => {
    const { dtype, shape, bytes } = arrays[name];
    return [new TextEncoder().encode(`${name} ${dtype} ${tupleOf(shape)}\n`), bytes];
  });
  return new Uint8Array(await crypto.subtle.digest("SHA-256", chained(parts)));
}

function npyOf({ dtype, shape, bytes }) {
  const header = `{'descr': '${dtype}', 'fortran_order': False, 'shape': ${tupleOf(shape)}, }`;
  const length = Math.ceil((header.length + 11) / ALIGNMENT) * ALIGNMENT - 10;
  const start = chained([[0x93], new TextEncoder().encode("NUMPY"), [1, 0], packed([2], [length])]);
  return chained([start, new TextEncoder().encode(`${header.padEnd(length - 1)}\n`), bytes]);
}

function zipped(entries) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, bytes] of entries) {
    const encoded = new TextEncoder().encode(name);
    const facts = [VERSION, UTF8, 0, 0, DAY, crcOf(bytes), bytes.length, bytes.length, encoded.length, 0];
    const sizes = [2, 2, 2, 2, 2, 4, 4, 4, 2, 2];
    const entry = chained([packed([4], [LOCAL]), packed(sizes, facts), encoded, bytes]);
    const rest = packed([2, 2, 2, 4, 4], [0, 0, 0, 0, offset]); // the last number is the place where the entry begins
    directory.push(chained([packed([4, 2], [CENTRAL, VERSION]), packed(sizes, facts), rest, encoded]));
    parts.push(entry);
    offset += entry.length;
  }
  const listed = chained(directory);
  const counts = [END, 0, 0, entries.length, entries.length, listed.length, offset, 0];
  return chained([...parts, listed, packed([4, 2, 2, 2, 2, 4, 4, 2], counts)]);
}

/* The arrays of an uncompressed .npz file, by name; raises an error if a checksum does not match. */
function unzipped(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let end = bytes.length - 22;
  while (view.getUint32(end, true) !== END) --end;
  const contents = {};
  let entry = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; --left) {
    const size = view.getUint32(entry + 24, true);
    const [named, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(entry + offset, true));
    const name = new TextDecoder().decode(bytes.subarray(entry + 46, entry + 46 + named));
    const local = view.getUint32(entry + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const npy = bytes.subarray(start, start + size);
    if (crcOf(npy) !== view.getUint32(entry + 16, true)) throw new Refused("is damaged");
    contents[name.replace(/\.npy$/, "")] = arrayOf(npy);
    entry += 46 + named + extra + comment;
  }
  return contents;
}

/* The array of an .npy file. */
function arrayOf(npy) {
  const start = 10 + npy[8] + 256 * npy[9];
  const header = new TextDecoder().decode(npy.subarray(10, start));
  const [, dtype] = header.match(/'descr': '([^']+)'/);
  const [, shape] = header.match(/'shape': \(([^)]*)\)/);
  return { dtype, shape: shape.split(",").filter((text) => text.trim()).map(Number), bytes: npy.subarray(start) };
}

/* Numbers as bytes, lowest byte first; `sizes` are their numbers of bytes. */
function packed(sizes, numbers) {
  return sizes.flatMap((size, index) => Array.from({ length: size }, (_, place) => (numbers[index] >>> (8 * place)) & 255));
}

function chained(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let filled = 0;
  for (const part of parts) {
    bytes.set(part, filled);
    filled += part.length;
  }
  return bytes;
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; ++bit) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  return rest;
});

/* The CRC-32 of a zip file. */
function crcOf(bytes) {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = (rest >>> 8) ^ CRC[(rest ^ byte) & 255];
  return (rest ^ 0xffffffff) >>> 0;
}
