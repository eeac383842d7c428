// The nodes in a ring, with the links between them, as SVG. Pure.

import { numbersSvg } from "./numbers.mjs";
import { escape } from "./text.mjs";
import { conditions, linkWords, nodeWords, roleOf, summary } from "./words.mjs";

const RADIUS = 27; // of a node
const CROWN = "M0 9 L0 2 L3.5 5 L6 0 L8.5 5 L12 2 L12 9 Z";
const CHIPS_SHOWN = 3;

/** Terms that follow each other get colours that are far apart. @param {number} term @returns {number} a hue */
export const termHue = (term) => (term * 67 + 190) % 360;

/** Where the nodes stand for this width in pixels; `dense` if there is room for few words. */
export function ring(count, width) {
  const dense = count > 1 && width / Math.min(count, 4) < 115;
  const factor = dense && count > 6 ? 0.74 : 1; // many nodes in a narrow column are smaller
  const label = dense ? 34 : 92;
  const across = Math.max(30, Math.min(width / 2 - (dense ? 30 : 66), 250));
  const tall = count < 3 ? 0 : Math.max(count < 4 ? 78 : 112, count > 5 || dense ? count * 26 : 0);
  const top = RADIUS + 26;
  const points = Array.from({ length: count }, (_, index) => {
    const angle = count === 2 ? index * Math.PI + Math.PI : (2 * Math.PI * index) / count - Math.PI / 2;
    return { x: width / 2 + (count < 2 ? 0 : across * Math.cos(angle)), y: tall * Math.sin(angle) };
  });
  const highest = Math.min(...points.map((point) => point.y));
  const places = points.map(({ x, y }) => ({ x, y: y - highest + top }));
  const lowest = Math.max(...places.map((place) => place.y));
  return { places, dense, factor, radius: RADIUS * factor, height: Math.ceil(lowest + (RADIUS + label) * factor) };
}

function chip(word, y) {
  const width = word.length * 6.4 + 14;
  return (
    `<g class="rv-chip rv-${escape(word.split(" ").pop())}" transform="translate(${(-width / 2).toFixed(1)} ${y})">` +
    `<rect width="${width.toFixed(1)}" height="16" rx="4"/><text x="${(width / 2).toFixed(1)}" y="12">${escape(word)}</text></g>`
  );
}

/** The rest of the time until a node that hears no leader asks for votes, as an arc that runs out. */
function timer(node, snapshot, still) {
  if (node.timer === null || node.timer === undefined || node.role === "dead" || snapshot.state === "stopped") return "";
  const share = Math.min(1, node.timer / (snapshot.timeout || 1));
  // The name of the animation differs from one picture to the next: it starts anew with each.
  const run = still ? "" : `animation: rv-runs-out-${snapshot.seq % 2} ${Math.max(0.01, node.timer)}s linear forwards;`;
  return (
    `<circle class="rv-timer" r="${RADIUS + 5}" pathLength="1" transform="rotate(-90)" ` +
    `style="--rv-share: ${share.toFixed(3)}; stroke-dasharray: ${share.toFixed(3)} 1; ${run}"/>`
  );
}

/** What is the matter with a node: all of it, and as many words as are shown. What is wrong with a link is written on the link. */
function chipsOf(node) {
  const told = conditions(node).filter((word) => word === "isolated" || !(node.links ?? []).includes(word));
  const shown = told.slice(0, CHIPS_SHOWN);
  if (told.length > CHIPS_SHOWN) shown.splice(CHIPS_SHOWN - 1, 1, `${told.length - CHIPS_SHOWN + 1} more`);
  return { told, shown };
}

/** Where a node is drawn, with a crown if it has one, and its words stand. @returns {import("./numbers.mjs").Box[]} */
function boxesOf(node, place, { dense, factor }) {
  const box = (half, top, bottom) => [place.x - half * factor, place.y + top * factor, place.x + half * factor, place.y + bottom * factor];
  const chips = dense ? 0 : chipsOf(node).shown.length;
  const words = box(dense ? 32 : 62, RADIUS + 3, RADIUS + (dense ? 33 : 38));
  return [box(RADIUS + 5, -RADIUS - 18, RADIUS + 5), words, ...(chips ? [box(46, RADIUS + 39, RADIUS + 39 + chips * 18)] : [])];
}

