"use strict";

/* Pictures: the test pictures of the page, drawings and, for networks with colours, files and the camera. */

const INK_WIDTH = 24; // the width of a stroke on the sheet of 280 x 280 pixels
const FAINT = 0.3; // ink up to this share of the strongest ink is ignored
const SLOW = 100; // if a decision takes more milliseconds, a stroke is decided only at its end

function makeSamples() {
  network.pictures.forEach((text, index) => {
    const picture = network.floats ? floatsOf(text) : bytesOf(text);
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const canvas = document.createElement("canvas");
    button.setAttribute("aria-label", `Test picture ${index + 1}, labelled ${network.classes[network.labels[index]]}`);
    button.setAttribute("aria-pressed", "false");
    button.append(canvas);
    paintPicture(canvas, picture);
    button.addEventListener("click", () => pick(picture, index));
    element("samples").append(button);
  });
}

function pick(picture, index) {
  stopCamera();
  press(index);
  sheet.drawn = sheet.over = false;
  paintPicture(sheet.canvas, picture);
  present(picture, network.labels[index], true);
}

function press(index) {
  [...element("samples").children].forEach((button, place) => button.setAttribute("aria-pressed", place === index));
}

/* A picture of the network's size in colour, or as ink: dark on light if most are, otherwise light on dark. */
function paintPicture(canvas, picture) {
  const [rows, columns] = network.picture;
  const image = new ImageData(columns, rows);
  if (network.colour) new Uint32Array(image.data.buffer).set(shadesOf(picture));
  else picture.forEach((value, index) => { image.data[4 * index + 3] = network.light ? 255 - value : value; });
  const small = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  small.getContext("2d").putImageData(image, 0, 0);
  if (canvas !== sheet.canvas) Object.assign(canvas, { width: columns, height: rows });
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/* drawn: whether the sheet holds a drawing; over: whether the next stroke begins a new drawing. */
const sheet = { canvas: element("sheet"), drawn: false, over: false, stroke: null, waiting: false };
sheet.pen = sheet.canvas.getContext("2d", { willReadFrequently: true });

function makeSheet() {
  const { canvas } = sheet;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    stopCamera();
    if (sheet.over || (!sheet.drawn && !network.colour)) clear(); // in colour, strokes are added to a picture
    press(-1);
    sheet.drawn = true;
    sheet.stroke = placeOf(event);
    drawTo(sheet.stroke);
  });
  canvas.addEventListener("pointermove", (event) => sheet.stroke && drawTo(placeOf(event)));
  for (const type of ["pointerup", "pointercancel"]) canvas.addEventListener(type, endStroke);
  element("clear").addEventListener("click", clear);
}

function clear() {
  sheet.over = false;
  sheet.pen.clearRect(0, 0, sheet.canvas.width, sheet.canvas.height);
  stopCamera();
  press(-1);
  present(null, -1, false);
}

function placeOf(event) {
  const scale = sheet.canvas.width / sheet.canvas.clientWidth;
  return [event.offsetX * scale, event.offsetY * scale];
}

/* Continues a stroke; the network decides at once. */
function drawTo(place) {
  const { pen } = sheet;
  pen.lineWidth = INK_WIDTH;
  if (network.colour) pen.strokeStyle = element("ink").value;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...sheet.stroke);
  pen.lineTo(...place);
  pen.stroke();
  sheet.stroke = place;
  if (sheet.waiting) return;
  sheet.waiting = true;
  requestAnimationFrame(() => {
    sheet.waiting = false;
    if (sheet.stroke && state.milliseconds < SLOW) present(drawnPicture(), -1, false);
  });
}

function endStroke() {
  if (!sheet.stroke) return;
  sheet.stroke = null;
  present(drawnPicture(), -1, true);
}

/* The drawing as a picture for the network; null if the sheet is empty. */
function drawnPicture() {
  const { width, height } = sheet.canvas;
  if (network.colour) return fitted(sheet.canvas);
  const colours = sheet.pen.getImageData(0, 0, width, height).data;
  const ink = Float32Array.from({ length: width * height }, (_, index) => colours[4 * index + 3]);
  const picture = network.centred ? handwriting(ink, height, width, network.picture) : scaled(ink, height, width);
  return network.light && picture ? picture.map((value) => 255 - value) : picture;
}

/* Ink as a picture of 0 to 255, not centred. */
function scaled(ink, sheetRows, sheetColumns) {
  if (!boxOf(ink, sheetRows, sheetColumns)) return null;
  return Uint8Array.from(resizeBoth(ink, [sheetRows, sheetColumns], network.picture), nearestInteger);
}

/* Ink as a picture of 0 to 255, prepared like handwriting in snnjax: scaled to a box, with its centre of mass in the
 * middle. */
function handwriting(ink, sheetRows, sheetColumns, shape) {
  const most = ink.reduce((largest, value) => Math.max(largest, value), 1);
  const strong = ink.map((value) => (value / most > FAINT ? value / most : 0));
  const box = boxOf(strong, sheetRows, sheetColumns);
  if (!box) return null;
  const height = box.bottom - box.top + 1;
  const width = box.right - box.left + 1;
  const cut = Float32Array.from({ length: height * width }, (_, index) => {
    return strong[(box.top + Math.floor(index / width)) * sheetColumns + box.left + (index % width)];
  });
  const scale = nearestInteger((20 / 28) * Math.min(...shape)) / Math.max(height, width);
  const [rows, columns] = [height, width].map((length) => Math.max(1, nearestInteger(scale * length)));
  return centre(resizeBoth(cut, [height, width], [rows, columns]), [rows, columns], shape);
}

