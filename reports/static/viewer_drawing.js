// What is chosen and from where it is looked at, and the canvas drawn from it.
const canvas = byId("canvas");
const pen = canvas.getContext("2d");
const names = Object.keys(plate.wells).filter((name) => plate.wells[name].imaged);
const images = Object.fromEntries(plate.images.map((image) => [image.key, image]));
const SLICES = plate.shape[0];
const GAP = Math.max(2, Math.round(plate.cell.width / 14));
const PITCH = { x: plate.cell.width + GAP, y: plate.cell.height + GAP };
const FIRST = plate.images[0].key;

const shown = { well: "", field: 0, time: 0, image: FIRST, z: Math.floor(SLICES / 2), states: true };
const limits = Object.fromEntries(plate.images.map((image) => [image.key, [...image.window]]));
const camera = { x: 0, y: 0, scale: 1, fitted: true };
let selected = names[0] ?? "";
let pointed = null; // patch [row, column] under the pointer or the cross
let byKeys = false;

const isPlate = () => !shown.well;
const image = () => images[isPlate() ? FIRST : shown.image];
const world = () =>
  isPlate()
    ? { width: plate.columns * PITCH.x - GAP, height: plate.rows * PITCH.y - GAP }
    : { width: plate.shape[2], height: plate.shape[1] };
// micrometres of one unit of the world
const unitUm = () => plate.voxel_um[2] * (isPlate() ? plate.cell.factor : 1);

// --- drawing

let asked = false;
function requestDraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

function size() {
  return { width: canvas.clientWidth, height: canvas.clientHeight };
}

function margins() {
  return isPlate() ? { left: 34, top: 26, right: 12, bottom: 34 } : { left: 12, top: 12, right: 12, bottom: 40 };
}

function fit() {
  const { width, height } = size();
  const edge = margins();
  const whole = world();
  const room = { width: width - edge.left - edge.right, height: height - edge.top - edge.bottom };
  camera.scale = Math.min(room.width / whole.width, room.height / whole.height);
  camera.x = -(edge.left + (room.width - whole.width * camera.scale) / 2) / camera.scale;
  camera.y = -(edge.top + (room.height - whole.height * camera.scale) / 2) / camera.scale;
  camera.fitted = true;
}

const toScreen = (x, y) => [(x - camera.x) * camera.scale, (y - camera.y) * camera.scale];
const toWorld = (x, y) => [x / camera.scale + camera.x, y / camera.scale + camera.y];

function draw() {
  const { width, height } = size();
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    if (camera.fitted) fit();
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = "#12171d";
  pen.fillRect(0, 0, width, height);
  if (isPlate()) drawPlate();
  else drawWell();
  drawBar();
  if (!pending) document.body.dataset.state = "ready";
}

let hatching = null;
function hatch(x, y, width, height) {
  if (!hatching) {
    const tile = Object.assign(document.createElement("canvas"), { width: 10, height: 10 });
    const context = tile.getContext("2d");
    context.fillStyle = "#232c36";
    context.fillRect(0, 0, 10, 10);
    context.strokeStyle = "#6d7986";
    context.lineWidth = 1.6;
    context.beginPath();
    for (const start of [-10, 0, 10]) context.moveTo(start, 10), context.lineTo(start + 10, 0);
    context.stroke();
    hatching = pen.createPattern(tile, "repeat");
  }
  pen.fillStyle = hatching;
  pen.fillRect(x, y, width, height);
}

function drawPlate() {
  const rows = mosaic(shown.field, shown.time).rows;
  const [low, high] = limits[FIRST];
  const table = greyTable(low, high);
  const { width, height } = plate.cell;
  const wide = width * camera.scale;
  const tall = height * camera.scale;
  pen.imageSmoothingEnabled = camera.scale < 2;
  for (let row = 0; row < plate.rows; row++) {
    for (let column = 0; column < plate.columns; column++) {
      const [x, y] = toScreen(column * PITCH.x, row * PITCH.y);
      pen.strokeStyle = "#3a4550";
      pen.lineWidth = 1;
      pen.strokeRect(x - 0.5, y - 0.5, wide + 1, tall + 1);
    }
  }
  for (const [name, well] of Object.entries(plate.wells)) {
    const [x, y] = toScreen(well.column * PITCH.x, well.row * PITCH.y);
    const part = rows[well.row];
    const way = well.imaged ? part?.known[well.column] : WAY.absent;
    if (way === undefined) continue; // still on its way
    if (way === WAY.absent || way === WAY.damaged) {
      hatch(x, y, wide, tall);
      if (way === WAY.damaged) letters([["!", x + wide / 2, y + tall / 2]], Math.min(tall * 0.5, 26));
    } else {
      const from = [0, well.column * height, width, height, x, y, wide, tall];
      hatch(x + 1, y + 1, wide - 2, tall - 2);
      pen.drawImage(painted(part.image, table, `${low}|${high}`), ...from);
      if (shown.states && way === WAY.states) {
        pen.drawImage(painted(part.states, stateTable, "states"), ...from);
        const patch = (plate.patches.size * camera.scale) / plate.cell.factor;
        if (patch >= 20) letters(plateLetters(part.states.data, well, x, y), Math.min(13, patch * 0.5));
      }
    }
    const sign = { negative: "−", positive: "+" }[String(well.content.control ?? "").split(" ")[0]];
    if (sign && wide > 26) drawSign(sign, x, y);
    if (name === selected && (byKeys || name === hovered)) {
      pen.strokeStyle = "#f0a000";
      pen.lineWidth = 3;
      pen.strokeRect(x - 1.5, y - 1.5, wide + 3, tall + 3);
    }
  }
  drawNames(wide, tall);
}

