// The live view: draws one model into one element, and follows it. What it draws is made by the other modules, which are pure;
// what a snapshot holds is said in kernel_ext/widgets/snapshot.py. Nothing is loaded from another host.

import { signalLine, taskWords, withTask } from "./faults.mjs";
import { flights, sentBetween } from "./flights.mjs";
import { placeOf, remember } from "./history.mjs";
import { morph, parts } from "./morph.mjs";
import { layout, viewHtml } from "./page.mjs";
import { placesOf } from "./ring.mjs";
import { START, keyed, reduce } from "./ui.mjs";
import { summary } from "./words.mjs";

const MOST_SAID = 8; // announcements kept for screen readers
const PATIENCE = 400; // milliseconds after which a kernel that has not answered is called busy
const ENDED = new Set(["dead", "restarting", "autorestarting", "terminating"]);
const EDGES = 34; // pixels of padding and border, left and right
const MOST_FLYING = 48; // messages drawn at one time; those that set off when there are more are in the numbers only
const FEW = 3; // of those that set off at once, when the page falls behind
const WATCH = 250; // milliseconds from one look at the messages to the next, for a reader who watches them
const GRIP = 6; // pixels that a pointer moves before that is dragging

/** Draws one model into one element and follows it; returns what ends that. */
function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "raftoral-view";
  root.tabIndex = 0;
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", "Raft cluster, live view");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves the keys to it
  const picture = document.createElement("div");
  const live = document.createElement("div");
  live.className = "rv-live";
  live.setAttribute("aria-live", "polite");
  root.append(picture, live);
  el.append(root);
  // Each announcement is added below the ones before: replaced at once by the next, it might never be read out.
  const say = (words) => {
    const said = document.createElement("p");
    said.textContent = words;
    live.append(said);
    while (live.childElementCount > MOST_SAID) live.firstElementChild.remove();
  };

  let frames = [];
  let ui = START;
  let tasks = [];
  let link = "live";
  let frame = 0;
  let width = 0;
  let asked = 0;
  const mine = Math.random().toString(36).slice(2); // several displays share a model, and hear each other's answers
  const timers = new Set();
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let drawn = new Map(); // the parts of the picture that is on the page
  let flown = null; // the snapshot up to which messages were drawn
  let watching = 0;
  let grip = null; // where a pointer went down on a node
  let ghost = null; // what follows it

  const fly = (snapshot) => {
    const before = flown;
    flown = snapshot;
    const layer = picture.querySelector(".rv-flights");
    if (!layer || !before || ui.at !== null || link !== "live" || calm.matches || document.hidden) return;
    const { by, radius } = placesOf(snapshot, layout(width).room);
    const behind = snapshot.seq - before.seq > 2; // the page has left pictures out: it has enough to do
    for (const one of flights(sentBetween(before, snapshot), by, radius).slice(0, behind ? FEW : MOST_FLYING)) {
      if (layer.childElementCount >= MOST_FLYING) return;
      layer.insertAdjacentHTML("beforeend", one.html);
      const drawn = layer.lastElementChild;
      const at = ({ x, y }) => `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
      const steps = [{ transform: at(one.start), opacity: 1 }, { transform: at(one.end), opacity: 1, offset: 0.9 }, { transform: at(one.end), opacity: 0 }];
      drawn.animate(steps, { duration: one.took }).finished.then(() => drawn.remove(), () => drawn.remove());
    }
  };
  const paint = () => {
    frame = 0;
    if (!frames.length) return;
    width = Math.max(200, Math.floor(root.clientWidth || 720) - EDGES);
    const fresh = document.createElement("div");
    const { part, drawn: now } = parts(drawn);
    drawn = now;
    fresh.innerHTML = viewHtml({ frames, ui, tasks, details: model.get("details") ?? {}, code: model.get("code") ?? {}, link, motion: !calm.matches }, width, part);
    fresh.className = "rv-picture";
    morph(picture, fresh);
    const { snapshot } = frames[placeOf(frames, ui.at)];
    Object.assign(root.dataset, {
      raftoral: "view",
      raftoralLeader: snapshot.leader ?? "",
      seq: snapshot.seq,
      term: snapshot.term,
      state: link === "live" ? snapshot.state : link,
      time: ui.at === null ? "now" : "before",
      checkpoints: snapshot.counters.checkpoints,
    });
    if (frames.at(-1).snapshot !== flown) fly(frames.at(-1).snapshot);
  };
  const ask = () => {
    if (!frame) frame = requestAnimationFrame(paint);
  };
  const take = () => {
    const snapshot = model.get("snapshot");
    if (!snapshot || !snapshot.nodes) return;
    const before = frames;
    frames = remember(frames, snapshot);
    if (frames !== before && ui.at === null && frames.at(-1).said.length) say(frames.at(-1).said.join(" "));
    ask();
  };
  const arrived = () => {
    link = "live"; // whoever sends a snapshot is not gone
    take();
  };

  // --- what is gone

  const lose = (how) => () => {
    if (link === how) return;
    link = how;
    say(how === "stale" ? "The kernel is gone: the picture is stale." : "The view was closed.");
    ask();
  };
  const stale = lose("stale");
  const closed = lose("closed");
  // Who is told what differs between front ends, so all that is offered is used; none of it asks the kernel anything.
  const kernel = model.widget_manager?.kernel;
  const status = (_, now) => ENDED.has(now) && stale();
  const liveness = () => {
    // The model itself is out of reach; its front end marks the view of a model whose kernel is gone.
    setTimeout(() => el.closest(".jupyter-widgets-disconnected") && stale());
  };

  // --- what is done

  const told = (news) => {
    const before = tasks.find((task) => task.id === news.id);
    tasks = withTask(tasks, news);
    const task = tasks.find((one) => one.id === news.id);
    if (task && task.state !== before?.state && task.state !== "taken") say(`${task.line}: ${taskWords(task)}`);
    ask();
  };
  const cause = (line) => {
    if (!line || link !== "live" || ui.at !== null) return;
    asked += 1;
    const id = `${mine}-${asked}`;
    told({ id, line, state: "asked" });
    model.send({ do: line, task: id });
    const timer = setTimeout(() => {
      timers.delete(timer);
      if (tasks.some((task) => task.id === id && task.state === "asked")) told({ id, state: "queued" });
    }, PATIENCE);
    timers.add(timer);
  };
  const answered = (message) => {
    if (message?.task && tasks.some((task) => task.id === message.task)) {
      told({ id: message.task, state: message.state, ...(message.words ? { words: message.words } : {}) });
    }
  };
  const watch = () => {
    clearInterval(watching);
    watching = 0;
    if (ui.messages) {
      watching = setInterval(() => {
        if (link === "live" && ui.at === null && !document.hidden && root.isConnected) model.send({ look: true });
      }, WATCH);
    }
  };
  const act = (action) => {
    if (!action) return;
    const before = ui;
    if (action.say) say(action.say);
    if (action.act) ui = reduce(ui, action);
    if (action.do) cause(action.do);
    if (ui.open !== before.open && link === "live") model.send({ open: ui.open });
    if (ui.messages !== before.messages) {
      watch();
      say(ui.messages ? "Messages are watched, though nothing else happens." : "Messages are drawn when something happens.");
    }
    if (ui.at !== before.at) {
      const { snapshot, said } = frames[placeOf(frames, ui.at)];
      say(ui.at === null ? `Back to now. ${summary(snapshot)}` : [...said, summary(snapshot)].join(" "));
    }
    ask();
  };
  const copy = async (button) => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      say("copied");
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.parentElement.querySelector("code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      say("selected: copy it with the keyboard");
    }
  };
  const signal = (within) => {
    // What was typed last may not be painted yet, so the line is not taken from the page.
    const { run: id } = within.closest(".rv-run").dataset;
    const run = frames.at(-1).snapshot.runs.find((one) => one.run === id);
    const { name = "", value = "" } = ui.typed[id] ?? {};
    const line = run && signalLine(run, name, value);
    if (!line) return;
    cause(line);
    act({ act: "type", run: id, field: "value", text: "" });
  };
  const reveal = (run) => {
    /** @type {NodeListOf<HTMLElement>} */
    const heads = picture.querySelectorAll(".rv-run .rv-open");
    const found = [...heads].find((one) => one.dataset.run === run);
    found?.closest(".rv-run").scrollIntoView({ block: "nearest" });
    found?.focus();
  };
  const show = (selector) => picture.querySelector(selector)?.scrollIntoView({ block: "nearest" });

  // --- what the reader does

  const clicked = (event) => {
    if (ghost) return; // the end of dragging
    const on = (selector) => event.target.closest(selector);
    const found = on("[data-do], [data-copy], [data-key], [data-act], [data-entry], [data-node][data-role], [data-link], [data-step-id]");
    if (!found || !root.contains(found)) return;
    const { dataset } = found;
    if (found.matches(".rv-send")) signal(found);
    else if (dataset.do !== undefined) cause(dataset.do);
    else if (dataset.act === "show") reveal(dataset.run);
    else if (dataset.copy) copy(found);
    else if (dataset.key) act(keyed(dataset.key.split(" ").at(-1) || " ", dataset.key.startsWith("Shift"), ui, frames));
    else if (dataset.act) {
      act({ act: dataset.act, run: dataset.run, step: dataset.step });
      if (dataset.act === "step") requestAnimationFrame(() => show(found.closest(".rv-timeline") ? ".rv-cell[data-linked=true]" : ".rv-step[data-linked=true]"));
    } else if (dataset.entry) act({ act: "entry", entry: dataset.entry });
    else if (dataset.role) act({ act: "node", node: Number(dataset.node), toggle: true });
    else if (dataset.link) act({ act: "link", link: dataset.link });
    else act({ act: "step", run: dataset.runStep, step: dataset.stepId });
  };
  const focused = (event) => {
    const { entry } = event.target.dataset ?? {};
    if (entry && ui.entry !== entry) act({ act: "entry", entry });
  };
  const changed = (event) => {
    const { field, run } = event.target.dataset;
    if (field) {
      if (event.type === "input") act({ act: "type", run, field, text: event.target.value });
    } else if (event.target.type === "range") {
      const place = Number(event.target.value);
      act({ act: "at", at: place >= frames.length - 1 ? null : frames[place].snapshot.seq });
    } else if (event.target.dataset.side && event.type === "change") act({ act: "side", node: Number(event.target.dataset.side) });
  };
  const among = (cell, key) => {
    // Arrows go from entry to entry: sideways in a log, up and down to the same index of another.
    const [index] = cell.dataset.entry.split(":");
    const row = cell.closest(".rv-log");
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const cells = [...row.querySelectorAll("[data-entry]")];
      return cells[cells.indexOf(cell) + (key === "ArrowLeft" ? -1 : 1)];
    }
    for (let other = row; other; ) {
      other = key === "ArrowUp" ? other.previousElementSibling : other.nextElementSibling;
      const there = other?.querySelector(`[data-entry^="${index}:"]`);
      if (there) return there;
    }
    return undefined;
  };
  const typed = (event) => {
    event.stopPropagation(); // typed into the picture, a key must not become a command of the notebook
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { target, key } = event;
    if (target.matches("input[type=text]")) {
      if (key === "Enter") signal(target);
      if (key === "Escape") root.focus();
      return;
    }
    if (target.dataset?.entry && key.startsWith("Arrow")) {
      among(target, key)?.focus();
      event.preventDefault();
      return;
    }
    if (target.matches("input[type=range]") && key.startsWith("Arrow")) return;
    if ((key === " " || key === "Enter") && target !== root) {
      if (target.matches(".rv-node")) {
        act({ act: "node", node: Number(target.dataset.node), toggle: true });
        event.preventDefault();
      }
      return; // a button's own
    }
    const action = keyed(key, event.shiftKey, ui, frames);
    if (action) {
      act(action);
      event.preventDefault();
    }
  };
  const keep = (event) => event.stopPropagation();

  // --- a node that is dragged to the other side of a partition

  const gripped = (event) => {
    const on = event.target.closest(".rv-node");
    grip = on && event.button === 0 && link === "live" && ui.at === null ? { node: Number(on.dataset.node), x: event.clientX, y: event.clientY } : null;
  };
  const dragged = (event) => {
    if (!grip) return;
    if (!ghost) {
      if (Math.hypot(event.clientX - grip.x, event.clientY - grip.y) < GRIP) return;
      root.setPointerCapture(event.pointerId);
      ghost = document.createElement("div");
      ghost.className = "rv-ghost";
      ghost.textContent = String(grip.node);
      root.append(ghost);
      act({ act: "drag", node: grip.node });
    }
    const box = root.getBoundingClientRect();
    ghost.style.transform = `translate(${event.clientX - box.left}px, ${event.clientY - box.top}px)`;
  };
  const released = (event) => {
    const held = grip;
    grip = null;
    if (!ghost || !held) return;
    const dropped = event.type === "pointerup" && document.elementsFromPoint(event.clientX, event.clientY).some((one) => one.closest("[data-tray]") && root.contains(one));
    ghost.remove();
    act(dropped ? { act: "drop", node: held.node, say: `Node ${held.node} is on the other side.` } : { act: "drag", node: null, say: `Node ${held.node} stays where it was.` });
    setTimeout(() => { ghost = null; }); // a click follows, which is none
  };

  const undragged = (event) => {
    if (grip) event.preventDefault(); // the browser would drag a selected text, and cancel ours
  };

  const listeners = {
    dragstart: undragged,
    pointerdown: gripped, pointermove: dragged, pointerup: released, pointercancel: released,
    click: clicked, focusin: focused, input: changed, change: changed, keydown: typed, keyup: keep, keypress: keep,
  };
  for (const [name, listener] of Object.entries(listeners)) root.addEventListener(name, listener);
  const followed = { "change:snapshot": arrived, "change:details": ask, "change:code": ask, "comm_live_update": liveness, "comm:close": closed, "msg:custom": answered };
  for (const [name, listener] of Object.entries(followed)) model.on(name, listener);
  kernel?.statusChanged?.connect(status);
  kernel?.disposed?.connect(stale);
  const sized = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(() => {
    if (Math.abs(Math.floor(root.clientWidth) - EDGES - width) > 1) ask();
  });
  sized?.observe(root);
  calm.addEventListener("change", ask);
  take();
  paint();

  return () => {
    cancelAnimationFrame(frame);
    timers.forEach(clearTimeout);
    sized?.disconnect();
    clearInterval(watching);
    calm.removeEventListener("change", ask);
    for (const [name, listener] of Object.entries(followed)) model.off(name, listener);
    kernel?.statusChanged?.disconnect(status);
    kernel?.disposed?.disconnect(stale);
  };
}

export default { render };
