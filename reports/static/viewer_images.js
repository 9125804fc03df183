// What is drawn, on its way here: rows of the plate in small, chunks of the stores, facts of a field.
const byId = (id) => document.getElementById(id);
const plate = JSON.parse(byId("plate").textContent);
const here = new URL(".", location.href);

const WAY = { absent: 0, image: 1, states: 2, damaged: 3 };
const MOST_BYTES = 256 << 20;
const MOST_MOSAICS = 8;
const LANES = 3;

// page and tests see from it whether all has come
let pending = 0;
async function waiting(promise) {
  pending++;
  document.body.dataset.state = "loading";
  try {
    return await promise;
  } finally {
    pending--;
    if (!pending) requestDraw();
  }
}

async function ask(address) {
  const answer = await fetch(new URL(address, here));
  if (!answer.ok) throw new Error(`The server answered ${answer.status} to ${address}.`);
  return answer;
}

// --- the plate in small: one answer a row, drawn as it comes

const mosaics = new Map();
let wanted = "";
function mosaic(field, time) {
  const key = `${field}/${time}`;
  let found = mosaics.get(key);
  wanted = key;
  if (!found) {
    found = { rows: new Array(plate.rows).fill(null) };
    const left = [...found.rows.keys()];
    for (let lane = 0; lane < LANES; lane++) waiting(loadRows(found, key, left)).catch(complain);
  }
  mosaics.delete(key); // the last one used comes last
  mosaics.set(key, found);
  for (const old of [...mosaics.keys()].slice(0, -MOST_MOSAICS)) mosaics.delete(old);
  return found;
}

// a slider that is moved on leaves what it passed by
async function loadRows(found, key, left) {
  while (left.length) {
    if (key !== wanted) {
      mosaics.delete(key);
      return;
    }
    await loadRow(found, key, left.shift());
  }
}

async function loadRow(found, key, row) {
  const bytes = await (await ask(`mosaic/${key}/${row}`)).arrayBuffer();
  const { width, height } = plate.cell;
  const head = plate.columns + (plate.columns % 2);
  const pixels = plate.columns * width * height;
  found.rows[row] = {
    known: new Uint8Array(bytes, 0, plate.columns),
    image: layer(new Uint16Array(bytes, head, pixels), width, height * plate.columns),
    states: layer(new Uint8Array(bytes, head + 2 * pixels, pixels), width, height * plate.columns),
  };
  requestDraw();
}

// --- chunks of the stores

const arrays = new Map();
function openArray(path) {
  if (!arrays.has(path)) {
    const store = new zarrita.FetchStore(new URL(`files/${path}`, here), { useSuffixRequest: true });
    const opened = zarrita.open.v3(store, { kind: "array" });
    opened.catch(() => arrays.delete(path));
    arrays.set(path, opened);
  }
  return arrays.get(path);
}

const chunks = new Map();
let bytesHeld = 0;
// the chunk if it is here; otherwise it is sent for, and the picture drawn again when it comes
function chunk(path, array, place) {
  const key = `${path}|${place.join("/")}`;
  const found = chunks.get(key);
  if (found) {
    chunks.delete(key);
    chunks.set(key, found);
    return found.data ? found : null;
  }
  const made = { data: null, layers: new Map() };
  chunks.set(key, made);
  waiting(array.getChunk(place)).then(
    (got) => {
      Object.assign(made, { data: got.data, shape: got.shape });
      bytesHeld += got.data.byteLength;
      for (const [old, one] of chunks) {
        if (bytesHeld <= MOST_BYTES) break;
        if (one === made || !one.data) continue;
        bytesHeld -= one.data.byteLength;
        chunks.delete(old);
      }
      requestDraw();
    },
    (error) => {
      made.failed = true;
      complain(new Error(`${path}, part ${place.join("/")}: ${error.cause?.message ?? error.message}`));
    },
  );
  return null;
}

// slice of a chunk as a layer
function sliceOf(one, z) {
  if (!one.layers.has(z)) {
    const [height, width] = one.shape.slice(-2);
    const size = height * width;
    one.layers.set(z, layer(one.data.subarray(z * size, (z + 1) * size), width, height));
    if (one.layers.size > 2) one.layers.delete(one.layers.keys().next().value);
  }
  return one.layers.get(z);
}

// --- numbers to pictures

function layer(data, width, height) {
  return { data, width, height, canvas: null, made: "" };
}

const tables = new Map();
function greyTable(low, high) {
  const key = `${low}|${high}`;
  if (!tables.has(key)) {
    if (tables.size > 20) tables.clear();
    const table = new Uint32Array(65536);
    for (let value = 1; value < 65536; value++) {
      const grey = Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));
      table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    tables.set(key, table); // 0 is missing and stays clear
  }
  return tables.get(key);
}

const stateTable = new Uint32Array(256);
plate.states.forEach((state, index) => {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(state.colour.slice(start, start + 2), 16));
  stateTable[index + 1] = (0x70000000 | (blue << 16) | (green << 8) | red) >>> 0;
});

function painted(one, table, key) {
  if (one.made !== key) {
    one.canvas ??= Object.assign(document.createElement("canvas"), { width: one.width, height: one.height });
    const context = one.canvas.getContext("2d");
    const picture = context.createImageData(one.width, one.height);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let index = 0; index < pixels.length; index++) pixels[index] = table[one.data[index]];
    context.putImageData(picture, 0, 0);
    one.made = key;
  }
  return one.canvas;
}

// --- what the results say of a field

const known = new Map();
function facts(well, field, time) {
  const key = `${well}/${field}/${time}`;
  if (!known.has(key)) {
    if (known.size > 200) known.clear();
    known.set(key, null);
    waiting(ask(`field/${key}`).then((answer) => answer.json())).then(
      (found) => {
        known.set(key, found);
        arrived(key);
      },
      (error) => {
        known.set(key, { images: { fluorescence: [] }, patches: null, fractions: null });
        complain(error);
      },
    );
  }
  return known.get(key);
}
