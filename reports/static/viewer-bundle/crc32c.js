// The checksum of every chunk. zarrita takes it off without looking at it: damage would be drawn as a picture.
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

function checksum(bytes) {
  let value = 0xffffffff;
  for (let index = 0; index < bytes.length; index++) value = TABLE[(value ^ bytes[index]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

export class Crc32c {
  kind = "bytes_to_bytes";

  static fromConfig() {
    return new Crc32c();
  }

  decode(bytes) {
    const length = bytes.byteLength - 4;
    const content = bytes.subarray(0, length);
    const stored = new DataView(bytes.buffer, bytes.byteOffset + length, 4).getUint32(0, true);
    if (checksum(content) !== stored) throw new Error("its checksum does not fit: the file is damaged");
    return content;
  }

  computeEncodedSize(size) {
    return size + 4;
  }
}
