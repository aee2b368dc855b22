"use strict";

/* Drawing and controls of the page on which a network decides. */

const last = network.end - 1;
const readout = network.layers[network.layers.length - 1];
const SECONDS = 6; // of a whole run
const JUMPS = 12; // steps of a run if the user prefers reduced motion
const RUNNERS = 100; // the largest number of readout neurons that are shown

/* The state of the page: the picture and its label (-1 if drawn), the network's response, and the step shown. */
const state = { picture: null, label: -1, run: null, step: 0, play: null, erased: 0, milliseconds: 0, layers: [] };

/* The network's response to a picture, played from the beginning or, without `play`, shown when it decides. */
function present(picture, label, play) {
  state.picture = picture;
  state.label = label;
  const begun = performance.now();
  state.run = picture && simulate(network, erase(encode(network, picture), state.erased / 100, network.steps));
  state.milliseconds = performance.now() - begun;
  if (state.run) state.run.runners = makeRunners(state.run);
  state.step = 0;
  if (play && state.run && !reduced.matches) start();
  else show(state.run ? state.run.step : last);
}

/* Time */

/* Plays until the decision, then until the last step, and then from the beginning again. */
function start() {
  const { step, run } = state;
  const from = step < last ? step : 0;
  const to = from < run.step ? run.step : last;
  const play = { from, to, begun: performance.now() };
  state.play = play;
  element("play").textContent = "Pause";
  requestAnimationFrame((now) => tick(play, now));
}

function stop() {
  state.play = null;
  element("play").textContent = "Play";
}

function tick(play, now) {
  if (state.play !== play) return;
  let share = Math.max(now - play.begun, 0) / (SECONDS * 1000);
  if (reduced.matches) share = Math.floor(share * JUMPS) / JUMPS;
  const step = Math.min(play.from + Math.round(share * last), play.to);
  paint(step);
  if (step < play.to) requestAnimationFrame((later) => tick(play, later));
  else stop();
}

/* Stops playing and shows a step. */
function show(step) {
  stop();
  paint(step);
}

function paint(step) {
  state.step = step;
  element("time").value = step;
  element("play").disabled = !state.run;
  const words = `step ${step} of ${number(network.end)}`;
  element("time").setAttribute("aria-valuetext", words);
  element("clock").textContent = state.run ? `${words}; computed in ${Math.ceil(state.milliseconds)} ms` : words;
  paintDecision();
  paintRace();
  paintTimeline();
  state.layers.forEach(paintLayer);
}

/* The decision */

function paintDecision() {
  const { run, step } = state;
  const decided = run && step >= run.step;
  const name = decided && run.decision >= 0 ? network.classes[run.decision] : "–";
  write("decision", name);
  element("decision").className = name.length > 3 ? "long" : "";
  write("result", !run ? "The sheet is empty." : decided ? resultText(run) : "No decision yet.");
}

function resultText({ decision, step, spikes, operations }) {
  if (decision < 0) return "The network stays silent: no neuron of its last layer fires.";
  const neurons = spikes.slice(1).reduce((sum, counts) => sum + counts[step], 0);
  const cost = `${number(spikes[0][step])} spikes of the input, ${number(neurons)} of neurons and ` +
    `${number(operations[step])} synaptic operations`;
  const labelled = network.classes[state.label];
  const right = state.label < 0 ? "" : state.label === decision ? " Right." : ` Wrong: it is labelled ${labelled}.`;
  return `Decided for ${network.classes[decision]} at step ${step} of ${number(network.end)}, after ${cost}.${right}`;
}

/* A lane for each class, in which a mark for each of its neurons moves to the right, towards the threshold. */
function makeRace() {
  for (const name of network.classes) {
    const lane = document.createElement("li");
    lane.innerHTML = '<span class="name"></span><canvas></canvas><span class="value"></span>';
    lane.firstChild.textContent = name;
    element("race").append(lane);
  }
}

/* The readout neurons that are shown, those with the largest potentials, by class. */
function makeRunners(run) {
  const strength = (neuron) => shareOf(run, neuron, last);
  const sorted = [...network.readout].sort((one, other) => strength(other) - strength(one));
  const { winner } = run;
  const shown = sorted.slice(0, RUNNERS);
  return { winner, shown: winner && !shown.includes(winner) ? [...shown, winner] : shown };
}

