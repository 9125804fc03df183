// What is told beside the picture; what controls, address, pointer and keys change.

// --- patches

function patchBox(patches, row, column) {
  const side = patches.size / plate.voxel_um[2];
  return { left: patches.x[column] / plate.voxel_um[2] - side / 2, top: patches.y[row] / plate.voxel_um[1] - side / 2, side };
}

function patchAt(patches, x, y) {
  const nearest = (centres, value) =>
    centres.reduce((best, centre, index) => (Math.abs(centre - value) < Math.abs(centres[best] - value) ? index : best), 0);
  const [um_y, um_x] = [y * plate.voxel_um[1], x * plate.voxel_um[2]];
  const row = nearest(patches.y, um_y);
  const column = nearest(patches.x, um_x);
  const inside = Math.max(Math.abs(patches.y[row] - um_y), Math.abs(patches.x[column] - um_x)) <= patches.size / 2;
  return inside ? [row, column] : null;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

function stateRow(index, value, most, text) {
  const state = plate.states[index];
  const row = document.createElement("tr");
  row.className = most ? "most" : "";
  const head = document.createElement("th");
  head.scope = "row";
  head.innerHTML =
    '<span class="chip"><svg class="swatch" viewBox="0 0 18 18" aria-hidden="true"><rect width="18" height="18" rx="3"/>' +
    '<text x="9" y="13.5"></text></svg><span></span></span>';
  head.querySelector("rect").setAttribute("fill", state.colour);
  const letter = head.querySelector("text");
  letter.setAttribute("fill", state.ink);
  letter.textContent = state.letter;
  head.querySelector("span span").textContent = state.name;
  const bar = document.createElement("td");
  bar.className = "share";
  bar.innerHTML = '<svg viewBox="0 0 76 12" aria-hidden="true"><rect width="76" height="12" fill="#e8ecf0"/><rect height="12"/></svg>';
  const filled = bar.querySelectorAll("rect")[1];
  filled.setAttribute("width", 76 * (value ?? 0));
  filled.setAttribute("fill", state.colour);
  const number = document.createElement("td");
  number.className = "number";
  number.textContent = text;
  row.append(head, bar, number);
  return row;
}

function showPatch() {
  const there = isPlate() ? null : known.get(`${shown.well}/${shown.field}/${shown.time}`);
  const values = pointed && there?.patches ? there.patches.probability[pointed[0]][pointed[1]] : null;
  byId("patch-box").hidden = isPlate();
  byId("patch").hidden = !values;
  byId("patch-none").hidden = Boolean(values);
  byId("patch-title").textContent = pointed ? `Patch: row ${pointed[0] + 1}, column ${pointed[1] + 1}` : "Patch";
  byId("patch-none").textContent =
    there && !there.patches
      ? "This field is not classified."
      : pointed
        ? "Background: too few cells here to be classified."
        : "Point at a patch, or move the picture with the arrow keys until the cross is on it.";
  if (!values) {
    say(pointed ? `${wellSaid(shown.well)}. Patch ${pointed[0] + 1}, ${pointed[1] + 1}: background` : wellSaid(shown.well));
    return;
  }
  const most = values.indexOf(Math.max(...values));
  byId("patch").tBodies[0].replaceChildren(
    ...values.map((value, index) => stateRow(index, value, index === most, percent(value))),
  );
  say(`${wellSaid(shown.well)}. Patch ${pointed[0] + 1}, ${pointed[1] + 1}: ${plate.states[most].name} ${percent(values[most])}`);
}

function showFractions() {
  const there = isPlate() ? null : known.get(`${shown.well}/${shown.field}/${shown.time}`);
  byId("fractions-box").hidden = !there?.fractions;
  if (!there?.fractions) return;
  const { fraction, fraction_low: low, fraction_high: high } = there.fractions;
  const most = fraction.indexOf(Math.max(...fraction));
  byId("fractions").tBodies[0].replaceChildren(
    ...fraction.map((value, index) => {
      const row = stateRow(index, value, index === most, value === null ? "—" : percent(value));
      const interval = document.createElement("small");
      if (low[index] !== null) interval.textContent = `${percent(low[index])} to ${percent(high[index])}`;
      row.cells[2].append(interval);
      return row;
    }),
  );
  const { patches } = there.fractions;
  byId("fractions").caption.textContent =
    `Fraction of each state, as analysed, with 95 % interval, from ${patches} ${patches === 1 ? "patch" : "patches"} of all fields`;
}

// --- words

function wellSaid(name) {
  if (!name) return "Whole plate";
  const { compound, dose, control, inducer } = plate.wells[name].content;
  const kind = control ? `${control} control`.replace("(vehicle) control", "control (vehicle)") : "";
  return [name, [compound, dose].filter(Boolean).join(" "), kind, inducer && `for ${inducer}`].filter(Boolean).join(", ");
}

function say(text) {
  if (byId("readout").textContent !== text) byId("readout").textContent = text;
}

function complain(error) {
  byId("trouble").textContent = error.message;
  byId("trouble").hidden = false;
  requestDraw();
}

function number(value, unit) {
  if (unit === "refractive index") return value.toFixed(4);
  return unit === "camera units" ? value.toFixed(0) : value.toFixed(2);
}

function showContent() {
  const name = isPlate() ? hovered : shown.well;
  byId("title").textContent = name ? `Well ${name}` : "Whole plate";
  byId("hint").hidden = Boolean(name);
  byId("content").replaceChildren(
    ...Object.entries(name ? { ...plate.wells[name].content } : {}).flatMap(([key, text]) => {
      const [term, said] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = key;
      said.textContent = text;
      return [term, said];
    }),
  );
}

// --- what is chosen, in the controls, in the address, in the picture

function show(change) {
  const before = shown.well;
  Object.assign(shown, change);
  byId("trouble").hidden = true;
  if (shown.well !== before) {
    pointed = null;
    hovered = "";
    if (shown.well) selected = shown.well;
    // from well to well the view stays, for comparing
    if (!before || !shown.well) fit();
  }
  if (isPlate()) mosaic(shown.field, shown.time);
  else facts(shown.well, shown.field, shown.time);
  settle();
  keepAddress(shown.well !== before);
  requestDraw();
}

// controls and words follow what is shown
function settle() {
  const current = image();
  canvas.classList.toggle("plate", isPlate());
  document.body.dataset.view = isPlate() ? "plate" : "well";
  byId("back").disabled = isPlate();
  byId("well").value = shown.well;
  byId("field").value = shown.field;
  byId("time").value = shown.time;
  const time = `${Number(plate.hours[shown.time].toFixed(2))} h (${shown.time + 1} of ${plate.hours.length})`;
  byId("time-said").textContent = time;
  byId("time").setAttribute("aria-valuetext", time);
  for (const place of document.querySelectorAll(".of-well")) place.hidden = isPlate();
  for (const place of document.querySelectorAll(".of-slice")) place.hidden = isPlate() || !images.slice;
  byId("image").value = shown.image;
  byId("depth").value = shown.z;
  const depth = `slice ${shown.z + 1} of ${SLICES}, ${(shown.z * plate.voxel_um[0]).toFixed(1)} µm`;
  byId("depth-said").textContent = shown.image === "slice" ? depth : "projected";
  byId("depth").setAttribute("aria-valuetext", shown.image === "slice" ? depth : "projected");
  const [low, high] = limits[current.key];
  for (const [id, value] of [["low", low], ["high", high]]) {
    const slider = byId(id);
    [slider.min, slider.max] = current.range;
    slider.value = value;
    byId(`${id}-said`).textContent = number(value * current.scale, current.unit);
    slider.setAttribute("aria-valuetext", `${byId(`${id}-said`).textContent} ${current.unit}`);
  }
  byId("states").checked = shown.states;
  canvas.setAttribute("aria-label", isPlate() ? `All wells of ${plate.name}, ${time}` : `${current.label} of ${wellSaid(shown.well)}, field ${shown.field}, ${time}`);
  showContent();
  showFractions();
  if (isPlate()) {
    byId("patch-box").hidden = true;
    say(hovered ? wellSaid(hovered) : "Whole plate");
  } else showPatch();
}

function arrived(key) {
  if (key === `${shown.well}/${shown.field}/${shown.time}`) settle();
  requestDraw();
}

let keeping = 0;
function keepAddress(visit) {
  const parts = { well: shown.well, t: shown.time, field: shown.field };
  if (!shown.well) delete parts.well;
  if (shown.well && shown.image !== FIRST) parts.image = shown.image;
  if (shown.well && shown.image === "slice") parts.z = shown.z;
  if (!shown.states) parts.states = 0;
  const address = `#${new URLSearchParams(parts)}`;
  clearTimeout(keeping);
  if (address === location.hash) return;
  if (visit) history.pushState(null, "", address);
  // browsers complain of an address that changes with every step of a slider
  else keeping = setTimeout(() => history.replaceState(null, "", address), 300);
}

function followAddress() {
  clearTimeout(keeping);
  const asked = new URLSearchParams(location.hash.slice(1));
  const whole = (key, most, usual) => {
    const value = Number(asked.get(key) ?? usual);
    return Number.isInteger(value) ? Math.max(0, Math.min(most, value)) : usual;
  };
  const well = asked.get("well") ?? "";
  const imaged = names.includes(well);
  show({
    well: imaged ? well : "",
    time: whole("t", plate.hours.length - 1, 0),
    field: whole("field", plate.fields - 1, 0),
    z: whole("z", SLICES - 1, shown.z),
    image: asked.get("image") in images ? asked.get("image") : FIRST,
    states: asked.get("states") !== "0",
  });
  if (well && !imaged) complain(new Error(`Well ${well} of this plate was not imaged.`));
}

function step(by) {
  const place = names.indexOf(shown.well || selected) + (shown.well ? by : 0);
  show({ well: names[(place + names.length) % names.length] });
}

function fromPicture() {
  const counts = new Uint32Array(65536);
  const add = (data) => data.forEach((value) => counts[value]++);
  if (isPlate()) mosaic(shown.field, shown.time).rows.forEach((row) => row && add(row.image.data));
  else {
    const start = `${fieldPath(image().folder)}/${image().factors.length - 1}|${slices().place.slice(0, 2).join("/")}/`;
    for (const [key, one] of chunks) if (one.data && key.startsWith(start)) add(one.data);
  }
  counts[0] = 0; // missing
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!total) return;
  const quantile = (share) => {
    let left = share * total;
    return counts.findIndex((count) => (left -= count) <= 0 && count > 0);
  };
  const low = quantile(0.002);
  limits[image().key] = [low, Math.max(low + 1, quantile(0.998))];
  show({});
}

