"use strict";

/* Drawing and controls of the page on which a network is taught. */

const RECENT = 10; // the number of pictures over which the accuracy is averaged
const MOST_UNDONE = 100; // the number of earlier lessons that are kept

/* The state of the page: the picture with the inputs of the readout, whether it has been learned, the lesson, earlier
 * lessons with what was then done to them, and the lesson that was last saved or opened. */
const state = { picture: null, inputs: null, learned: false, milliseconds: 0, lesson: UNTAUGHT, past: [], saved: UNTAUGHT };

/* The network's response to a picture; its label, if any, is not used. */
function present(picture) {
  const begun = performance.now();
  state.picture = picture;
  state.inputs = picture && inputsOf(network, picture);
  state.learned = false;
  state.milliseconds = performance.now() - begun;
  paintDecision();
  write("result", advice());
}

function advice() {
  const { inputs, lesson, milliseconds } = state;
  if (!lesson.classes.length) return "Name a class to begin, or several.";
  if (!inputs) return "The sheet is empty: draw or pick a picture.";
  const { decision } = decideBy(lesson, inputs);
  const time = `It took ${Math.ceil(milliseconds)} ms.`;
  const reason = imagesOf(lesson) ? "no class responds to this picture" : "no class has been taught";
  if (decision < 0) return `No decision: ${reason}. ${time} Press the right class.`;
  return `Decided for ${lesson.classes[decision].name}. ${time} Press the right class, and it learns.`;
}

/* Lessons */

/* Continues with another lesson, which can be undone. `done` says what was done to the earlier one. */
function proceed(lesson, done) {
  state.past = [...state.past.slice(1 - MOST_UNDONE), { earlier: state.lesson, done }];
  continueWith(lesson);
}

function undo() {
  const { earlier, done } = state.past.pop();
  state.learned = false;
  continueWith(earlier);
  write("result", `Undone: ${done}.`);
}

function continueWith(lesson) {
  const before = state.lesson;
  state.lesson = lesson;
  if (namesOf(lesson) !== namesOf(before)) makeClasses();
  lesson.classes.forEach((one, label) => paintClass(label, before.classes[label]));
  element("undo").disabled = !state.past.length;
  element("save").disabled = !lesson.classes.length;
  paintDecision();
  paintProgress();
}

const namesOf = ({ classes }) => JSON.stringify(classes.map(({ name }) => name));

function teach(label) {
  const { lesson, inputs, picture, learned } = state;
  const { name } = lesson.classes[label];
  if (!picture) return write("result", "The sheet is empty: draw or pick a picture first.");
  if (learned) return write("result", "It has already learned this picture. Undo that, or show it another one.");
  const begun = performance.now();
  const { decision } = decideBy(lesson, inputs);
  const next = learn(network, lesson, label, inputs, picture);
  if (next === lesson) return write("result", "The features see nothing in this picture.");
  const time = `${Math.ceil(performance.now() - begun)} ms`;
  proceed(next, `the picture learned as ${name}`);
  state.learned = true;
  sheet.over = sheet.drawn;
  sheet.drawn = false;
  const before = decision < 0 ? "had not decided" : `had decided for ${lesson.classes[decision].name}`;
  write("result", `Learned as ${name} in ${time}. Before that it ${before}.`);
}

function nameClass(event) {
  event.preventDefault();
  const name = element("name").value.normalize("NFC").trim();
  const problem = problemOf(name);
  write("problem", problem);
  if (problem) return;
  element("name").value = "";
  proceed(withClass(network, state.lesson, name), `the new class ${name}`);
  write("result", advice());
}

/* Why a class cannot have a name; nothing if it can. Python accepts all names that are allowed here. */
function problemOf(name) {
  if (!name) return "Type a name.";
  if (state.lesson.classes.some((each) => each.name === name)) return `There is already a class ${name}.`;
  if (name === "(silent)" || /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u.test(name)) return "Use a name of plain characters.";
  return "";
}

function forget(label) {
  const { name } = state.lesson.classes[label];
  proceed(withoutClass(state.lesson, label), `${name} forgotten`);
  element("undo").focus(); // the button that was pressed no longer exists
  write("result", `${name} is forgotten.`);
}

/* The classes: a button for each one, the strength of its response, and its neurons. */

function makeClasses() {
  element("classes").replaceChildren(...state.lesson.classes.map(({ name, neurons }, label) => {
    const row = document.createElement("li");
    row.innerHTML = '<button type="button" class="teach"><span class="name"></span><span class="count"></span></button>' +
      '<canvas class="strength"></canvas><button type="button" class="forget">×</button><div class="neurons"></div>';
    row.querySelector(".name").textContent = name;
    row.querySelector(".forget").setAttribute("aria-label", `Forget ${name}`);
    row.querySelector(".teach").addEventListener("click", () => teach(label));
    row.querySelector(".forget").addEventListener("click", () => forget(label));
    row.querySelector(".neurons").innerHTML = "<span><canvas></canvas></span>".repeat(neurons.length);
    return row;
  }));
}

