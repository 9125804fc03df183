// A table of any length: all rows lie in the page as columns, and only one page of them is in the document.
const NOTHING = "—";
const MOLAR = "µM";
const PAGE_SIZES = [25, 50, 100, 200];
const exactly = [];
function fixed(value, places) {
  const options = { useGrouping: false, minimumFractionDigits: places, maximumFractionDigits: places, roundingMode: "halfEven" };
  return (exactly[places] ??= new Intl.NumberFormat("en", options)).format(value);
}

// Numbers are written as the server writes them (reports/words.py); null is a number that does not exist.
function number(value) {
  if (value === null) return NOTHING;
  if (!Number.isFinite(value)) return "unbounded";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) return value.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2");
  const text = fixed(value, Math.max(0, 2 - Math.floor(Math.log10(size))));
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
const percent = (value) => (value === null ? NOTHING : `${fixed(100 * value, 0)} %`);
const unitOf = (value) => (value > 0 && value < 0.1 ? ["nM", 1000] : value >= 1000 ? ["mM", 0.001] : [MOLAR, 1]);
function dose(value) {
  if (value === null) return NOTHING;
  const [unit, factor] = unitOf(value);
  return `${number(value * factor)} ${unit}`;
}
const written = {
  number,
  percent,
  dose,
  hours: (value) => (value === null ? NOTHING : `${number(value)} h`),
};
function interval(form, value, low, high) {
  if (form === "percent") return low === null || high === null ? "" : `${fixed(100 * low, 0)} to ${percent(high)}`;
  if (form !== "dose") return low === null || high === null ? "" : `${number(low)} to ${number(high)}`;
  const [unit, factor] = unitOf(value);
  const below = low !== null && Number.isFinite(low) && low > 0;
  const above = high !== null && Number.isFinite(high);
  if (below && above) return `${number(low * factor)} to ${number(high * factor)} ${unit}`;
  if (below) return `above ${number(low * factor)} ${unit}, no upper bound`;
  return above ? `below ${number(high * factor)} ${unit}, no lower bound` : "interval unbounded";
}

// Filters: text is searched for; a number may be >5, <=0.3, 1 to 3, with a unit where the column has one.
const UNITS = { nm: 1e-3, µm: 1, μm: 1, um: 1, mm: 1e3 };
const AMOUNT = "(-?\\d*\\.?\\d+(?:e[+-]?\\d+)?)\\s*(nM|[uµμ]M|mM|%|h)?";
const COMPARED = new RegExp(`^(<=|>=|≤|≥|<|>|=)?\\s*${AMOUNT}$`, "i");
const RANGE = new RegExp(`^${AMOUNT}\\s*(?:to|\\.\\.|–|-)\\s*${AMOUNT}$`, "i");
function matcher(column, text) {
  const needle = text.trim().toLowerCase();
  if (column.kind !== "number") return (row) => column.values[row].toLowerCase().includes(needle);
  const scale = (unit) => (column.form === "percent" ? 0.01 : UNITS[unit?.toLowerCase()] ?? 1);
  const values = column.values;
  const range = needle.match(RANGE);
  if (range) {
    const low = range[1] * scale(range[2] ?? range[4]);
    const high = range[3] * scale(range[4]);
    return (row) => values[row] !== null && values[row] >= low && values[row] <= high;
  }
  const compared = needle.match(COMPARED);
  if (!compared) {
    const words = Object.values(column.words).some((told) => told.toLowerCase().includes(needle));
    return words ? (row) => (column.words[row] ?? "").toLowerCase().includes(needle) : null;
  }
  const limit = compared[2] * scale(compared[3]);
  const write = written[column.form];
  const holds = {
    "<": (value) => value < limit,
    "<=": (value) => value <= limit,
    "≤": (value) => value <= limit,
    ">": (value) => value > limit,
    ">=": (value) => value >= limit,
    "≥": (value) => value >= limit,
  }[compared[1]] ?? ((value) => write(value) === write(limit)); // equal as it is read
  return (row) => values[row] !== null && holds(values[row]);
}

// Text that a spreadsheet would run as a formula gets an apostrophe in front, as in the files beside the page.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (Math.abs(value) === Infinity) return value > 0 ? "inf" : "-inf";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const make = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const fromInf = (values) => values.map((value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value));

