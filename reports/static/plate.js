// Plate maps: whole numbers (quantity, timepoint, well), -1 where nothing was measured, unpacked when first needed.
const once = (make) => {
  let made = null;
  return () => (made ??= make());
};
const read = async (id) => JSON.parse(await inflate(id, "deflate"));
const plateCube = once(() => read("plate-cube"));
const plateWells = once(() => read("well-store"));
const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// One stored number as the server words it.
function told(quantity, stored) {
  if (stored < 0) return "not measured";
  if (quantity.categories.length) return quantity.categories[stored].name;
  return `${(stored * quantity.factor).toFixed(quantity.digits)} ${quantity.unit}`.trim();
}
const atTime = (quantity, time) => quantity.values[Math.min(time, quantity.values.length - 1)];
const step = (cube, quantity, stored) => {
  const share = (stored * quantity.factor - quantity.low) / (quantity.high - quantity.low);
  return Math.min(Math.max(Math.round(share * cube.steps), 0), cube.steps);
};

// Colours a map anew; as on the server, all wells of one colour are one path.
function colour(cube, panel, time) {
  const quantity = cube.quantities[Number(panel.dataset.quantity)];
  const paths = new Map();
  const numbers = panel.querySelector(".numbers");
  const printed = [];
  atTime(quantity, time).forEach((stored, well) => {
    const x = cube.head + (cube.column[well] + 0.5) * cube.cell;
    const y = cube.head + (cube.row[well] + 0.5) * cube.cell;
    const category = stored < 0 ? null : quantity.categories[stored];
    const place = stored < 0 || category ? 0 : step(cube, quantity, stored);
    const fill = stored < 0 ? "url(#missing)" : category ? category.colour : cube.colours[place];
    paths.set(fill, `${paths.get(fill) ?? ""}M${x} ${y}h0`);
    const text = stored < 0 ? "" : category ? category.letter : (stored * quantity.factor).toFixed(0);
    const light = category ? category.light : place < 28;
    if (text && (category || cube.columns <= 12)) {
      const ink = light ? "#fff" : "#111";
      printed.push(shape("text", { class: "v", x, y: y + 6, fill: ink }, text));
    }
  });
  const drawn = [...paths].map(([stroke, d]) => shape("path", { stroke, d }));
  panel.querySelector(".fills").replaceChildren(...drawn);
  numbers.replaceChildren(...printed);
}

// The well under the pointer, -1 beside all wells.
function wellAt(cube, panel, event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(panel.getScreenCTM().inverse());
  const column = Math.floor((at.x - cube.head) / cube.cell);
  const row = Math.floor((at.y - cube.head) / cube.cell);
  return cube.row.findIndex((its, well) => its === row && cube.column[well] === column);
}

// What is linked to must not end up under the header, whose height depends on the window.
new ResizeObserver(([entry]) => {
  const covered = getComputedStyle(entry.target).position === "sticky" ? entry.target.offsetHeight + 8 : 0;
  document.documentElement.style.setProperty("--head", `${covered}px`);
}).observe(document.querySelector("header"));

// Tabs: arrow keys change them, and without scripts all of them are open.
for (const list of document.querySelectorAll("[data-tabs]")) {
  const sheets = [...list.parentNode.querySelectorAll(":scope > [data-sheet]")];
  list.hidden = false;
  list.setAttribute("role", "tablist");
  const tabs = sheets.map((sheet) => {
    const tab = element("button", sheet.dataset.sheet, { type: "button", role: "tab", id: `tab-${sheet.id}` });
    tab.setAttribute("aria-controls", sheet.id);
    sheet.setAttribute("role", "tabpanel");
    sheet.setAttribute("aria-labelledby", tab.id);
    return tab;
  });
  const choose = (chosen, focus) => {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", index === chosen);
      tab.tabIndex = index === chosen ? 0 : -1;
      sheets[index].classList.toggle("closed", index !== chosen);
    });
    if (focus) tabs[chosen].focus();
    list.dispatchEvent(new Event("change"));
  };
  tabs.forEach((tab, index) => tab.addEventListener("click", () => choose(index, false)));
  list.addEventListener("keydown", (event) => {
    const moved = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (moved) choose((tabs.indexOf(document.activeElement) + moved + tabs.length) % tabs.length, true);
  });
  list.append(...tabs);
  choose(0, false);
}

