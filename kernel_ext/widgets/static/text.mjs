// Small things about text. Pure.

/** @param {unknown} value @returns {string} text that is safe in markup and in attributes */
export function escape(value) {
  return String(value).replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);
}

/** @param {unknown} text @param {number} most @returns {string} the text, cut in the middle so that both ends stay readable */
export function shorten(text, most) {
  const all = String(text);
  if (all.length <= most) return all;
  const tail = Math.floor((most - 1) / 3);
  return `${all.slice(0, most - 1 - tail)}…${all.slice(all.length - tail)}`;
}

/** @param {number} number @param {string} noun @returns {string} such as "1 step" or "2 steps" */
export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** @param {number} seconds @returns {string} such as "40 ms", "1.2 s" or "3 min 5 s" */
export function duration(seconds) {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

/** @param {number} seconds @returns {string} time that is left, in whole units: "4 s", "3 min 5 s", "2 h 10 min", "3 days 4 h" */
export function timeLeft(seconds) {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${counted(Math.floor(whole / 86400), "day")} ${Math.floor((whole % 86400) / 3600)} h`;
}

/** @param {number} time Unix seconds @returns {string} the local time of day */
export function clock(time) {
  return new Date(time * 1000).toTimeString().slice(0, 8);
}

/** @param {number} bytes @returns {string} */
export function size(bytes) {
  return bytes < 1000 ? `${bytes} bytes` : bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
