// The last minutes, to scrub through: a bounded list of pictures. Pure.

import { changes, truncated } from "./words.mjs";

/** Pictures kept. When there are more, every second one of the older half goes, unless something happened in it. */
export const MAX_FRAMES = 600;
/** Seconds of history kept. */
export const MAX_AGE = 300;
/** For how long entries that a log dropped are still drawn, struck out (seconds). */
export const LOST_SHOWN = 10;

/**
 * A snapshot, what happened since the one before it in words, and by node the entries its log dropped lately.
 * @typedef {{ snapshot: any, said: string[], lost: Record<number, { index: number, term: number, at: number, entry: any }[]> }} Frame
 */

/** @param {Frame[]} frames oldest first @param {any} snapshot @returns {Frame[]} the same with one more */
export function remember(frames, snapshot) {
  const last = frames.at(-1);
  if (last && last.snapshot.seq === snapshot.seq) return frames;
  const frame = { snapshot, said: changes(last?.snapshot, snapshot), lost: lostIn(last, snapshot) };
  const young = frames.filter((one) => snapshot.time - one.snapshot.time <= MAX_AGE);
  young.push(frame);
  return young.length > MAX_FRAMES ? thinned(young) : young;
}

/** @param {Frame[]} frames */
function thinned(frames) {
  const half = Math.floor(frames.length / 2);
  const kept = frames.filter((frame, place) => place >= half || place % 2 === 0 || frame.said.length > 0);
  return kept.slice(Math.max(0, kept.length - MAX_FRAMES));
}

/** @param {Frame | undefined} last @param {any} snapshot */
function lostIn(last, snapshot) {
  if (!last) return {};
  /** @type {Frame["lost"]} */
  const lost = {};
  const before = new Map(last.snapshot.nodes.map((node) => [node.node, node]));
  for (const node of snapshot.nodes) {
    const kept = (last.lost[node.node] ?? []).filter((one) => snapshot.time - one.at < LOST_SHOWN);
    const was = before.get(node.node);
    const fresh = was ? truncated(was, node) : [];
    const told = fresh.map(([index, term]) => ({ index, term, at: snapshot.time, entry: last.snapshot.entries?.[`${index}:${term}`] }));
    if (kept.length || told.length) lost[node.node] = [...kept, ...told];
  }
  return lost;
}

/** @param {Frame[]} frames @param {number | null} seq @returns {number} the place of that picture, or of the next one that is left; null is the last */
export function placeOf(frames, seq) {
  if (seq === null) return frames.length - 1;
  const place = frames.findIndex((frame) => frame.snapshot.seq >= seq);
  return place < 0 ? frames.length - 1 : place;
}

/** @param {Frame[]} frames @param {number} place @param {number} way 1 or -1 @returns {number} the next place that way where something happened, else the end */
export function eventFrom(frames, place, way) {
  for (let at = place + way; at >= 0 && at < frames.length; at += way) if (frames[at].said.length) return at;
  return way < 0 ? 0 : frames.length - 1;
}