const slider = byId("timepoint");
const readout = byId("plate-readout");
const resting = readout.textContent;
const panels = [...document.querySelectorAll("#plate-maps figure[data-quantity]")];
const drawnAt = new Map();
async function showTime() {
  const cube = await plateCube();
  const time = Number(slider.value);
  byId("timepoint-label").textContent = cube.times[time];
  slider.setAttribute("aria-valuetext", cube.times[time]);
  for (const panel of panels) {
    if (panel.closest(".closed") || (drawnAt.get(panel) ?? Number(slider.defaultValue)) === time) continue;
    colour(cube, panel, time);
    drawnAt.set(panel, time);
  }
}
slider.addEventListener("input", showTime);
byId("map-tabs").addEventListener("change", () => drawnAt.size && showTime());
for (const panel of panels) {
  const drawing = panel.querySelector("svg.plate");
  drawing.addEventListener("pointermove", async (event) => {
    const cube = await plateCube();
    const well = wellAt(cube, drawing, event);
    const quantity = cube.quantities[Number(panel.dataset.quantity)];
    const out = cube.out.includes(well) ? " (left out)" : "";
    const value = well < 0 ? "" : told(quantity, atTime(quantity, Number(slider.value))[well]);
    readout.textContent = well < 0 ? resting : `${cube.wells[well]}${out}: ${quantity.name} ${value}`;
    drawing.classList.toggle("pointed", well >= 0);
  });
  drawing.addEventListener("pointerleave", () => (readout.textContent = resting));
  drawing.addEventListener("click", async (event) => {
    const cube = await plateCube();
    const well = wellAt(cube, drawing, event);
    if (well >= 0) openWell(cube.wells[well]);
  });
}

// The states of a well as stacked areas, dead ones from the floor up. A timepoint without cells leaves a gap.
function areas(cube, well, x, y, width, height, paths) {
  const first = cube.hours[0];
  const span = Math.max(cube.hours.at(-1) - first, 1e-9);
  const across = cube.hours.map((hour) => (cube.hours.length > 1 ? ((hour - first) / span) * width : 0));
  const shares = cube.states.map(({ name }) => cube.quantities.find((one) => one.name === name).values);
  const runs = [];
  cube.hours.forEach((_, time) => {
    if (shares[0][time][well] < 0) runs.push(null);
    else if (runs.length && runs.at(-1)) runs.at(-1).push(time);
    else runs.push([time]);
  });
  for (const run of runs.filter(Boolean)) {
    const level = run.map(() => 0);
    shares.forEach((values, state) => {
      const corners = run.map((time, index) => {
        level[index] += values[time][well];
        return [x + across[time], y + height * (1 - Math.min(level[index] / 1000, 1))];
      });
      if (run.length === 1) {
        const wide = run[0] === 0 && cube.hours.length === 1 ? width : 4;
        corners.push([Math.min(corners[0][0] + wide, x + width), corners[0][1]]);
      }
      const line = corners.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L");
      paths[state].push(`M${corners[0][0].toFixed(1)} ${y + height}L${line}L${corners.at(-1)[0].toFixed(1)} ${y + height}z`);
    });
  }
}
function stack(cube, svg, paths) {
  // painted from the top of the stack down, so that each area may reach to the floor
  cube.states.toReversed().forEach(({ colour: fill }, index) => {
    svg.append(shape("path", { d: paths[cube.states.length - 1 - index].join(""), fill }));
  });
}
const courses = byId("course-wall");
const drawCourses = once(async () => {
  const cube = await plateCube();
  const [wide, high, gap] = [100, 60, 8];
  const size = [cube.head + cube.columns * (wide + gap), cube.head + cube.rows * (high + gap)];
  const label = "The five states of each well stacked over time; the table of wells holds the numbers.";
  const svg = shape("svg", { class: "courses", viewBox: `0 0 ${size[0]} ${size[1]}`, role: "img", "aria-label": label });
  const paths = cube.states.map(() => []);
  const corner = (well) => [cube.head + cube.column[well] * (wide + gap), cube.head + cube.row[well] * (high + gap)];
  const boxes = cube.wells.map((_, well) => {
    const [x, y] = corner(well);
    areas(cube, well, x, y, wide, high, paths);
    return `M${x} ${y}h${wide}v${high}h-${wide}z`;
  });
  for (let column = 0; column < cube.columns; column += 1) {
    const x = cube.head + column * (wide + gap) + wide / 2;
    svg.append(shape("text", { class: "a", x, y: cube.head - 5 }, column + 1));
  }
  for (let row = 0; row < cube.rows; row += 1) {
    const letters = (row >= 26 ? String.fromCharCode(64 + Math.floor(row / 26)) : "") + String.fromCharCode(65 + (row % 26));
    svg.append(shape("text", { class: "a", x: cube.head / 2, y: cube.head + row * (high + gap) + high / 2 + 4 }, letters));
  }
  svg.append(shape("path", { d: boxes.join(""), fill: "url(#missing)", stroke: "#c3cad1" }));
  stack(cube, svg, paths);
  for (const [stroke, width] of [["#fff", 5], ["#9c2f00", 2]]) {
    const d = cube.out.map((well) => `M${corner(well).join(" ")}l${wide} ${high}m-${wide} 0l${wide} -${high}`).join("");
    if (d) svg.append(shape("path", { d, stroke, "stroke-width": width }));
  }
  svg.addEventListener("click", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const column = Math.floor((at.x - cube.head) / (wide + gap));
    const row = Math.floor((at.y - cube.head) / (high + gap));
    const well = cube.row.findIndex((its, index) => its === row && cube.column[index] === column);
    if (well >= 0) openWell(cube.wells[well]);
  });
  courses.replaceChildren(svg);
  courses.dataset.state = "drawn";
});
whenNear(courses, drawCourses);
preparations.push(drawCourses);

