"use strict";

/* Resizing as by Pillow's `BOX`, except that bytes can differ by 1 where Pillow resizes the columns first. This code
 * does not need a page. */

/* The largest middle part of an image that has the proportions of a shape, or the whole of it, resized to the shape. */
function resized({ data, height, width }, [rows, columns], whole = false) {
  const [top, bottom] = whole ? [0, height] : middlePart(height, (width * rows) / columns);
  const [left, right] = whole ? [0, width] : middlePart(width, (height * columns) / rows);
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

/* A whole image, resized with its proportions, inside a border in the median colour of its outermost pixels. */
function padded({ data, height, width }, [rows, columns]) {
  const scale = Math.min(rows / height, columns / width);
  const [tall, wide] = [height, width].map((length) => Math.max(1, nearestInteger(scale * length)));
  const whole = resized({ data, height, width }, [tall, wide], true);
  const [top, left] = [Math.floor((rows - tall) / 2), Math.floor((columns - wide) / 2)];
  const picture = new Uint8Array(3 * rows * columns);
  for (let channel = 0; channel < 3; ++channel) {
    const at = (row, column) => whole[3 * (row * wide + column) + channel];
    const outermost = [
      ...Array.from({ length: wide }, (_, column) => [at(0, column), at(tall - 1, column)]),
      ...Array.from({ length: tall }, (_, row) => [at(row, 0), at(row, wide - 1)]),
    ].flat().sort((one, other) => one - other);
    const border = outermost[outermost.length >> 1];
    for (let place = 0; place < rows * columns; ++place) {
      const [row, column] = [Math.floor(place / columns) - top, (place % columns) - left];
      const within = row >= 0 && row < tall && column >= 0 && column < wide;
      picture[3 * place + channel] = within ? at(row, column) : border;
    }
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
