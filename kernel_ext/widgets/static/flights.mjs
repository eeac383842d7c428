// Messages between nodes: how many of each kind went over each link from one picture to the next, and which of them are drawn. Pure.

import { messageKind } from "./kinds.mjs";
import { escape } from "./text.mjs";

/** Messages that set off in one picture, drawn one by one. The others are numbers beside them. */
export const MOST_FLIGHTS = 16;
/** How long a drawn message takes at least (milliseconds): far longer than a real one, or nobody would see it. */
export const FLIGHT = 700;
const LONGEST = 4000; // of one over a slow link
const ASIDE = 5; // pixels that each direction keeps from the line between the nodes

/**
 * Messages of one kind over one direction of a link; `lost` if nothing passes there, `slow` (seconds) if the link is.
 * @typedef {{ from: number, to: number, kind: string, count: number, lost: boolean, slow: number | null }} Sent
 */

/** @param {Record<string, number> | undefined} before @param {Record<string, number>} after @returns {[string, number][]} */
function since(before, after) {
  const rose = Object.entries(after).map(([kind, count]) => {
    const was = before?.[kind] ?? 0;
    // Counting begins anew when a node is restarted.
    return /** @type {[string, number]} */ ([kind, count < was ? count : count - was]);
  });
  return rose.filter(([, count]) => count > 0);
}

/** @param {any} before @param {any} after @returns {Sent[]} all that was sent between two snapshots, the rarer kinds first */
export function sentBetween(before, after) {
  if (!before) return [];
  const old = new Map(before.links.map((link) => [`${link.a}-${link.b}`, link]));
  const found = [];
  for (const link of after.links) {
    const was = old.get(`${link.a}-${link.b}`);
    if (!was) continue;
    const { cut, slow } = link;
    for (const [kind, count] of since(was.out, link.out ?? {})) {
      found.push({ from: link.a, to: link.b, kind, count, lost: cut === "both" || cut === "out", slow });
    }
    for (const [kind, count] of since(was.back, link.back ?? {})) {
      found.push({ from: link.b, to: link.a, kind, count, lost: cut === "both" || cut === "back", slow });
    }
  }
  return found.sort((one, other) => messageKind(one.kind).rank - messageKind(other.kind).rank);
}

/** @param {Sent} sent @returns {string} in words */
export function sentWords({ from, to, kind, count, lost }) {
  const { word } = messageKind(kind);
  return `${from}→${to}: ${word}${count > 1 ? ` ×${count}` : ""}${lost ? ", lost" : ""}`;
}

/** @param {Record<string, number> | undefined} counts @returns {string} counts by kind, in words */
export function countWords(counts) {
  const all = Object.entries(counts ?? {}).sort(([one], [other]) => messageKind(one).rank - messageKind(other).rank);
  return all.map(([kind, count]) => `${count} ${kind}`).join(", ") || "none";
}

/** From one node to another, beside the line between them: where it begins and ends, and what is `along` it, by the share of the way and pixels that are `more` to the side. */
export function lane(from, to, radius) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const gap = Math.min(0.5, (radius + 8) / length);
  const [ox, oy] = [-dy / length, dx / length];
  const at = (share, aside = ASIDE) => ({ x: from.x + dx * share + ox * aside, y: from.y + dy * share + oy * aside });
  return { start: at(gap), end: at(1 - gap), middle: at(0.5), along: (share, more = 0) => at(gap + (1 - 2 * gap) * share, ASIDE + more) };
}

/**
 * What is drawn of what was sent: where each message sets off and ends, and for how long it is on its way.
 * @param {Sent[]} sent @param {Map<number, { x: number, y: number }>} places @param {number} radius
 */
export function flights(sent, places, radius) {
  const known = sent.filter(({ from, to }) => places.has(from) && places.has(to));
  return known.slice(0, MOST_FLIGHTS).map((one) => {
    const { start, end, middle } = lane(places.get(one.from), places.get(one.to), radius);
    const took = Math.min(LONGEST, Math.max(FLIGHT, (one.slow ?? 0) * 1000));
    return { ...one, start, end: one.lost ? middle : end, took, html: markHtml(one) };
  });
}

/** A message as it is drawn: its letter in a circle or, if it is an answer, in a square; a lost one is struck out. */
export function markHtml({ kind, count, lost }) {
  const { mark, answer } = messageKind(kind);
  const more = count > 1 ? `<i>×${count}</i>` : "";
  return `<span class="rv-message" data-kind="${escape(kind)}" data-answer="${answer}" data-lost="${lost}"><b>${escape(mark)}</b>${more}</span>`;
}

/** What the letters of messages mean. */
export function legendHtml() {
  const marks = ["append", "acknowledge", "ask vote", "ask pre-vote", "snapshot", "heartbeat"].map((kind) => `<b>${messageKind(kind).mark}</b> ${LEGEND[kind]}`);
  return `<p class="rv-quiet rv-messages">messages: ${marks.join(" · ")} · round: sent on its own, square: an answer</p>`;
}
const LEGEND = { append: "entries", acknowledge: "acknowledged", "ask vote": "vote", "ask pre-vote": "pre-vote", snapshot: "snapshot", heartbeat: "heartbeat" };
