/** CRC-32 as zlib computes it, eight bytes at a time ("slicing by 8", Kounavis and Berry, ISCC 2005). */

const POLYNOMIAL = 0xedb88320;
const T = tables();

/**
 * @param {Uint8Array} bytes
 * @returns {number} unsigned
 */
export function crc32(bytes) {
  let crc = -1;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    crc ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    crc =
      T[1792 + (crc & 255)] ^
      T[1536 + ((crc >>> 8) & 255)] ^
      T[1280 + ((crc >>> 16) & 255)] ^
      T[1024 + (crc >>> 24)] ^
      T[768 + bytes[i + 4]] ^
      T[512 + bytes[i + 5]] ^
      T[256 + bytes[i + 6]] ^
      T[bytes[i + 7]];
  }
  for (; i < bytes.length; i += 1) {
    crc = (crc >>> 8) ^ T[(crc ^ bytes[i]) & 255];
  }
  return (crc ^ -1) >>> 0;
}

/** Table k, at 256 * k: the checksum of a byte that k zero bytes follow. */
function tables() {
  const table = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) {
      crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
    }
    table[byte] = crc;
  }
  for (let i = 256; i < table.length; i += 1) {
    table[i] = (table[i - 256] >>> 8) ^ table[table[i - 256] & 255];
  }
  return table;
}