function paintClass(label, before) {
  const row = element("classes").children[label];
  const { name, neurons } = state.lesson.classes[label];
  const count = imagesOfClass(neurons);
  row.querySelector(".count").textContent = number(count);
  row.querySelector(".teach").setAttribute("aria-label", `It is ${name}; ${count} learned`);
  [...row.querySelector(".neurons").children].forEach((tile, index) => {
    const neuron = neurons[index];
    const shown = neuron.picture || new Float32Array(network.picture[0] * network.picture[1] * (network.colour ? 3 : 1));
    paintPicture(tile.firstChild, Uint8Array.from(shown, Math.round));
    tile.firstChild.hidden = !neuron.picture;
    while (tile.children.length > 1) tile.lastChild.remove();
    const earlier = before && before.name === name && before.neurons[index];
    if (earlier && earlier.weights !== neuron.weights) lightUp(tile, earlier.weights, neuron.weights);
  });
}

/* Weights that have changed light up: a cell for each position that the readout reads. */
function lightUp(tile, before, after) {
  const [, rows, columns] = network.readout.input;
  const changes = new Float64Array(rows * columns);
  after.forEach((weight, index) => { changes[index % changes.length] += Math.abs(weight - before[index]); });
  const most = Math.max(...changes, 2 ** -99);
  const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows, className: "changes" });
  const image = new ImageData(columns, rows);
  const [red, green, blue] = channels("fresh");
  changes.forEach((change, index) => image.data.set([red, green, blue, (200 * change) / most], 4 * index));
  canvas.getContext("2d").putImageData(image, 0, 0);
  tile.append(canvas);
}

function paintDecision() {
  const { lesson, inputs } = state;
  const { scores, decision } = inputs ? decideBy(lesson, inputs) : { scores: [], decision: -1 };
  const name = decision < 0 ? "–" : lesson.classes[decision].name;
  write("decision", name);
  element("decision").className = name.length > 3 ? "long" : "";
  [...element("classes").children].forEach((row, label) => {
    row.className = label === decision ? "decided" : "";
    const { pen, width, height } = penOf(row.querySelector(".strength"));
    pen.fillStyle = colour("silent");
    pen.fillRect(0, height / 2 - 4, width, 8);
    pen.fillStyle = colour(label === decision ? "fresh" : "early");
    pen.fillRect(0, height / 2 - 4, (width * (scores[label] || 0)) / Math.max(...scores, 1), 8);
  });
}

/* Accuracy: each picture was decided before it was learned. */

function paintProgress() {
  const { right } = state.lesson;
  const recent = right.slice(-RECENT);
  const hits = recent.filter(Boolean).length;
  const percent = Math.round((100 * hits) / Math.max(recent.length, 1));
  const words = `Right: ${hits} of the last ${recent.length} (${percent} %), of ${number(right.length)} in all.`;
  write("accuracy", `Each picture is decided before it is learned. ${right.length ? words : ""}`);
  const { pen, width, height } = penOf(element("progress"));
  const x = (index) => 8 + ((width - 16) * index) / Math.max(right.length - 1, 1);
  const y = (share) => 14 + (height - 40) * (1 - share);
  pen.fillStyle = colour("soft");
  pen.fillText("100 %", 8, y(1) - 3);
  pen.fillStyle = colour("line");
  for (const share of [0, 0.5, 1]) pen.fillRect(8, y(share), width - 16, 1);
  pen.strokeStyle = colour("fresh");
  pen.lineWidth = 2.5;
  pen.beginPath();
  right.forEach((_, index) => {
    const latest = right.slice(Math.max(index + 1 - RECENT, 0), index + 1);
    pen.lineTo(x(index), y(latest.filter(Boolean).length / latest.length));
  });
  pen.stroke();
  right.forEach((decided, index) => {
    pen.fillStyle = colour(decided ? "early" : "first");
    pen.fillRect(x(index) - 1.5, height - (decided ? 18 : 8), 3, 8);
  });
}

/* Files */

async function save() {
  try {
    const bytes = await fileOf(network, state.lesson);
    const address = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    const link = Object.assign(document.createElement("a"), { href: address, download: network.file.name });
    link.click();
    state.saved = state.lesson;
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    write("problem", `Saved as ${network.file.name}.`);
  } catch {
    write("problem", "This browser can save only from pages opened as a file, from localhost or by https.");
  }
}

async function openLesson(file) {
  if (!file) return;
  try {
    const lesson = await lessonOf(network, new Uint8Array(await file.arrayBuffer()));
    proceed(lesson, `${file.name} opened`);
    state.saved = lesson;
    write("problem", "");
    const drawn = lesson.classes.every(({ neurons }) => neurons.every(({ wins, picture }) => picture || !wins));
    write("result", `${file.name} is opened.${drawn ? "" : " It has no pictures of what was learned in Python."}`);
  } catch (error) {
    const reason = error instanceof Refused ? error.message : "is not a network that was taught on this page";
    write("problem", `${file.name} ${reason}.`);
  }
  element("lesson").value = ""; // so that the same file can be opened again
}

function repaint() {
  paintDecision();
  paintProgress();
}

function begin() {
  makeSamples();
  makeSheet();
  if (network.colour) makeSources();
  element("new-class").addEventListener("submit", nameClass);
  element("undo").addEventListener("click", undo);
  element("save").addEventListener("click", save);
  element("open-lesson").addEventListener("click", () => element("lesson").click());
  element("lesson").addEventListener("change", () => openLesson(element("lesson").files[0]));
  window.addEventListener("resize", repaint);
  window.addEventListener("beforeunload", (event) => {
    const { lesson, saved } = state;
    if (lesson !== saved && lesson.classes.length) event.preventDefault(); // the browser asks
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  continueWith(UNTAUGHT);
  present(null);
}