function drawSign(sign, x, y) {
  pen.fillStyle = "#fff";
  pen.fillRect(x, y, 12, 12);
  pen.fillStyle = "#111";
  pen.fillRect(x + 2, y + 5, 8, 2);
  if (sign === "+") pen.fillRect(x + 5, y + 2, 2, 8);
}

function drawNames(wide, tall) {
  pen.fillStyle = "#c9d1d9";
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "center";
  const every = Math.max(1, Math.ceil(18 / (PITCH.x * camera.scale)));
  for (let column = 0; column < plate.columns; column += every) {
    const [x, y] = toScreen(column * PITCH.x, 0);
    pen.fillText(column + 1, x + wide / 2, Math.max(12, y - 13));
  }
  const each = Math.max(1, Math.ceil(14 / (PITCH.y * camera.scale)));
  for (let row = 0; row < plate.rows; row += each) {
    const [x, y] = toScreen(0, row * PITCH.y);
    pen.fillText(plate.row_names[row], Math.max(13, x - 16), y + tall / 2);
  }
}

function plateLetters(data, well, x, y) {
  const { width, height, factor } = plate.cell;
  const found = [];
  for (const py of plate.patches.y) {
    for (const px of plate.patches.x) {
      const [row, column] = [Math.min(height - 1, Math.floor(py / factor)), Math.min(width - 1, Math.floor(px / factor))];
      const value = data[(well.column * height + row) * width + column];
      if (value) {
        found.push([
          plate.states[value - 1].letter,
          x + (px / factor) * camera.scale,
          y + ((py + 0.16 * plate.patches.size) / factor) * camera.scale, // below the sign of a control
        ]);
      }
    }
  }
  return found;
}

