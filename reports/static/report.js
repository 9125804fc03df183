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

// What only readers without scripts need at once lies in <noscript>, where it costs nothing, and becomes part of the
// page when it comes near: tables inside a fold when the fold is opened, everything else like a figure.
const laters = [...document.querySelectorAll(".later")];
function fill(place) {
  const kept = place.querySelector(":scope > noscript");
  if (!kept) return;
  const holder = document.createElement("template");
  holder.innerHTML = kept.textContent; // written by the same template as the rest of the page
  place.replaceChildren(holder.content);
  sortable(place);
}
for (const place of laters) {
  const fold = place.closest("details");
  if (fold) fold.addEventListener("toggle", () => fold.open && fill(place));
}

// A browser prints at once, so figures that were never scrolled to have to be drawn beforehand. Scripts of one page
// add what they draw late.
const preparations = [];
byId("print")?.addEventListener("click", async (event) => {
  event.target.disabled = true;
  for (const prepare of preparations) await prepare();
  for (const place of laters) if (!place.closest("details:not([open])")) fill(place);
  for (const [index, place] of places.entries()) {
    event.target.textContent = `Drawing ${index + 1} of ${places.length}`;
    await draw(place);
  }
  document.documentElement.dataset.prepared = "true";
  event.target.textContent = "Print";
  event.target.disabled = false;
  window.print();
});

// A drawn figure has the size of the window; on paper it is scaled to its place instead of being cut.
addEventListener("beforeprint", () => {
  for (const place of places) {
    for (const drawing of place.querySelectorAll("svg.main-svg")) {
      const [width, height] = [drawing.getAttribute("width"), drawing.getAttribute("height")];
      drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
      place.style.setProperty("--ratio", width / height);
    }
  }
});
addEventListener("afterprint", () => {
  for (const drawing of document.querySelectorAll("svg.main-svg")) drawing.removeAttribute("viewBox");
});

// Tables: a click on a heading sorts by the exact stored value; cells without one stay last.
function sortable(root) {
  for (const button of root.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = head.closest("table").tBodies[0];
      const down = head.getAttribute("aria-sort") === "ascending";
      const numeric = head.dataset.kind === "number";
      const key = (row) => {
        const cell = row.cells[head.cellIndex];
        if (cell.dataset.sort !== undefined || !numeric) return cell.dataset.sort ?? cell.textContent;
        return Number.isNaN(parseFloat(cell.textContent)) ? "" : parseFloat(cell.textContent);
      };
      const order = (a, b) => (numeric ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
      const rows = [...body.rows].sort((a, b) => (key(a) === "") - (key(b) === "") || order(key(a), key(b)));
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    });
  }
}
sortable(document);

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

// A click on a picture opens it large; the same picture, so nothing is stored twice.
const lightbox = byId("lightbox");
document.addEventListener("click", (event) => {
  const picture = event.target.closest?.("button.enlarge, .picture");
  if (!picture || lightbox.contains(picture)) return;
  lightbox.replaceChildren(picture.closest("figure").cloneNode(true));
  lightbox.showModal();
});
lightbox?.addEventListener("click", () => lightbox.close());
