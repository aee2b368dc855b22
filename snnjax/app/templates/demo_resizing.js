"use strict";

/* Pictures in other sizes, as Pillow resizes them by `BOX`, but for roundings to the next byte where it goes through
 * the columns first. Nothing here needs a page. */

/* The largest middle part of an image that has the proportions of a shape, resized to it. */
function cropped({ data, height, width }, [rows, columns]) {
  const [top, bottom] = middlePart(height, (width * rows) / columns);
  const [left, right] = middlePart(width, (height * columns) / rows);
  const picture = new Uint8Array(3 * rows * columns);
  for (let channel = 0; channel < 3; ++channel) {
    const plane = Float32Array.from({ length: height * width }, (_, index) => data[4 * index + channel]);
    const narrow = resize(plane, [height, width], columns, left, right, true);
    const turned = transpose(narrow, height, columns);
    const small = resize(turned, [columns, height], rows, top, bottom, true);
    transpose(small, columns, rows).forEach((value, place) => { picture[3 * place + channel] = value; });
  }
  return picture;
}

/* Where the middle of a length begins and ends, as large as is wanted or as there is; in float32, as in Pillow. */
function middlePart(length, wanted) {
  const part = Math.min(length, wanted);
  const start = (length - part) / 2;
  return [Math.fround(start), Math.fround(start + part)];
}

function resizeBoth(values, [height, width], [rows, columns]) {
  const narrow = resize(values, [height, width], columns);
  return transpose(resize(transpose(narrow, height, columns), [columns, height], rows), columns, rows);
}

/* A part of each row, from `start` to `stop`, resized to a length: each value is the mean of the pixels whose middle
 * lies in it, or the nearest pixel. `bytes` are rounded, as Pillow does: its weights have 22 bits. */
function resize(values, [rows, columns], length, start = 0, stop = columns, bytes = false) {
  const scale = Math.fround(stop - start) / length;
  const reach = Math.max(scale, 1) / 2;
  return Float32Array.from({ length: rows * length }, (_, index) => {
    const middle = start + ((index % length) + 0.5) * scale;
    const first = Math.max(Math.floor(middle - reach + 0.5), 0);
    let end = Math.min(Math.floor(middle + reach + 0.5), columns);
    if ((end - 1 - middle + 0.5) * (1 / (2 * reach)) > 0.5) --end; // by rounding alone, as in Pillow
    const row = Math.floor(index / length) * columns;
    let sum = 0;
    for (let column = first; column < end; ++column) sum += values[row + column];
    return bytes ? Math.floor((sum * Math.round(2 ** 22 / (end - first)) + 2 ** 21) / 2 ** 22) : sum / (end - first);
  });
}

function transpose(values, rows, columns) {
  return values.map((_, index) => values[(index % rows) * columns + Math.floor(index / rows)]);
}