/* The step at which a readout neuron fires, with a fraction if times are fractional; `network.end` if it is silent. */
function stepOf(run, neuron) {
  if (network.decision.fractional) return readout.begin + network.steps * crossing(network, run, neuron).time;
  return readout.begin + run.latencies[network.layers.length][neuron.place];
}

/* How close a readout neuron is to firing at a step, as a share; its potential if times do not matter. */
function shareOf(run, { index, limit }, step) {
  if (step < readout.begin) return 0;
  const potential = run.potentials[step - readout.begin][index];
  return network.decision.timed ? Math.min(potential / (limit + 1), 1) : potential;
}

function paintRace() {
  const { run, step } = state;
  const scale = largestShare();
  [...element("race").children].forEach((lane, label) => {
    const neurons = run ? run.runners.shown.filter((neuron) => neuron.label === label) : [];
    const shares = neurons.map((neuron) => shareOf(run, neuron, step));
    const first = Math.min(network.end, ...neurons.map((neuron) => stepOf(run, neuron)));
    const decided = run && run.decision === label && step >= run.step;
    const fired = network.decision.timed && Math.floor(first) <= step;
    const most = Math.max(0, ...shares);
    lane.className = decided ? "decided" : "";
    const potential = network.decision.timed ? `${Math.floor(100 * most)} %` : number(most);
    const when = network.decision.fractional ? first.toFixed(2) : first;
    lane.lastChild.textContent = fired ? `step ${when}` : potential;
    paintRunners(lane.children[1], shares.map((share) => share / scale), decided ? "fresh" : "early");
  });
}

/* The value at the right end of the lanes: that of a spike, or the largest potential. */
function largestShare() {
  const { run } = state;
  return network.decision.timed || !run ? 1 : Math.max(1, ...network.readout.map((each) => shareOf(run, each, last)));
}

function paintRunners(canvas, shares, shade) {
  const { pen, width, height } = penOf(canvas);
  pen.fillStyle = colour("silent");
  pen.fillRect(0, height / 2 - 4, width, 8);
  pen.fillStyle = colour(shade);
  pen.globalAlpha = 0.25;
  pen.fillRect(0, height / 2 - 4, width * Math.max(0, ...shares), 8);
  pen.globalAlpha = 0.85;
  for (const share of shares) pen.fillRect((width - 3) * share, height / 2 - 6, 3, 12);
}

/* The colour of a neuron at a step of its window, by its latency. */
function palette(step) {
  const { steps } = network;
  const [early, late, fresh, silent] = ["early", "late", "fresh", "silent"].map(channels);
  return Uint32Array.from({ length: steps + 1 }, (_, latency) => {
    if (latency > step || latency === steps) return pixel(silent);
    if (step < steps - 1 && step - latency <= steps / 40) return pixel(fresh);
    const share = latency / Math.max(steps - 1, 1);
    return pixel(early.map((value, channel) => Math.round(value + share * (late[channel] - value))));
  });
}

/* The timeline: the spikes of each layer at each step, and below them the potentials of the readout. */

function paintTimeline() {
  const { pen, width, height } = penOf(element("timeline"));
  const lanes = network.layers.length;
  const laneHeight = (height * 0.5) / lanes;
  const x = (step) => 8 + ((width - 16) * step) / Math.max(last, 1); // aligned with the thumb of the slider
  for (let part = 0; part < lanes; ++part) paintLane(pen, x, part, laneHeight);
  paintLines(pen, x, height * 0.5, height);
  pen.fillStyle = colour("line");
  for (let begin = network.steps; begin < network.end; begin += network.steps) pen.fillRect(x(begin), 0, 1, height);
  pen.fillStyle = colour("soft");
  pen.fillRect(x(state.step), 0, 1, height);
}

function paintLane(pen, x, part, laneHeight) {
  const bottom = (part + 1) * laneHeight - 4;
  pen.fillStyle = colour("soft");
  const name = part ? network.layers[part - 1].name : "input";
  const counts = state.run ? state.run.spikes[part] : new Uint32Array(network.steps);
  pen.fillText(`${name}: ${number(counts[state.step])} spikes`, 8, bottom - laneHeight + 16);
  const each = counts.map((count, step) => count - (step ? counts[step - 1] : 0));
  const most = Math.max(1, ...each);
  const width = Math.max(1, x(1) - x(0) - 1);
  each.forEach((count, step) => {
    const tall = ((laneHeight - 22) * count) / most;
    pen.fillStyle = colour(step > state.step ? "silent" : "early");
    pen.fillRect(x(step) - width / 2, bottom - tall, width, tall);
  });
  pen.fillStyle = colour("line");
  pen.fillRect(x(0), bottom, x(last) - x(0), 1);
}

