// @ts-check
// Numbers as people read them.

/** Powers of 1024, as the engine words them. @param {number} bytes */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1023.95 && unit + 1 < units.length) {
    value /= 1024;
    unit++;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** @param {number} value */
export const whole = (value) => Math.round(value).toLocaleString("en");

/** Parameters: 1.2 million, 135 million, 3.2 billion. @param {number} value */
export function parameters(value) {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} billion`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} million`;
  return whole(value);
}

/** @param {number} value */
export const rate = (value) => (value < 10 ? value.toFixed(1) : whole(value));

/** @param {number} ms */
export const seconds = (ms) => (ms < 950 ? `${Math.max(0.01, ms / 1000).toFixed(2)} s` : `${(ms / 1000).toFixed(1)} s`);

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;