function pagedTable(root, sheet) {
  const table = root.querySelector("table");
  const status = root.querySelector("[role=status]");
  const search = root.querySelector("input[type=search]");
  const chips = root.querySelector("template").content;
  const columns = sheet.columns;
  const byKey = new Map(columns.map((column) => [column.key, column]));
  for (const column of columns) {
    if (column.kind === "number") for (const part of ["values", "low", "high"]) column[part] = fromInf(column[part]);
  }
  const count = columns[0].values.length;
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const searched = columns.filter((column) => column.kind === "text" || column.kind === "state");
  const standard = columns.filter((column) => column.shown).map((column) => column.key);
  let haystack = null;
  let state, rows;

  const fresh = () => ({ sort: "", down: false, query: "", filters: {}, columns: [...standard], page: 0, size: 50 });
  const shownColumns = () => columns.filter((column) => state.columns.includes(column.key));

  // The state of the table is the fragment of the address: what is sent to a colleague opens as it was seen.
  const save = () => {
    const kept = new URLSearchParams();
    if (state.sort) kept.set("sort", (state.down ? "-" : "") + state.sort);
    if (state.query) kept.set("q", state.query);
    for (const [key, text] of Object.entries(state.filters)) if (text) kept.set(`f.${key}`, text);
    if (state.columns.join() !== standard.join()) kept.set("columns", state.columns.join());
    if (state.page) kept.set("page", state.page + 1);
    if (state.size !== 50) kept.set("size", state.size);
    const fragment = kept.size ? `#${sheet.anchor}?${kept}` : `#${sheet.anchor}`;
    if (kept.size || location.hash.startsWith(`#${sheet.anchor}?`)) history.replaceState(null, "", fragment);
  };
  const restore = () => {
    state = fresh();
    const found = location.hash.startsWith(`#${sheet.anchor}?`);
    const kept = new URLSearchParams(found ? location.hash.slice(sheet.anchor.length + 2) : "");
    const sort = kept.get("sort") ?? "";
    if (byKey.has(sort.replace(/^-/, ""))) Object.assign(state, { sort: sort.replace(/^-/, ""), down: sort[0] === "-" });
    state.query = kept.get("q") ?? "";
    for (const [key, text] of kept) if (key.startsWith("f.") && byKey.has(key.slice(2))) state.filters[key.slice(2)] = text;
    if (kept.has("columns")) state.columns = kept.get("columns").split(",").filter((key) => byKey.has(key));
    if (PAGE_SIZES.includes(Number(kept.get("size")))) state.size = Number(kept.get("size"));
    search.value = state.query;
    heading();
    choose();
    state.page = Math.max(0, Math.trunc(Number(kept.get("page") ?? 1)) - 1 || 0);
    if (found) root.scrollIntoView();
  };

  const select = () => {
    const query = state.query.trim().toLowerCase();
    if (query) haystack ??= Array.from({ length: count }, (_, row) => searched.map((c) => c.values[row]).join("\n").toLowerCase());
    const tests = query ? [(row) => haystack[row].includes(query)] : [];
    for (const input of table.querySelectorAll("thead input")) {
      const text = state.filters[input.name];
      const test = text ? matcher(byKey.get(input.name), text) : undefined;
      input.setAttribute("aria-invalid", String(test === null));
      if (test) tests.push(test);
    }
    rows = [];
    for (let row = 0; row < count; row++) if (tests.every((test) => test(row))) rows.push(row);
    const column = byKey.get(state.sort);
    if (!column) return;
    // the sort keeps the order of equal rows, and rows without a value stay last in both directions
    const values = column.values;
    const order = column.kind === "number" ? (a, b) => a - b : compare;
    const sign = state.down ? -1 : 1;
    const there = rows.filter((row) => values[row] !== null && values[row] !== "");
    const absent = rows.filter((row) => values[row] === null || values[row] === "");
    rows = [...there.sort((a, b) => sign * order(values[a], values[b])), ...absent];
  };

  const cell = (column, row) => {
    const value = column.values[row];
    if (column.key === "compound") {
      const name = shown(value);
      const link = row < sheet.drawn ? make("a", { href: `#compound-${row}`, textContent: name }) : name;
      const page = sheet.dossiers?.[row];
      return make("th", { scope: "row" }, link, ...(page ? [" ", make("a", { href: page, className: "dossier", textContent: "dossier" })] : []));
    }
    const td = document.createElement("td");
    if (column.kind === "spark") {
      td.append(spark(value));
    } else if (column.kind === "state") {
      td.append(chips.querySelector(`[data-state="${CSS.escape(value)}"]`)?.cloneNode(true) ?? make("span", { className: "none", textContent: "none" }));
    } else if (column.kind === "text") {
      Object.assign(td, { className: "note", textContent: shown(value) });
    } else if (row in column.words) {
      Object.assign(td, { className: "number words", textContent: column.words[row] });
      td.dataset.sort = "";
    } else {
      td.className = "number";
      td.dataset.sort = value ?? "";
      td.append(written[column.form](value));
      const between = value === null || !column.low.length ? "" : interval(column.form, value, column.low[row], column.high[row]);
      if (between) td.append(" ", make("span", { className: "interval", textContent: between }));
    }
    return td;
  };
  const shown = (text) => {
    // one line, no control or direction characters, not endless: as words.plain
    const plain = text.trim().split(/\s+/).join(" ").replace(/\p{C}/gu, "\uFFFD");
    const letters = [...plain];
    return letters.length <= 60 ? plain : `${letters.slice(0, 59).join("")}…`;
  };
  const spark = ([line, dots]) => {
    const space = "http://www.w3.org/2000/svg";
    if (!line && !dots) return "";
    const svg = document.createElementNS(space, "svg");
    for (const [name, text] of [["class", "spark"], ["viewBox", `0 0 ${sheet.width} ${sheet.height}`], ["aria-hidden", "true"]]) svg.setAttribute(name, text);
    for (const [kind, path] of [["line", line], ["dots", dots]]) {
      const drawn = document.createElementNS(space, "path");
      drawn.setAttribute("class", kind);
      drawn.setAttribute("d", path);
      svg.append(drawn);
    }
    return svg;
  };

  const fill = (size = state.size) => {
    const pages = Math.max(1, Math.ceil(rows.length / size));
    state.page = Math.min(state.page, pages - 1);
    const first = state.page * size;
    const visible = rows.slice(first, first + size);
    const columnsNow = shownColumns();
    table.tBodies[0].replaceChildren(...visible.map((row) => {
      const tr = make("tr", { tabIndex: -1 }, ...columnsNow.map((column) => cell(column, row)));
      tr.dataset.row = row;
      return tr;
    }));
    const some = rows.length === count ? `${count} compounds` : `${rows.length} that pass, of ${count} compounds`;
    const wrong = [...table.querySelectorAll("[aria-invalid=true]")].map((input) => `“${input.value}” is not understood: write >5, <=0.3 or 1 to 3.`);
    status.textContent = [rows.length ? `Rows ${first + 1} to ${first + visible.length} of ${some}.` : `No row of ${count} compounds passes.`, ...wrong].join(" ");
    root.querySelector("[data-act=previous]").disabled = state.page === 0;
    root.querySelector("[data-act=next]").disabled = state.page >= pages - 1;
    root.querySelector("[data-act=page]").textContent = `Page ${state.page + 1} of ${pages}`;
  };
  const update = ({ page = 0 } = {}) => {
    state.page = page;
    select();
    fill();
    save();
  };
  const heading = () => {
    const heads = make("tr", {});
    const filters = make("tr", { className: "filters" });
    for (const column of shownColumns()) {
      const th = make("th", { scope: "col" });
      th.dataset.kind = column.kind;
      if (column.kind === "spark") th.append(column.label);
      else {
        if (column.key === state.sort) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        const button = make("button", { type: "button", textContent: column.label });
        button.addEventListener("click", () => {
          state.down = state.sort === column.key && !state.down;
          state.sort = column.key;
          for (const head of heads.cells) head.removeAttribute("aria-sort");
          th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
          update();
        });
        th.append(button);
      }
      heads.append(th);
      const place = make("td", {});
      if (column.kind !== "spark") {
        const hint = column.form === "percent" ? ">50 %" : column.form === "dose" ? "<1 µM" : column.kind === "number" ? ">5" : "contains";
        const input = make("input", { type: "text", name: column.key, placeholder: hint, value: state.filters[column.key] ?? "", autocomplete: "off", spellcheck: false });
        input.setAttribute("aria-label", `Filter ${column.label}`);
        input.addEventListener("input", () => {
          state.filters[column.key] = input.value;
          update();
        });
        place.append(input);
      }
      filters.append(place);
    }
    table.tHead.replaceChildren(heads, filters);
  };
  const choose = () => {
    const boxes = columns.map((column) => {
      const box = make("input", { type: "checkbox", checked: state.columns.includes(column.key), value: column.key });
      box.addEventListener("change", () => {
        const chosen = new Set(state.columns);
        if (box.checked) chosen.add(column.key);
        else chosen.delete(column.key);
        state.columns = columns.map((one) => one.key).filter((key) => chosen.has(key));
        if (!box.checked) delete state.filters[column.key];
        heading();
        update({ page: state.page });
      });
      return make("label", {}, box, ` ${column.label}`);
    });
    root.querySelector(".columns").replaceChildren(...boxes);
  };
  const csv = () => {
    const parts = shownColumns().filter((column) => column.kind !== "spark").flatMap((column) => {
      const told = Object.keys(column.words).length > 0;
      return [
        [column.key, column.values],
        ...(column.low.length ? [[`${column.key}_low`, column.low], [`${column.key}_high`, column.high]] : []),
        ...(told ? [[`${column.key}_words`, column.words]] : []),
      ];
    });
    const lines = rows.map((row) => parts.map(([, cells]) => csvCell(cells[row])).join(","));
    return [parts.map(([key]) => key).join(","), ...lines, ""].join("\n");
  };

  search.addEventListener("input", () => {
    state.query = search.value;
    update();
  });
  root.addEventListener("click", (event) => {
    const act = event.target.dataset.act;
    if (act === "previous" || act === "next") update({ page: state.page + (act === "next" ? 1 : -1) });
    if (act === "reset") {
      history.replaceState(null, "", `#${sheet.anchor}`);
      start();
    }
    if (act === "csv") saveText(csv(), root.dataset.file);
  });
  const size = root.querySelector("select");
  size.replaceChildren(...PAGE_SIZES.map((rows) => make("option", { value: rows, textContent: rows })));
  size.addEventListener("change", () => {
    state.size = Number(size.value);
    update();
  });
  const start = () => {
    restore();
    size.value = state.size;
    select();
    fill();
  };
  addEventListener("hashchange", () => location.hash.startsWith(`#${sheet.anchor}?`) && start());
  // on paper as many rows as the page has without scripts
  addEventListener("beforeprint", () => fill(Math.max(200, state.size)));
  addEventListener("afterprint", () => fill());
  start();
  for (const tool of root.querySelectorAll("[hidden]")) tool.hidden = false;

  // a point of a figure was chosen: its row is brought to sight, whatever was filtered
  const pick = (row) => {
    if (!rows.includes(row)) {
      Object.assign(state, { query: "", filters: {} });
      search.value = "";
      heading();
      select();
    }
    update({ page: Math.floor(rows.indexOf(row) / state.size) });
    const tr = table.tBodies[0].querySelector(`tr[data-row="${row}"]`);
    table.querySelector("tr.picked")?.classList.remove("picked");
    tr.classList.add("picked");
    tr.scrollIntoView({ block: "center" });
    tr.focus({ preventScroll: true });
  };
  return { csv, pick };
}

function saveText(text, name) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

const pagedRoot = byId("ranking-table");
let ranked = null;
if (pagedRoot) {
  inflate("ranking-sheet", "deflate").then((json) => {
    ranked = pagedTable(pagedRoot, JSON.parse(json));
  });
  // plotly's own clicks exist once a figure is drawn
  const watcher = new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (target.dataset.state !== "drawn" || !target.layout?.meta?.pick) continue;
      target.on("plotly_click", (event) => {
        const row = event.points[0].customdata;
        if (Number.isInteger(row)) ranked?.pick(row);
      });
    }
  });
  for (const place of document.querySelectorAll("[data-figure]")) watcher.observe(place, { attributeFilter: ["data-state"] });
}