// --- pointer, wheel, keys, buttons

let hovered = "";
function wellAt(x, y) {
  const [column, row] = [Math.floor(x / PITCH.x), Math.floor(y / PITCH.y)];
  const found = Object.entries(plate.wells).find(([, well]) => well.row === row && well.column === column);
  return found && x - column * PITCH.x < plate.cell.width && y - row * PITCH.y < plate.cell.height ? found[0] : "";
}

function point(x, y) {
  const [wx, wy] = toWorld(x, y);
  if (isPlate()) {
    const name = wellAt(wx, wy);
    if (name === hovered) return;
    hovered = name;
    if (plate.wells[name]?.imaged) selected = name;
    showContent();
    say(name ? wellSaid(name) + (plate.wells[name].imaged ? "" : ". Not imaged") : "Whole plate");
  } else {
    const there = known.get(`${shown.well}/${shown.field}/${shown.time}`);
    const patch = there?.patches ? patchAt(there.patches, wx, wy) : null;
    if (String(patch) === String(pointed)) return;
    pointed = patch;
    showPatch();
  }
  requestDraw();
}

function zoom(by, x = size().width / 2, y = size().height / 2) {
  const [wx, wy] = toWorld(x, y);
  const whole = world();
  const least = 0.3 * Math.min(size().width / whole.width, size().height / whole.height);
  camera.scale = Math.max(least, Math.min(40, camera.scale * by));
  camera.x = wx - x / camera.scale;
  camera.y = wy - y / camera.scale;
  camera.fitted = false;
  if (byKeys) point(size().width / 2, size().height / 2);
  requestDraw();
}

