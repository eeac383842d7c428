// How many messages of each kind were sent, as numbers beside the links: for those who want nothing to move, and for a picture that
// stands still. Pure.

import { lane, sentWords } from "./flights.mjs";
import { messageKind } from "./kinds.mjs";
import { escape } from "./text.mjs";

// Where a number may stand, as a share of the way from its sender: best where the messages set off, but not upon other words.
const SHARES = [0.33, 0.4, 0.26, 0.46, 0.2, 0.52, 0.15, 0.58, 0.1, 0.66, 0.74];
const ASIDES = [0, 12, 24]; // pixels further from the link, on the sender's side of it
const LETTER = 6.6; // pixels of a letter, about: what has no page is not measured
const [ABOVE, BELOW] = [7, 8]; // pixels that a number takes of its place

/** @typedef {[number, number, number, number]} Box left, top, right and bottom */

/** @param {Box} one @param {Box} other @returns {number} how much of them is in both */
const shared = (one, other) =>
  Math.max(0, Math.min(one[2], other[2]) - Math.max(one[0], other[0])) * Math.max(0, Math.min(one[3], other[3]) - Math.max(one[1], other[1]));

/** @typedef {{ words: Box[], numbers: Box[] }} Taken what stands in the picture: nodes with their `words`, which must stay legible, and `numbers` */

/**
 * The first of these texts, at the first place, that is upon nothing; or that is upon others the least.
 * @param {string[]} texts @param {(share: number, aside: number) => { x: number, y: number }} along @param {Taken} taken
 * @returns {{ text: string, x: number, y: number, box: Box, upon: number }}
 */
function placed(texts, along, { words, numbers }) {
  let best = null;
  for (const text of texts) {
    for (const aside of ASIDES) {
      for (const share of SHARES) {
        const { x, y } = along(share, aside);
        const half = (text.length * LETTER) / 2;
        /** @type {Box} */
        const box = [x - half, y - ABOVE, x + half, y + BELOW];
        const area = (boxes) => boxes.reduce((sum, other) => sum + shared(box, other), 0);
        const upon = 10 * area(words) + area(numbers);
        if (best === null || upon < best.upon) best = { text, x, y, box, upon };
        if (!upon) return best;
      }
    }
  }
  return best;
}

/**
 * @param {import("./flights.mjs").Sent[]} sent @param {Map<number, { x: number, y: number }>} places @param {number} radius
 * @param {boolean} dense @param {Box[]} words where others stand already
 */
export function numbersSvg(sent, places, radius, dense = false, words = []) {
  const most = dense ? 1 : 2; // kinds that are told beside a link; all of them when it is pointed at, and in the tables
  const lanes = new Map();
  for (const one of sent) {
    if (!places.has(one.from) || !places.has(one.to)) continue;
    const name = `${one.from}>${one.to}`;
    lanes.set(name, [...(lanes.get(name) ?? []), one]);
  }
  /** @type {Taken} */
  const taken = { words, numbers: [] };
  return [...lanes.values()].map((all) => {
    const [{ from, to, lost }] = all;
    const told = (kinds) => all.slice(0, kinds).map((one) => `${messageKind(one.kind).mark}${one.count}`).join(" ") + (all.length > kinds ? "…" : "") + (lost ? " ✗" : "");
    const texts = most > 1 && all.length > 1 ? [told(most), told(1)] : [told(most)];
    const { text, x, y, box } = placed(texts, lane(places.get(from), places.get(to), radius).along, taken);
    taken.numbers.push(box);
    return (
      `<g class="rv-sent" data-lane="${from}-${to}" data-lost="${lost}" transform="translate(${x.toFixed(1)} ${y.toFixed(1)})">` +
      `<title>${escape(all.map(sentWords).join("; "))}</title><text y="4">${escape(text)}</text></g>`
    );
  }).join("");
}
