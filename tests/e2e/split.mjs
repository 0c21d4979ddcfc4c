// A GGUF file in parts, as `gguf-split` of llama.cpp makes them: all keys in the first part, tensors in turn.

/** Bytes of the numbers among GGUF's value types; 8 is a string, 9 an array. */
const WIDTH = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
const UINT16 = 2;
const INT32 = 5;

const number = (bytes, value, write) => {
  const out = Buffer.alloc(bytes);
  out[write](value);
  return out;
};
const u32 = (value) => number(4, value, "writeUInt32LE");
const u64 = (value) => number(8, BigInt(value), "writeBigUInt64LE");
const string = (text) => Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)]);
const padding = (length) => Buffer.alloc((32 - (length % 32)) % 32);

/** @param {Buffer} file alignment 32 @param {number} count @returns {Buffer[]} */
export function split(file, count) {
  let at = 24;
  const size = () => Number(file.readBigUInt64LE((at += 8) - 8));
  const word = () => file.readUInt32LE((at += 4) - 4);
  // As an argument, a length is read before the place moves.
  const pass = (bytes) => (at += bytes);
  const skip = (type) => {
    if (type === 8) pass(size());
    else if (type === 9) {
      const inner = word();
      for (let left = size(); left > 0; left--) skip(inner);
    } else pass(WIDTH[type]);
  };
  const [tensorCount, keyCount] = [Number(file.readBigUInt64LE(8)), Number(file.readBigUInt64LE(16))];
  for (let key = 0; key < keyCount; key++) {
    pass(size());
    skip(word());
  }
  const keys = file.subarray(24, at);
  const tensors = Array.from({ length: tensorCount }, () => {
    const start = at;
    pass(size());
    pass(8 * word() + 4);
    const about = file.subarray(start, at);
    return { about, offset: size() };
  });
  const data = file.subarray(at + padding(at).length);
  const ends = [...tensors.map(({ offset }) => offset), data.length].sort((a, b) => a - b);
  const share = Math.ceil(tensorCount / count);
  return Array.from({ length: count }, (_, part) => {
    const own = tensors.slice(part * share, (part + 1) * share);
    const about = [
      [string("split.no"), u32(UINT16), number(2, part, "writeUInt16LE")],
      [string("split.count"), u32(UINT16), number(2, count, "writeUInt16LE")],
      [string("split.tensors.count"), u32(INT32), u32(tensorCount)],
    ].flat();
    const head = [Buffer.from("GGUF"), u32(3), u64(own.length), u64(3 + (part === 0 ? keyCount : 0)), ...(part === 0 ? [keys] : []), ...about];
    const bodies = [];
    let length = 0;
    for (const { about, offset } of own) {
      head.push(about, u64(length));
      // What lies up to the next tensor, its padding included.
      const body = data.subarray(offset, ends.find((end) => end > offset));
      bodies.push(body, padding(body.length));
      length += body.length + padding(body.length).length;
    }
    const front = Buffer.concat(head);
    return Buffer.concat([front, padding(front.length), ...bodies]);
  });
}