function whenNear(place, act) {
  const watch = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      act();
    },
    { rootMargin: "300px" },
  );
  watch.observe(place);
}

// Fields: the page holds the probabilities of every patch; what lies over a picture is drawn from them.
const fieldStore = once(() => read("field-store"));
const fields = [...document.querySelectorAll("figure[data-field]")];
async function drawField(figure) {
  if (figure.dataset.state) return;
  figure.dataset.state = "drawing";
  const [store, cube] = [await fieldStore(), await plateCube()];
  const values = store.fields[Number(figure.dataset.field)];
  const count = cube.states.length;
  const svg = shape("svg", { class: "over", viewBox: `0 0 ${store.width} ${store.height}`, "aria-hidden": true });
  const patches = shape("g", {});
  const size = Math.max(24, Math.min(46, Math.round(Math.min(...store.heights, ...store.widths) / 5)));
  store.tops.forEach((y, row) => {
    store.lefts.forEach((x, column) => {
      const start = (row * store.lefts.length + column) * count;
      const shares = values.slice(start, start + count);
      if (shares[0] === 255) return;
      const [width, height] = [store.widths[column], store.heights[row]];
      const best = shares.indexOf(Math.max(...shares));
      const { colour: fill, letter } = cube.states[best];
      const patch = shape("g", { class: "patch", "data-sure": shares[best] / 200 });
      const square = { x: x + 3, y: y + 3, width: width - 6, height: height - 6 };
      patch.append(shape("rect", { ...square, fill, "fill-opacity": 0.2, stroke: fill, class: "outline" }));
      const bar = Math.round(height * 0.11);
      const floor = y + height - bar - 10;
      const wide = width - 20;
      patch.append(shape("rect", { x: x + 8, y: floor - 2, width: width - 16, height: bar + 4, fill: "#fff" }));
      const whole = shares.reduce((sum, one) => sum + one, 0);
      let edge = x + 10;
      shares.forEach((share, state) => {
        const length = (share / whole) * wide;
        if (length < 0.5) return;
        const part = { x: edge.toFixed(1), y: floor, width: length.toFixed(1), height: bar };
        patch.append(shape("rect", { ...part, fill: cube.states[state].colour }));
        edge += length;
      });
      const text = { x: x + 14, y: y + 10 + size, "font-size": size, class: "letter" };
      patch.append(shape("text", text, letter));
      const said = cube.states.map(({ name }, state) => `${name} ${Math.round(shares[state] / 2)} %`);
      patch.append(shape("title", {}, said.join(", ")));
      patches.append(patch);
    });
  });
  svg.append(patches);
  figure.querySelector(".picture").append(svg);
  figure.dataset.state = "drawn";
  threshold(figure);
}
for (const figure of fields) whenNear(figure, () => drawField(figure));
preparations.push(async () => {
  for (const figure of fields) await drawField(figure);
});
const surer = byId("surer");
function threshold(figure) {
  for (const patch of figure.querySelectorAll(".patch")) {
    patch.classList.toggle("faint", Number(patch.dataset.sure) < Number(surer.value) / 100);
  }
}
surer?.addEventListener("input", () => {
  byId("surer-label").textContent = `${surer.value} %`;
  fields.forEach(threshold);
});
byId("field-order")?.addEventListener("change", (event) => {
  const key = event.target.value;
  const sign = key === "doubt" ? -1 : 1;
  const sorted = fields.toSorted((a, b) => sign * (a.dataset[key] - b.dataset[key]) || a.dataset.field - b.dataset.field);
  fields[0].parentNode.append(...sorted);
});

