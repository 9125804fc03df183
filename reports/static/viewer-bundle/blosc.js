// Blosc 1 with Zstandard, as plates are written (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst).
// The usual codec is WebAssembly whose glue evaluates text as code, which the page's policy rightly forbids.
import { decompress } from "fzstd";

const HEADER = 16;
const SHUFFLE = 0x1, COPIED = 0x2, BIT_SHUFFLE = 0x4, NOT_SPLIT = 0x10;
const ZSTANDARD = 4;

export class Blosc {
  kind = "bytes_to_bytes";

  static fromConfig() {
    return new Blosc();
  }

  decode(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const flags = bytes[2];
    const typeSize = bytes[3];
    const size = view.getUint32(4, true);
    const blockSize = view.getUint32(8, true);
    if (flags & COPIED) return bytes.slice(HEADER, HEADER + size);
    if (flags >> 5 !== ZSTANDARD) throw new Error(`compressed by Blosc's method ${flags >> 5}, not by Zstandard`);
    const whole = new Uint8Array(size);
    for (let start = 0, block = 0; start < size; start += blockSize, block++) {
      const length = Math.min(blockSize, size - start);
      const parts = flags & NOT_SPLIT || length < blockSize ? 1 : typeSize;
      const shuffled = new Uint8Array(length);
      let from = view.getUint32(HEADER + 4 * block, true);
      for (let part = 0; part < parts; part++) {
        const packed = view.getUint32(from, true);
        const content = bytes.subarray(from + 4, from + 4 + packed);
        const target = shuffled.subarray((part * length) / parts, ((part + 1) * length) / parts);
        // what does not get smaller is stored as it is
        if (packed === target.length) target.set(content);
        else decompress(content, target);
        from += 4 + packed;
      }
      unshuffle(shuffled, whole.subarray(start, start + length), typeSize, flags);
    }
    return whole;
  }
}

function unshuffle(from, to, typeSize, flags) {
  const count = Math.floor(from.length / typeSize);
  if (flags & BIT_SHUFFLE && count % 8 === 0) unshuffleBits(from, to, typeSize, count);
  else if (flags & SHUFFLE && typeSize > 1) {
    for (let byte = 0; byte < typeSize; byte++) {
      for (let index = 0; index < count; index++) to[index * typeSize + byte] = from[byte * count + index];
    }
  } else {
    to.set(from);
    return;
  }
  to.set(from.subarray(count * typeSize), count * typeSize); // what is no whole number stays as it is
}

// Bit by bit of each byte, all elements' bits lie together: eight rows of eight bits are transposed at a time
// (Warren, Hacker's Delight, 7-3).
function unshuffleBits(from, to, typeSize, count) {
  const row = count / 8;
  for (let byte = 0; byte < typeSize; byte++) {
    for (let eight = 0; eight < row; eight++) {
      const at = byte * count + eight;
      let high = (from[at + 7 * row] << 24) | (from[at + 6 * row] << 16) | (from[at + 5 * row] << 8) | from[at + 4 * row];
      let low = (from[at + 3 * row] << 24) | (from[at + 2 * row] << 16) | (from[at + row] << 8) | from[at];
      let swap = (low ^ (low >>> 7)) & 0x00aa00aa;
      low ^= swap ^ (swap << 7);
      swap = (high ^ (high >>> 7)) & 0x00aa00aa;
      high ^= swap ^ (swap << 7);
      swap = (low ^ (low >>> 14)) & 0x0000cccc;
      low ^= swap ^ (swap << 14);
      swap = (high ^ (high >>> 14)) & 0x0000cccc;
      high ^= swap ^ (swap << 14);
      const first = (low & 0x0f0f0f0f) | ((high << 4) & 0xf0f0f0f0);
      const last = ((low >>> 4) & 0x0f0f0f0f) | (high & 0xf0f0f0f0);
      let place = eight * 8 * typeSize + byte;
      for (let shift = 0; shift < 32; shift += 8, place += typeSize) to[place] = first >>> shift;
      for (let shift = 0; shift < 32; shift += 8, place += typeSize) to[place] = last >>> shift;
    }
  }
}