const down = new Map();
let moved = 0;
const place = (event) => [event.offsetX, event.offsetY];
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  down.set(event.pointerId, place(event));
  moved = 0;
  byKeys = false;
});
canvas.addEventListener("pointermove", (event) => {
  const at = place(event);
  const from = down.get(event.pointerId);
  if (!from) {
    byKeys = false;
    return point(...at);
  }
  const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
    zoom(apart(at) / Math.max(1, apart(from)), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
  } else {
    camera.x -= (at[0] - from[0]) / camera.scale;
    camera.y -= (at[1] - from[1]) / camera.scale;
    camera.fitted = false;
  }
  moved += Math.hypot(at[0] - from[0], at[1] - from[1]);
  canvas.classList.toggle("dragged", moved > 4);
  down.set(event.pointerId, at);
  requestDraw();
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    const alone = down.delete(event.pointerId) && !down.size;
    canvas.classList.remove("dragged");
    if (kind !== "pointerup" || !alone || moved > 4) return;
    point(...place(event));
    if (isPlate() && plate.wells[hovered]?.imaged) show({ well: hovered });
  });
}
canvas.addEventListener("pointerleave", () => {
  if (down.size) return;
  hovered = "";
  pointed = null;
  settle();
  requestDraw();
});
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 300), ...place(event));
  },
  { passive: false },
);

