"use strict";

/* Functions that both pages of a network use. */

const element = (id) => document.getElementById(id);
const network = networkOf(JSON.parse(element("data").textContent));
const reduced = matchMedia("(prefers-reduced-motion: reduce)");

const number = (value) => value.toLocaleString("en");

function write(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text; // otherwise a screen reader would repeat it
}

/* Colours */

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function channels(name) {
  return [1, 3, 5].map((start) => parseInt(colour(name).slice(start, start + 2), 16));
}

const pixel = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;

function penOf(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "12px system-ui, sans-serif";
  return { pen, width, height };
}

/* The colours of a picture given as bytes: grey, or red, green and blue. */
function shadesOf(bytes) {
  if (!network.colour) return Uint32Array.from(bytes, (value) => pixel([value, value, value]));
  return Uint32Array.from({ length: bytes.length / 3 }, (_, place) => pixel(bytes.subarray(3 * place, 3 * place + 3)));
}
