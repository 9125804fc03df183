// What the plate browser needs of zarrita: open an array over HTTP and read its chunks, from shards, through Blosc.
import { registry } from "zarrita";
import { Blosc } from "./blosc.js";
import { Crc32c } from "./crc32c.js";

export { FetchStore, open } from "zarrita";
export { Blosc };

registry.set("blosc", () => Blosc);
registry.set("crc32c", () => Crc32c);