/* The potentials of the readout over time. */
function paintLines(pen, x, top, bottom) {
  const { run, step } = state;
  pen.fillStyle = colour("soft");
  pen.fillText("readout potentials", 8, top + 16);
  pen.fillStyle = colour("line");
  pen.fillRect(x(0), top + 26, x(last) - x(0), 1);
  if (!run) return;
  const scale = largestShare();
  const y = (share) => bottom - 6 - ((bottom - top - 32) * share) / scale;
  const { winner, shown } = run.runners;
  const line = (neuron) => {
    pen.beginPath();
    for (let time = readout.begin; time <= step; ++time) pen.lineTo(x(time), y(shareOf(run, neuron, time)));
    pen.stroke();
  };
  pen.strokeStyle = colour("late");
  pen.lineWidth = 1;
  shown.forEach(line);
  if (!winner || step < run.step) return;
  pen.strokeStyle = pen.fillStyle = colour("fresh");
  pen.lineWidth = 2.5;
  line(winner);
  pen.beginPath();
  const height = y(shareOf(run, winner, run.step));
  pen.arc(x(run.step), height, 4.5, 0, 2 * Math.PI);
  pen.fill();
  pen.font = "600 15px system-ui, sans-serif";
  pen.fillStyle = colour("first");
  pen.textAlign = "right";
  pen.fillText(network.classes[winner.label], x(run.step) - 9, height - 6);
}

/* Maps: all features of a layer side by side, with a pixel for each neuron, or what each feature sees. */

function makeLayers() {
  const inputs = { name: "input", size: network.input.slice(1), features: network.input[0], begin: 0, seen: null };
  [inputs, ...network.layers.slice(0, -1)].forEach((layer, part) => {
    const box = document.createElement("div");
    const neurons = `${layer.features} maps of ${layer.size.join(" × ")}`;
    box.innerHTML = '<h2></h2><canvas class="tiles" role="img"></canvas>';
    box.firstChild.textContent = `${layer.name}: ${neurons}`;
    const canvas = box.querySelector("canvas");
    canvas.setAttribute("aria-label", `${layer.name}, ${neurons}, coloured by spike time`);
    element("maps").append(box);
    const seen = layer.seen && shadesOf(bytesOf(layer.seen.pixels));
    const view = { part, canvas, layer, feature: 0, sees: false, seen };
    if (view.seen) makeFeature(view, box);
    state.layers.push(view);
  });
}

/* The controls of a layer: the chosen feature, and whether to show what each feature sees. */
function makeFeature(view, box) {
  const controls = document.createElement("div");
  controls.className = "feature";
  controls.innerHTML = '<canvas role="img"></canvas><div><label></label><p class="row"></p></div>';
  const [picture, words] = controls.children;
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, value: 0 });
  slider.max = view.layer.features - 1;
  const text = document.createElement("span");
  words.querySelector("label").append(text, slider);
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "What features see" });
  button.setAttribute("aria-pressed", "false");
  words.querySelector("p").append(button);
  box.append(controls);
  Object.assign(view, { slider, text, picture });
  slider.addEventListener("input", () => choose(view, Number(slider.value)));
  button.addEventListener("click", () => {
    view.sees = !view.sees;
    button.setAttribute("aria-pressed", view.sees);
    paintLayer(view);
  });
  const look = (event) => choose(view, featureAt(view, event));
  for (const type of ["pointermove", "pointerdown"]) view.canvas.addEventListener(type, look);
}

function choose(view, feature) {
  if (feature < 0 || feature >= view.layer.features || feature === view.feature) return;
  view.feature = view.slider.value = feature;
  paintLayer(view);
}

function featureAt(view, event) {
  const { perRow, height, width, zoom } = view.grid;
  const row = Math.floor(event.offsetY / zoom / (height + 1));
  return row * perRow + Math.min(Math.floor(event.offsetX / zoom / (width + 1)), perRow - 1);
}

