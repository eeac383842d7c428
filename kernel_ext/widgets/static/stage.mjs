// Where the picture is drawn: the element of the page, and one picture after the other in it.

import { flights, sentBetween } from "./flights.mjs";
import { placeOf } from "./history.mjs";
import { morph, parts } from "./morph.mjs";
import { layout, viewHtml } from "./page.mjs";
import { placesOf } from "./ring.mjs";

const EDGES = 34; // pixels of padding and border, left and right
const MOST_FLYING = 48; // messages drawn at one time; those that set off when there are more are in the numbers only
const FEW = 3; // of those that set off at once, when the page falls behind

/**
 * Puts an empty view into an element.
 * @param {HTMLElement} el @param {{ matches: boolean }} calm whether the reader wants nothing to move
 */
export function stage(el, calm) {
  const { root, picture, live } = framed(el);
  let drawn = new Map(); // the parts of the picture that is on the page
  let flown = null; // the snapshot up to which messages were drawn
  let width = 0;
  const paint = (scene) => {
    width = Math.max(200, Math.floor(root.clientWidth || 720) - EDGES);
    const fresh = el.ownerDocument.createElement("div");
    const { part, drawn: now } = parts(drawn);
    drawn = now;
    fresh.innerHTML = viewHtml({ ...scene, motion: !calm.matches }, width, part);
    fresh.className = "rv-picture";
    morph(picture, fresh);
    Object.assign(root.dataset, marks(scene));
    const { snapshot } = scene.frames.at(-1);
    if (snapshot === flown) return;
    const still = scene.ui.at !== null || scene.link !== "live" || calm.matches || el.ownerDocument.hidden;
    if (flown && !still) fly(picture.querySelector(".rv-flights"), flown, snapshot, layout(width).room);
    flown = snapshot;
  };
  return {
    root,
    live,
    paint,
    /** True if the picture was drawn for another width than there is now. */
    resized: () => Math.abs(Math.floor(root.clientWidth) - EDGES - width) > 1,
    show: (selector) => picture.querySelector(selector)?.scrollIntoView({ block: "nearest" }),
    reveal(run) {
      /** @type {NodeListOf<HTMLElement>} */
      const heads = picture.querySelectorAll(".rv-run .rv-open");
      const found = [...heads].find((one) => one.dataset.run === run);
      found?.closest(".rv-run").scrollIntoView({ block: "nearest" });
      found?.focus();
    },
    later: (done) => requestAnimationFrame(done),
  };
}

/** @param {HTMLElement} el */
function framed(el) {
  const page = el.ownerDocument;
  const root = page.createElement("div");
  root.className = "raftoral-view";
  root.tabIndex = 0;
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", "Raft cluster, live view");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves the keys to it
  const picture = page.createElement("div");
  const live = page.createElement("div");
  live.className = "rv-live";
  live.setAttribute("aria-live", "polite");
  root.append(picture, live);
  el.append(root);
  return { root, picture, live };
}

/** @param {{ frames: any[], ui: any, link: string }} scene @returns what the view says of itself as data. Pure. */
export function marks({ frames, ui, link }) {
  const { snapshot } = frames[placeOf(frames, ui.at)];
  return {
    raftoral: "view",
    raftoralLeader: snapshot.leader ?? "",
    seq: snapshot.seq,
    term: snapshot.term,
    state: link === "live" ? snapshot.state : link,
    time: ui.at === null ? "now" : "before",
    checkpoints: snapshot.counters.checkpoints,
  };
}

/** Draws the messages that were sent from one snapshot to the next, as things that move. */
function fly(layer, before, snapshot, room) {
  if (!layer) return;
  const { by, radius } = placesOf(snapshot, room);
  const behind = snapshot.seq - before.seq > 2; // the page has left pictures out: it has enough to do
  for (const one of flights(sentBetween(before, snapshot), by, radius).slice(0, behind ? FEW : MOST_FLYING)) {
    if (layer.childElementCount >= MOST_FLYING) return;
    layer.insertAdjacentHTML("beforeend", one.html);
    const flying = layer.lastElementChild;
    const at = ({ x, y }) => `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
    const steps = [{ transform: at(one.start), opacity: 1 }, { transform: at(one.end), opacity: 1, offset: 0.9 }, { transform: at(one.end), opacity: 0 }];
    flying.animate(steps, { duration: one.took }).finished.then(() => flying.remove(), () => flying.remove());
  }
}