function letters(placed, px) {
  pen.font = `700 ${px}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  pen.lineWidth = Math.max(2, px / 5);
  pen.strokeStyle = "#000";
  pen.fillStyle = "#fff";
  for (const [letter, x, y] of placed) {
    pen.strokeText(letter, x, y);
    pen.fillText(letter, x, y);
  }
}

function drawWell() {
  const there = facts(shown.well, shown.field, shown.time);
  const whole = world();
  const [x, y] = toScreen(0, 0);
  const [right, bottom] = toScreen(whole.width, whole.height);
  pen.save();
  pen.beginPath();
  pen.rect(x, y, right - x, bottom - y);
  pen.clip();
  if (there && !isThere(there)) {
    hatch(x, y, right - x, bottom - y);
    letters([["There is no such image of this field at this time.", (x + right) / 2, (y + bottom) / 2]], 15);
  } else if (there) {
    const [low, high] = limits[shown.image];
    drawLevels(image().folder, image().factors, slices(), greyTable(low, high), `${low}|${high}`);
    if (shown.states && there.images.states) {
      drawTiles(statesPath(), images[FIRST].factors.at(-1), statesSlice(), stateTable, "states");
      drawPatchLetters();
    }
    if (pointed && there.patches) {
      const { left, top, side } = patchBox(there.patches, ...pointed);
      const [px, py] = toScreen(left, top);
      pen.strokeStyle = "#fff";
      pen.lineWidth = 2.5;
      pen.strokeRect(px, py, side * camera.scale, side * camera.scale);
    }
  }
  pen.restore();
  pen.strokeStyle = "#3a4550";
  pen.lineWidth = 1;
  pen.strokeRect(x - 0.5, y - 0.5, right - x + 1, bottom - y + 1);
  if (byKeys) drawCross();
}

// what to read of an image besides its tiles
function slices() {
  if (shown.image !== "slice") return { place: [shown.time, image().channel, 0], z: 0 };
  return { place: [shown.time, 0, shown.z], deep: true, z: shown.z };
}

function isThere(there) {
  const { folder, channel } = image();
  if (folder === "projections") return there.images.projection;
  return folder === "tomograms" ? there.images.tomogram : there.images.fluorescence[channel];
}

// the coarsest level first, to have something at once; then the one that fits the screen
function drawLevels(folder, factors, what, table, key) {
  const sharp = 1 / (camera.scale * (window.devicePixelRatio || 1));
  const wanted = factors.reduce((best, factor, level) => (factor <= Math.max(1, sharp) ? level : best), 0);
  const levels = factors.length - 1 === wanted ? [wanted] : [factors.length - 1, wanted];
  for (const level of levels) drawTiles(`${fieldPath(folder)}/${level}`, factors[level], what, table, key);
}

const fieldPath = (folder) => `${folder}/${plate.wells[shown.well].path}/${shown.field}`;
// squares of patches: the coarsest map has all that is to be seen
const statesPath = () => `${fieldPath("projections")}/labels/states/${images[FIRST].factors.length - 1}`;
const statesSlice = () => ({ label: true, place: [shown.time, 0], z: 0 });

const opened = new Map();
function drawTiles(path, factor, what, table, key) {
  if (!opened.has(path)) {
    opened.set(path, null);
    waiting(openArray(path)).then(
      (array) => {
        opened.set(path, array);
        requestDraw();
      },
      (error) => complain(new Error(`${path}: ${error.message}`)),
    );
  }
  const array = opened.get(path);
  if (!array) return;
  const [high, wide] = array.chunks.slice(-2);
  const depth = array.chunks.at(-3);
  const [rows, columns] = array.shape.slice(-2);
  const place = what.deep ? [...what.place.slice(0, -1), Math.floor(what.z / depth)] : what.place;
  const [left, top] = toWorld(0, 0);
  const { width, height } = size();
  const [right, bottom] = toWorld(width, height);
  const range = (from, to, step, count) => {
    const first = Math.max(0, Math.floor(from / (step * factor)));
    const last = Math.min(Math.ceil(count / step) - 1, Math.floor(to / (step * factor)));
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
  };
  pen.imageSmoothingEnabled = !what.label && camera.scale * factor < 3;
  for (const ty of range(top, bottom, high, rows)) {
    for (const tx of range(left, right, wide, columns)) {
      const got = chunk(path, array, [...place, ty, tx]);
      if (!got) continue;
      const part = painted(sliceOf(got, what.deep ? what.z % depth : 0), table, key);
      // what lies behind the field's edge in the last tile is cut off
      const [w, h] = [Math.min(wide, columns - tx * wide), Math.min(high, rows - ty * high)];
      const [x, y] = toScreen(tx * wide * factor, ty * high * factor);
      const [x1, y1] = toScreen((tx * wide + w) * factor, (ty * high + h) * factor);
      const box = [Math.round(x), Math.round(y), Math.round(x1) - Math.round(x), Math.round(y1) - Math.round(y)];
      // behind what is missing; a little less than the tile, whose rim it would show through
      if (!what.label) hatch(box[0] + 1, box[1] + 1, box[2] - 2, box[3] - 2);
      pen.drawImage(part, 0, 0, w, h, ...box);
    }
  }
}

function drawPatchLetters() {
  const side = plate.patches.size * camera.scale;
  const path = statesPath();
  const array = opened.get(path);
  if (side < 18 || !array) return;
  const factor = images[FIRST].factors.at(-1);
  const [high, wide] = array.chunks.slice(-2);
  const placed = [];
  for (const py of plate.patches.y) {
    for (const px of plate.patches.x) {
      const [row, column] = [Math.floor(py / factor), Math.floor(px / factor)];
      const got = chunk(path, array, [shown.time, 0, Math.floor(row / high), Math.floor(column / wide)]);
      const value = got?.data[(row % high) * wide + (column % wide)];
      if (value) placed.push([plate.states[value - 1].letter, ...toScreen(px - side0(), py - side0())]);
    }
  }
  letters(placed, Math.min(26, side * 0.3));
}

// letters stand towards the upper left corner of their patch, off what is looked at
const side0 = () => plate.patches.size * 0.36;

function drawCross() {
  const { width, height } = size();
  pen.strokeStyle = "#f0a000";
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(width / 2 - 12, height / 2);
  pen.lineTo(width / 2 + 12, height / 2);
  pen.moveTo(width / 2, height / 2 - 12);
  pen.lineTo(width / 2, height / 2 + 12);
  pen.stroke();
}

function drawBar() {
  const { width, height } = size();
  const pixel = unitUm() / camera.scale; // micrometres of a pixel of the screen
  const most = Math.min(width * 0.25, 200);
  const length = plate.bars_um.filter((bar) => bar / pixel <= most).at(-1);
  if (!length) return;
  pen.font = "600 13px system-ui, sans-serif";
  const label = `${length} µm`;
  const wide = length / pixel;
  const room = Math.max(wide, pen.measureText(label).width) + 16;
  pen.fillStyle = "#12171dd9";
  pen.fillRect(8, height - 36, room, 30);
  pen.fillStyle = "#fff";
  pen.fillRect(16, height - 13, wide, 4);
  pen.textAlign = "left";
  pen.textBaseline = "alphabetic";
  pen.fillText(label, 16, height - 18);
}
