"use strict";
// Data lie in the page as base64 of deflated text: half the size of plain JSON, and inert until asked for.
const byId = (id) => document.getElementById(id);

async function inflate(id, format) {
  const binary = atob(byId(id).textContent.trim());
  const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
  return new Response(stream).text();
}

// plotly.js is unpacked for the first figure that comes near the window, never before.
let plotly = null;
function loadPlotly() {
  plotly ??= Promise.all([inflate("plotly-js", "gzip"), inflate("figures", "deflate")]).then(([code, json]) => {
    const script = document.createElement("script");
    script.textContent = code; // allowed by its hash in the page's Content-Security-Policy
    document.head.append(script);
    return JSON.parse(json);
  });
  return plotly;
}

async function draw(place) {
  if (place.dataset.state) return;
  place.dataset.state = "drawing";
  const book = await loadPlotly();
  const figure = book.figures[Number(place.dataset.figure)];
  const layout = { ...figure.layout, template: book.template };
  await Plotly.newPlot(place, figure.data, layout, book.config);
  place.dataset.state = "drawn";
}

const places = [...document.querySelectorAll("[data-figure]")];
for (const place of places) place.style.height = place.dataset.height + "px";
const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      draw(entry.target);
    }
  },
  { rootMargin: "300px" },
);
for (const place of places) near.observe(place);

// A browser prints at once, so figures that were never scrolled to have to be drawn beforehand.
byId("print")?.addEventListener("click", async (event) => {
  event.target.disabled = true;
  for (const [index, place] of places.entries()) {
    event.target.textContent = `Drawing ${index + 1} of ${places.length}`;
    await draw(place);
  }
  event.target.textContent = "Print";
  event.target.disabled = false;
  window.print();
});

// Tables: a click on a heading sorts by the exact stored value; cells without one stay last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    const key = (row) => row.cells[head.cellIndex].dataset.sort ?? row.cells[head.cellIndex].textContent;
    const order = (a, b) => (head.dataset.kind === "number" ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
    const rows = [...body.rows].sort((a, b) => (key(a) === "") - (key(b) === "") || order(key(a), key(b)));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
}

// Downloads come out of the page itself, so that they work when it was sent without its folder.
for (const link of document.querySelectorAll("a[data-table]")) {
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    const text = await inflate(link.dataset.table, "deflate");
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    const saver = Object.assign(document.createElement("a"), { href: address, download: link.download });
    saver.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}

// Plate maps: one cube (panel, timepoint, well) of thousandths, -1 where nothing was measured.
async function plateMaps(section) {
  const cube = JSON.parse(await inflate("plate-cube", "deflate"));
  const panels = [...section.querySelectorAll("svg.plate")];
  const slider = byId("timepoint");
  const readout = byId("plate-readout");
  const resting = readout.textContent;
  const cells = panels.map((panel) => [...panel.querySelectorAll(".w")]);
  const texts = panels.map((panel) => [...panel.querySelectorAll(".v")]);
  const show = () => {
    const time = Number(slider.value);
    byId("timepoint-label").textContent = cube.times[time];
    panels.forEach((panel, p) => {
      cube.values[p][time].forEach((value, well) => {
        const missing = value < 0;
        const step = Math.round(value / 10);
        cells[p][well].setAttribute("fill", missing ? "url(#missing)" : cube.colours[step]);
        if (!texts[p].length) return;
        texts[p][well].textContent = missing ? "" : step;
        texts[p][well].setAttribute("fill", step < 55 ? "#fff" : "#111");
      });
    });
  };
  slider?.addEventListener("input", show);
  const tell = (event) => {
    const panel = panels.findIndex((svg) => svg.contains(event.target));
    const well = panel < 0 ? -1 : cells[panel].indexOf(event.target);
    const time = Number(slider?.value ?? 0);
    const value = well < 0 ? 0 : cube.values[panel][time][well];
    const said = value < 0 ? "not measured" : `${(value / 10).toFixed(1)} %`;
    readout.textContent = well < 0 ? resting : `${cube.wells[well]}: ${cube.panels[panel]} ${said}`;
  };
  section.addEventListener("mouseover", tell);
}
const maps = byId("plate-maps");
if (maps) plateMaps(maps);

// Overlays: a click opens the field large; the same picture, so nothing is stored twice.
const lightbox = byId("lightbox");
for (const button of document.querySelectorAll("button.enlarge")) {
  button.addEventListener("click", () => {
    lightbox.replaceChildren(button.closest("figure").cloneNode(true));
    lightbox.showModal();
  });
}
lightbox?.addEventListener("click", () => lightbox.close());