/* The first and the last row and column with ink; null if there is no ink. */
function boxOf(ink, rows, columns) {
  const box = { top: rows, bottom: -1, left: columns, right: -1 };
  for (let index = 0; index < ink.length; ++index) {
    if (ink[index] === 0) continue;
    const row = Math.floor(index / columns);
    const column = index % columns;
    box.top = Math.min(box.top, row);
    box.bottom = Math.max(box.bottom, row);
    box.left = Math.min(box.left, column);
    box.right = Math.max(box.right, column);
  }
  return box.bottom < 0 ? null : box;
}

function centre(small, [rows, columns], [height, width]) {
  const most = small.reduce((largest, value) => Math.max(largest, value), 0);
  const total = small.reduce((sum, value) => sum + value, 0);
  const mean = (place) => small.reduce((sum, value, index) => sum + value * (place(index) + 0.5), 0) / total;
  const top = nearestInteger(height / 2 - mean((index) => Math.floor(index / columns)));
  const left = nearestInteger(width / 2 - mean((index) => index % columns));
  const firstRow = Math.min(Math.max(top, 0), height - rows);
  const firstColumn = Math.min(Math.max(left, 0), width - columns);
  const picture = new Uint8Array(height * width);
  small.forEach((value, index) => {
    const row = firstRow + Math.floor(index / columns);
    picture[row * width + firstColumn + (index % columns)] = nearestInteger((255 * value) / most);
  });
  return picture;
}

/* Colour: other pictures are resized for the network, as `snnjax predict` does. */

const MOST_PIXELS = 1024; // the most rows or columns that are processed; larger pictures are reduced first
const camera = { stream: null, video: document.createElement("video") };

function makeSources() {
  const [rows, columns] = network.picture;
  const whole = Math.ceil(280 / columns); // pixels of the sheet per pixel of the network
  Object.assign(sheet.canvas, { width: whole * columns, height: whole * rows });
  sheet.canvas.style.aspectRatio = `${columns} / ${rows}`;
  element("open").addEventListener("click", () => element("file").click());
  element("file").addEventListener("change", () => takeFile(element("file").files[0]));
  element("camera").addEventListener("click", () => (camera.stream ? stopCamera() : startCamera()));
  addEventListener("paste", (event) => takeFile(event.clipboardData.files[0]));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    takeFile(event.dataTransfer.files[0]);
  });
}

async function takeFile(file) {
  if (!file) return;
  stopCamera();
  try {
    take(await createImageBitmap(file, { colorSpaceConversion: "none" }), true);
    write("source", "");
  } catch {
    write("source", `${file.name} is not a picture that this browser can read.`);
  }
}

/* Lets the network decide on a source, a bitmap or a video. */
function take(source, play) {
  const picture = fitted(source);
  press(-1);
  sheet.drawn = sheet.over = false;
  paintPicture(sheet.canvas, picture);
  present(picture, -1, play);
}

/* The middle of a source, or all of it with a border, in the network's size: red, green and blue of each pixel. */
function fitted(source) {
  const [rows, columns] = network.picture;
  const [height, width] = [source.videoHeight || source.height, source.videoWidth || source.width];
  const pads = network.fit === "pad";
  const larger = Math.max((pads ? Math.min : Math.max)(rows / height, columns / width), 1);
  const scale = larger > 1 ? larger : Math.min(MOST_PIXELS / Math.max(height, width), 1);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.ceil(width * scale), height: Math.ceil(height * scale) });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = source === sheet.canvas ? "white" : "black"; // as paper, or as in Python
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  return (pads ? padded : resized)(pen.getImageData(0, 0, canvas.width, canvas.height), network.picture);
}

async function startCamera() {
  element("camera").disabled = true;
  try {
    const video = { width: 320, height: 240, facingMode: "environment" };
    camera.stream = await navigator.mediaDevices.getUserMedia({ video });
    Object.assign(camera.video, { srcObject: camera.stream, muted: true, playsInline: true });
    await camera.video.play();
    write("source", "");
    element("camera").setAttribute("aria-pressed", "true");
    element("result").setAttribute("aria-live", "off"); // a screen reader would never stop speaking
    look();
  } catch (error) {
    stopCamera();
    const advice = "A camera needs permission, and a page from localhost or by https; some browsers also allow files.";
    write("source", `There is no camera (${error.name}). ${advice} You can still open pictures as files.`);
  }
  element("camera").disabled = false;
}

/* Decides on one frame after another. */
function look() {
  if (!camera.stream) return;
  if (camera.video.videoWidth) take(camera.video, false);
  requestAnimationFrame(look);
}

function stopCamera() {
  if (!camera.stream) return;
  camera.stream.getTracks().forEach((track) => track.stop());
  camera.stream = null;
  element("camera").setAttribute("aria-pressed", "false");
  element("result").setAttribute("aria-live", "polite");
}