function nodeSvg(node, snapshot, place, { dense, factor }, ui, still) {
  const role = roleOf(node, snapshot);
  const gone = role === "dead" || role === "stopped";
  const { told, shown } = chipsOf(node);
  const crown = role === "leader" ? `<path class="rv-crown" d="${CROWN}" transform="translate(-9 ${-RADIUS - 17}) scale(1.5)"/>` : "";
  const cross = role === "dead" ? `<path class="rv-cross" d="M-15 -15 L15 15 M15 -15 L-15 15"/>` : "";
  const side = (ui.side ?? []).includes(node.node) ? `<text class="rv-sided" x="${-RADIUS - 6}" y="${-RADIUS + 6}">◧</text>` : "";
  const terms = dense
    ? `<text class="rv-soft" y="${RADIUS + 29}">term ${node.term}</text>`
    : `<g class="rv-term" transform="translate(0 ${RADIUS + 33})"><circle cx="${gone ? -30 : -54}" cy="-4" r="5" style="--rv-term: ${termHue(node.term)}"/>` +
      `<text x="${gone ? 6 : 7}" y="0">term ${node.term}${gone ? "" : ` · epoch ${node.epoch}`}</text></g>`;
  const words = dense
    ? told.length ? `<text class="rv-told" x="${RADIUS - 3}" y="${-RADIUS + 6}">!</text>` : ""
    : shown.map((word, at) => chip(word, RADIUS + 40 + at * 18)).join("");
  return (
    `<g class="rv-node" role="button" tabindex="0" aria-pressed="${ui.node === node.node}" aria-label="${escape(nodeWords(node, snapshot))}" ` +
    `data-node="${node.node}" data-role="${role}" data-term="${node.term}" data-epoch="${node.epoch}" data-commit="${node.commit}" ` +
    `data-applied="${node.applied}" data-paused="${node.paused}" data-held="${node.held}" data-blocked="${Boolean(node.blocked)}" ` +
    `data-acting="${node.acting}" data-sided="${(ui.side ?? []).includes(node.node)}" transform="translate(${place.x.toFixed(1)} ${place.y.toFixed(1)})${factor === 1 ? "" : ` scale(${factor})`}">` +
    `<title>${escape(nodeWords(node, snapshot))}${node.blocked ? escape(`; blocked at ${node.blocked}`) : ""}</title>` +
    `<circle class="rv-hit" r="${RADIUS + 10}"/>${role === "leader" ? `<circle class="rv-halo" r="${RADIUS + 4}"/>` : ""}` +
    `<circle class="rv-disc" r="${RADIUS}" style="--rv-term: ${termHue(node.term)}"/>${timer(node, snapshot, still)}${crown}` +
    `<text class="rv-number" y="8">${node.node}</text>${cross}${side}` +
    `<text class="rv-role" y="${RADIUS + 16}">${role}</text>${terms}${words}</g>`
  );
}

function linkSvg(link, snapshot, from, to, radius, ui) {
  const ends = [link.a, link.b].map((number) => snapshot.nodes.find((node) => node.node === number));
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const gap = radius + 7;
  const at = (share) => [from.x + dx * share, from.y + dy * share].map((one) => one.toFixed(1));
  const [x1, y1] = at(gap / length);
  const [x2, y2] = at(1 - gap / length);
  const words = linkWords(link);
  const dead = ends.some((node) => !node || node.role === "dead");
  const leads = ends.some((node) => node?.node === snapshot.leader);
  const state = link.cut ? "cut" : link.slow !== null ? "slow" : dead ? "dead" : !link.up ? "down" : leads ? "leads" : "well";
  const name = `${link.a}-${link.b}`;
  const [mx, my] = at(0.5);
  const wide = words.length * 6.2 + 14;
  const tag = words
    ? `<g class="rv-tag" data-of="${name}" data-state="${state}" transform="translate(${mx} ${my})"><rect x="${-wide / 2}" y="-9" width="${wide}" height="18" rx="9"/>` +
      `<text y="4">${escape(words)}</text></g>`
    : "";
  const svg =
    `<g class="rv-link" data-link="${name}" data-state="${state}" data-chosen="${ui.link === name}"><title>link ${name}: ${escape(words || (link.up ? "well" : "no connection"))}</title>` +
    `<path class="rv-reach" d="M${x1} ${y1} L${x2} ${y2}"/><path class="rv-wire" d="M${x1} ${y1} L${x2} ${y2}"/></g>`;
  const box = words ? [Number(mx) - wide / 2, Number(my) - 9, Number(mx) + wide / 2, Number(my) + 9] : null;
  return { svg, tag, box };
}

/** Where each node of a snapshot stands, by its number, and how large it is. */
export function placesOf(snapshot, width) {
  const plan = ring(snapshot.nodes.length, width);
  return { ...plan, by: new Map(snapshot.nodes.map((node, index) => [node.node, plan.places[index]])) };
}

/**
 * The nodes as SVG markup for this width in pixels; `still` if nothing may move. `sent` are messages that are told as numbers.
 */
export function ringSvg(snapshot, width, ui = {}, still = false, sent = []) {
  const plan = placesOf(snapshot, width);
  const { places, height, by: place } = plan;
  const order = (link) => Number(Boolean(linkWords(link)));
  const links = snapshot.links
    .filter((link) => place.has(link.a) && place.has(link.b))
    .toSorted((one, other) => order(one) - order(other))
    .map((link) => linkSvg(link, snapshot, place.get(link.a), place.get(link.b), plan.radius, ui));
  const nodes = snapshot.nodes.map((node, index) => nodeSvg(node, snapshot, places[index], plan, ui, still));
  const words = [...snapshot.nodes.flatMap((node, index) => boxesOf(node, places[index], plan)), ...links.flatMap((link) => (link.box ? [link.box] : []))];
  return (
    `<svg class="rv-nodes" role="group" aria-label="${escape(summary(snapshot))}" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}"><g>${links.map((link) => link.svg).join("")}</g><g class="rv-numbers">${numbersSvg(sent, place, plan.radius, plan.dense, words)}</g><g>${nodes.join("")}</g><g class="rv-tags">${links.map((link) => link.tag).join("")}</g></svg>`
  );
}