function choose(down_, right) {
  const from = plate.wells[selected];
  const ahead = names.filter((name) => {
    const well = plate.wells[name];
    return down_ ? well.column === from.column && (well.row - from.row) * down_ > 0 : well.row === from.row && (well.column - from.column) * right > 0;
  });
  const far = (name) => Math.abs(plate.wells[name].row - from.row) + Math.abs(plate.wells[name].column - from.column);
  ahead.sort((one, other) => far(one) - far(other));
  selected = ahead[0] ?? selected;
  hovered = selected;
  showContent();
  say(wellSaid(selected));
  requestDraw();
}

function pan(down_, right) {
  const reach = 40;
  camera.x += (right * reach) / camera.scale;
  camera.y += (down_ * reach) / camera.scale;
  camera.fitted = false;
  point(size().width / 2, size().height / 2);
  requestDraw();
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const bound = (value, most) => Math.max(0, Math.min(most, value));
const KEYS = {
  Enter: () => isPlate() && show({ well: selected }),
  Escape: () => !isPlate() && show({ well: "" }),
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: () => (fit(), requestDraw()),
  ",": () => show({ time: bound(shown.time - 1, plate.hours.length - 1) }),
  ".": () => show({ time: bound(shown.time + 1, plate.hours.length - 1) }),
  PageUp: () => !isPlate() && slice(shown.z - 1),
  PageDown: () => !isPlate() && slice(shown.z + 1),
  s: () => show({ states: !shown.states }),
  S: () => show({ states: !shown.states }),
};
const slice = (z) => images.slice && show({ image: "slice", z: bound(z, SLICES - 1) });

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (!arrow && !KEYS[event.key]) return;
  event.preventDefault();
  byKeys = true;
  if (arrow) (isPlate() ? choose : pan)(...arrow);
  else KEYS[event.key]();
});

byId("back").addEventListener("click", () => show({ well: "" }));
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("in").addEventListener("click", () => zoom(1.25));
byId("out").addEventListener("click", () => zoom(0.8));
byId("fit").addEventListener("click", () => (fit(), requestDraw()));
byId("auto").addEventListener("click", fromPicture);
byId("usual").addEventListener("click", () => {
  limits[image().key] = [...image().window];
  show({});
});
byId("well").addEventListener("change", (event) => show({ well: event.target.value }));
byId("field").addEventListener("change", (event) => show({ field: Number(event.target.value) }));
byId("time").addEventListener("input", (event) => show({ time: Number(event.target.value) }));
byId("image").addEventListener("change", (event) => show({ image: event.target.value }));
byId("depth").addEventListener("input", (event) => slice(Number(event.target.value)));
byId("states").addEventListener("change", (event) => show({ states: event.target.checked }));
for (const [id, index] of [["low", 0], ["high", 1]]) {
  byId(id).addEventListener("input", (event) => {
    const pair = limits[image().key];
    pair[index] = Number(event.target.value);
    // black stays below white
    pair[index] = index ? Math.max(pair[1], pair[0] + 1) : Math.min(pair[0], pair[1] - 1);
    show({});
  });
}
addEventListener("popstate", followAddress);
new ResizeObserver(requestDraw).observe(canvas);
fit();
followAddress();