// The command that opens the plate browser at a field: a page on a disk can start no program, so it is to be copied.
function viewCommand(at) {
  const command = `${byId("view-command").textContent} --at "${at}"`;
  const made = element("p", "In the plate browser, from the folder of the plate: ", { class: "quiet command" });
  const code = element("code", command);
  const button = element("button", "Copy", { type: "button" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // the browser lets no page copy: it is marked, ready to be
      button.textContent = "Marked: press Ctrl-C";
    }
  });
  made.append(code, " ", button);
  made.addEventListener("click", (event) => event.stopPropagation()); // a click beside it closes what it is in
  return made;
}
document.addEventListener("click", () => {
  const enlarged = lightbox.open && lightbox.querySelector(":scope > figure[data-at]");
  if (enlarged && !lightbox.querySelector(".command")) lightbox.append(viewCommand(enlarged.dataset.at));
});

// A link into something folded unfolds it.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]');
  const fold = link && byId(link.hash.slice(1))?.closest("details");
  if (fold) fold.open = true;
});

// One well: everything the page knows of it, opened by a click, by a link or by the address.
const panel = byId("well-drawer");
let opener = null;
function openWell(name) {
  opener = document.activeElement;
  location.hash = `well=${encodeURIComponent(name)}`;
}
function row(cells, first = "th") {
  const made = element("tr");
  cells.forEach((cell, index) => {
    const kind = index ? "td" : first;
    const place = element(kind, cell instanceof Node ? undefined : cell, kind === "th" ? { scope: "row" } : {});
    if (cell instanceof Node) place.append(cell);
    if (index && typeof cell === "string" && /^[\d—]/.test(cell)) place.className = "number";
    made.append(place);
  });
  return made;
}
function table(headings, rows, label) {
  const made = element("table", undefined, { "aria-label": label });
  if (headings.length) {
    const head = element("tr");
    for (const heading of headings) head.append(element("th", heading, { scope: "col" }));
    made.append(element("thead"));
    made.tHead.append(head);
  }
  made.append(element("tbody"));
  made.tBodies[0].append(...rows);
  return made;
}
function lines(texts) {
  const list = element("ul");
  list.append(...texts.map((text) => element("li", text)));
  return list;
}
const percentOf = (stored) => (stored < 0 ? "—" : `${(stored / 10).toFixed(1)} %`);
async function showWell(name) {
  const [cube, store] = [await plateCube(), await plateWells()];
  const well = cube.wells.indexOf(name);
  const heading = byId("well-name");
  const body = byId("well-body");
  heading.textContent = `Well ${name}`;
  const parts = [];
  if (well < 0) {
    heading.textContent = "No such well";
    parts.push(element("p", "The plate map of this plate does not name it."));
  } else {
    const time = Number(slider.value);
    const facts = element("dl", undefined, { class: "facts" });
    for (const { name: title, cells } of store.map.slice(0, 4)) {
      if (cells[well]) facts.append(element("dt", title), element("dd", cells[well]));
    }
    if (store.flags[well]) facts.append(element("dt", "flags"), element("dd", store.flags[well]));
    parts.push(facts);
    const said = store.left_out[name] ?? [];
    if (said.length) parts.push(element("h3", "Left out"), lines(said));
    const proposed = store.proposed[name] ?? [];
    if (proposed.length) parts.push(element("h3", "Proposed to be left out"), lines(proposed));
    parts.push(element("h3", "States over time"), wellCourse(cube, well, time));
    const dead = cube.quantities[0];
    const patches = cube.quantities.find((one) => one.name === "patches with cells");
    const shares = cube.states.map((state) => cube.quantities.find((one) => one.name === state.name));
    const times = cube.times.map((hours, at) => {
      const interval = store.low[at][well] < 0 ? "" : `${(store.low[at][well] / 10).toFixed(1)} to ${percentOf(store.high[at][well])}`;
      const numbers = shares.map((one) => percentOf(atTime(one, at)[well]));
      const judged = Math.max(atTime(patches, at)[well], 0);
      return row([hours, percentOf(atTime(dead, at)[well]), interval, ...numbers, String(judged)]);
    });
    const titles = ["Time", "Dead", "95 % interval", ...cube.states.map(({ letter, name: state }) => `${letter} ${state}`), "Patches"];
    const scroll = element("div", undefined, { class: "scroll", tabindex: 0, role: "region", "aria-label": "States over time" });
    scroll.append(table(titles, times, `States of well ${name} over time`));
    parts.push(scroll);
    const others = cube.quantities.filter((one) => !cube.states.some((state) => state.name === one.name)).slice(1);
    parts.push(element("h3", `Other quantities at ${cube.times[time]}`));
    parts.push(table([], others.map((one) => row([one.name, told(one, atTime(one, time)[well])])), "Other quantities"));
    parts.push(element("h3", "Neighbours"), neighbours(cube, well, time));
    const pictures = fields.filter((figure) => figure.dataset.well === name);
    if (pictures.length) {
      parts.push(element("h3", "Fields"));
      for (const picture of pictures) {
        await drawField(picture);
        parts.push(picture.cloneNode(true));
      }
    }
    parts.push(element("h3", `Plate map (${store.source})`));
    parts.push(table([], store.map.map(({ name: title, cells }) => row([title, cells[well] || "—"])), "Line of the plate map"));
    parts.push(viewCommand(`well=${name}&t=${cube.timepoints[time]}&field=0`));
  }
  body.replaceChildren(...parts);
  body.scrollTop = 0;
  if (!panel.open) panel.showModal();
}
function wellCourse(cube, well, time) {
  const [wide, high] = [560, 150];
  const label = "The five states of this well stacked over time, dead ones from the floor up; the table below holds the numbers.";
  const svg = shape("svg", { class: "course", viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  const paths = cube.states.map(() => []);
  areas(cube, well, 0, 0, wide, high, paths);
  svg.append(shape("rect", { width: wide, height: high, fill: "url(#missing)" }));
  stack(cube, svg, paths);
  const span = Math.max(cube.hours.at(-1) - cube.hours[0], 1e-9);
  const x = ((cube.hours[time] - cube.hours[0]) / span) * wide;
  svg.append(shape("path", { d: `M${x} 0v${high}`, stroke: "#111", "stroke-width": 2, "stroke-dasharray": "5 4" }));
  return svg;
}
function neighbours(cube, well, time) {
  const rows = [-1, 0, 1].map((down) => {
    const cells = [-1, 0, 1].map((right) => {
      const at = cube.row.findIndex((its, index) => its === cube.row[well] + down && cube.column[index] === cube.column[well] + right);
      if (at < 0) return "";
      const dead = `${cube.wells[at]}: ${told(cube.quantities[0], atTime(cube.quantities[0], time)[at])}`;
      return at === well ? element("b", dead) : element("a", dead, { href: `#well=${cube.wells[at]}` });
    });
    return row(cells, "td");
  });
  const made = table([], rows, `Dead cells of the wells around at ${cube.times[time]}`);
  made.classList.add("around");
  return made;
}
function followAddress() {
  const found = location.hash.match(/^#well=([^&]{1,20})$/);
  if (found) {
    let name = found[1];
    try {
      name = decodeURIComponent(name);
    } catch {
      // a broken escape is no well's name
    }
    showWell(name.toUpperCase().replace(/^([A-Z]+)(\d)$/, "$10$2"));
  } else if (panel.open) panel.close();
}
panel.addEventListener("close", () => {
  if (location.hash.startsWith("#well=")) history.replaceState(null, "", location.pathname + location.search);
  opener?.focus?.({ preventScroll: true });
  opener = null;
});
// A click beside the drawer closes it as Escape does.
panel.addEventListener("click", (event) => event.target === panel && panel.close());
byId("well-close").addEventListener("click", () => panel.close());
document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#well="]');
  if (link && !panel.contains(link)) opener = link;
});
addEventListener("hashchange", followAddress);
const choice = byId("well-choice");
const openChoice = () => choice.value.trim() && openWell(choice.value.trim().toUpperCase().replace(/^([A-Z]+)(\d)$/, "$10$2"));
byId("well-open").addEventListener("click", openChoice);
choice.addEventListener("keydown", (event) => event.key === "Enter" && openChoice());
followAddress();
