"use strict";

/* Lessons as files that `snnjax.load` reads, .npz: NumPy arrays in a zip file, not compressed. Nothing here needs a
 * page. An array is { dtype, shape, bytes }. */

const LOCAL = 0x04034b50; // the signatures of the parts of a zip file
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const VERSION = 20;
const UTF8 = 0x800;
const DAY = 33; // the first of 1980, so that a lesson always makes the same file
const ALIGNMENT = 64; // of what an .npy file holds

/* The bytes of the file of a lesson. */
async function fileOf(network, lesson) {
  const neurons = lesson.classes.flatMap((each) => each.neurons);
  const { file, readout } = network;
  const arrays = {};
  for (const [name, { data, ...kind }] of Object.entries(file.arrays)) arrays[name] = { ...kind, bytes: bytesOf(data) };
  arrays[file.weights] = floatArray([neurons.length, ...readout.input], neurons.map(({ weights }) => weights));
  arrays[file.threshold] = floatArray([neurons.length], neurons.map(({ threshold }) => [threshold]));
  arrays[file.wins] = floatArray([neurons.length], neurons.map(({ wins }) => [wins]));
  arrays.pictures = picturesOf(network, neurons);
  arrays.meta = byteArray(new TextEncoder().encode(metaOf(network, lesson)));
  arrays.checksum = byteArray(await digestOf(arrays));
  return zipped(Object.entries(arrays).map(([name, array]) => [`${name}.npy`, npyOf(array)]));
}

/* The lesson of the file of a lesson of the same network; raises an error for others. */
async function lessonOf(network, bytes) {
  const contents = unzipped(bytes);
  const { file, readout } = network;
  const meta = JSON.parse(new TextDecoder().decode(contents["meta.npy"]));
  const [weights, thresholds, wins] = [file.weights, file.threshold, file.wins].map((name) => {
    return new Float32Array(contents[`${name}.npy`].slice().buffer);
  });
  const inputs = weights.length / wins.length;
  const pixels = contents["pictures.npy"].length / wins.length;
  const neurons = Array.from(wins, (count, index) => ({
    weights: weights.slice(index * inputs, (index + 1) * inputs),
    threshold: thresholds[index],
    wins: count,
    picture: count ? Float32Array.from(contents["pictures.npy"].slice(index * pixels, (index + 1) * pixels)) : null,
  }));
  const classes = meta.class_names.map((name, label) => {
    return { name, neurons: neurons.slice(label * readout.per_class, (label + 1) * readout.per_class) };
  });
  const { stages } = meta.network;
  const lesson = { length: stages[stages.length - 1].branches[0].learners.length, classes, right: [] };
  const same = await fileOf(network, lesson);
  if (same.length !== bytes.length || same.some((value, index) => value !== bytes[index])) throw new Error("another");
  return lesson;
}

/* The JSON data of the file: the description of the network with the classes of a lesson. */
function metaOf({ file, readout }, { classes, length }) {
  const numbers = {
    features: readout.per_class * classes.length,
    classes: classes.length,
    class_names: JSON.stringify(classes.map(({ name }) => name)),
    length: Number.isInteger(length) ? length.toFixed(1) : length, // a float in Python, too
  };
  return file.meta.replace(/"@(\w+)"/g, (text, name) => numbers[name]);
}

/* The mean pictures of neurons; Python needs none of them, a lesson that goes on shows them. */
function picturesOf({ picture, colour }, neurons) {
  const shape = [neurons.length, ...picture, ...(colour ? [3] : [])];
  const pixels = shape.slice(1).reduce((product, count) => product * count);
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

const tupleOf = (shape) => (shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);

/* The SHA-256 of arrays with their names, dtypes and shapes, as snnjax checks it. */
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
    const rest = packed([2, 2, 2, 4, 4], [0, 0, 0, 0, offset]); // the last one says where the entry begins
    directory.push(chained([packed([4, 2], [CENTRAL, VERSION]), packed(sizes, facts), rest, encoded]));
    parts.push(entry);
    offset += entry.length;
  }
  const listed = chained(directory);
  const counts = [END, 0, 0, entries.length, entries.length, listed.length, offset, 0];
  return chained([...parts, listed, packed([4, 2, 2, 2, 2, 4, 4, 2], counts)]);
}

/* The contents of the arrays of such a file, without their headers, by name. */
function unzipped(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const contents = {};
  for (let start = 0; view.getUint32(start, true) === LOCAL; ) {
    const [size, named] = [view.getUint32(start + 18, true), view.getUint16(start + 26, true)];
    const data = start + 30 + named;
    const name = new TextDecoder().decode(bytes.subarray(start + 30, data));
    contents[name] = bytes.subarray(data + 10 + view.getUint16(data + 8, true), data + size);
    start = data + size;
  }
  return contents;
}

/* Numbers of so many bytes each, the lowest byte first. */
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