/* The layout in which tiles are as large as possible in a given width: tiles per row, and screen pixels per pixel. */
function gridOf(count, [height, width], space) {
  const fit = (zoom) => {
    const perRow = Math.max(Math.min(count, Math.floor((space / zoom - 1) / (width + 1))), 1);
    return { perRow, rows: Math.ceil(count / perRow), height, width, zoom };
  };
  const most = Math.min(1.1 * space, 480);
  const fits = ({ perRow, rows, zoom }) => perRow >= Math.min(count, 2) && rows * (height + 1) * zoom <= most;
  return [6, 5, 4, 3, 2].map(fit).find(fits) || fit(1);
}

function paintLayer(view) {
  const { layer, part } = view;
  const size = view.sees ? layer.seen.size : layer.size;
  view.grid = gridOf(layer.features, size, view.canvas.parentElement.clientWidth);
  const colours = palette(state.step - layer.begin);
  const silent = new Uint16Array(layer.features * size[0] * size[1]).fill(network.steps);
  const latencies = state.run ? state.run.latencies[part] : silent;
  const shades = view.sees ? view.seen : Uint32Array.from(latencies, (latency) => colours[latency]);
  paintTiles(view.canvas, view.grid, shades, view.seen ? view.feature : -1);
  if (view.seen) paintFeature(view);
}

/* Draws tiles with lines of one pixel between them; the tile of the chosen feature has a frame. */
function paintTiles(canvas, { perRow, rows, height, width, zoom }, shades, framed) {
  canvas.width = perRow * (width + 1) + 1;
  canvas.height = rows * (height + 1) + 1;
  canvas.style.width = `${canvas.width * zoom}px`;
  const image = new ImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const area = height * width;
  for (let tile = 0; tile < shades.length / area; ++tile) {
    const corner = Math.floor(tile / perRow) * (height + 1) * canvas.width + (tile % perRow) * (width + 1);
    for (let place = 0; place < area; ++place) {
      const at = corner + (Math.floor(place / width) + 1) * canvas.width + (place % width) + 1;
      pixels[at] = shades[tile * area + place];
    }
    if (tile === framed) frame(pixels, canvas.width, corner, height + 2, width + 2);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function frame(pixels, pitch, corner, height, width) {
  const shade = pixel(channels("fresh"));
  const bottom = corner + (height - 1) * pitch;
  for (const first of [corner, bottom]) pixels.fill(shade, first, first + width);
  for (let first = corner; first < bottom; first += pitch) pixels[first] = pixels[first + width - 1] = shade;
}

/* What the chosen feature sees, and its spikes so far. */
function paintFeature({ layer, part, feature, picture, text, seen, slider }) {
  const [height, width] = layer.seen.size;
  const own = seen.subarray(feature * height * width, (feature + 1) * height * width);
  paintTiles(picture, { perRow: 1, rows: 1, height, width, zoom: 1 }, own, -1);
  picture.style.width = "";
  picture.setAttribute("aria-label", `What feature ${feature + 1} of ${layer.name} sees`);
  const area = layer.size[0] * layer.size[1];
  const latencies = state.run ? state.run.latencies[part].subarray(feature * area, (feature + 1) * area) : [];
  const now = state.step - layer.begin;
  const fired = [...latencies].filter((latency) => latency <= now && latency < network.steps);
  const first = layer.begin + Math.min(...fired);
  const when = fired.length ? `${fired.length} spikes, the first at step ${first}` : "no spike";
  text.textContent = `Feature ${feature + 1} of ${layer.features}: ${when}`;
  slider.setAttribute("aria-valuetext", `feature ${feature + 1}, ${when}`);
}

/* Event handlers. */

function listen() {
  element("play").addEventListener("click", () => (state.play ? show(state.step) : state.run && start()));
  element("time").addEventListener("input", (event) => show(Number(event.target.value)));
  element("timeline").addEventListener("pointerdown", (event) => {
    const share = (event.offsetX - 8) / (element("timeline").clientWidth - 16);
    show(Math.round(Math.min(Math.max(share, 0), 1) * last));
  });
  element("erased").addEventListener("input", (event) => {
    state.erased = Number(event.target.value);
    element("erased-share").textContent = `${state.erased} %`;
    present(state.picture, state.label, false);
  });
  window.addEventListener("resize", () => paint(state.step));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(state.step));
}

function begin() {
  makeRace();
  makeLayers();
  makeSamples();
  makeSheet();
  if (network.colour) makeSources();
  listen();
  element("samples").firstChild.click();
}
