// The live view: draws one model into one element, and follows it. It puts together a stage, tasks, a reader with clicks, keys and
// dragging, and an announcer; what a snapshot holds is said in kernel_ext/widgets/snapshot.py. Nothing is loaded from another host.

import { announcer } from "./announcer.mjs";
import { clicking, fields } from "./clicks.mjs";
import { dragging } from "./drag.mjs";
import { remember } from "./history.mjs";
import { kernelOf } from "./kernel.mjs";
import { typing } from "./keys.mjs";
import { reader } from "./reader.mjs";
import { stage } from "./stage.mjs";
import { taskList } from "./tasks.mjs";
import { START } from "./ui.mjs";
import { counts } from "./waits.mjs";

const COUNT = 1000; // milliseconds from one number of a countdown to the next

/** Draws one model into one element and follows it; returns what ends that. */
function render({ model, el }) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const set = stage(el, calm);
  const say = announcer(set.live);
  const scene = { frames: [], ui: START, link: "live", came: 0 };
  let frame = 0;
  const paint = () => {
    frame = 0;
    if (!scene.frames.length) return;
    set.paint({ ...scene, passed: (performance.now() - scene.came) / 1000, tasks: tasks.all(), details: model.get("details") ?? {}, code: model.get("code") ?? {} });
  };
  const changed = () => {
    if (!frame) frame = requestAnimationFrame(paint);
  };
  const send = (message) => model.send(message);
  const tasks = taskList({ send, say, changed });
  const reading = reader({ scene, say, ask: tasks.ask, send, seen: () => !document.hidden && set.root.isConnected, changed });
  const { act, able, cause, signal } = reading;
  const drag = dragging({ root: set.root, able, act });
  const keep = (event) => event.stopPropagation();
  listen(set.root, {
    ...drag.listeners, ...fields({ scene, act }),
    click: clicking({ set, scene, act, cause, signal, say, busy: drag.busy }),
    keydown: typing({ root: set.root, scene, act, signal }), keyup: keep, keypress: keep,
  });
  const { arrived, lost, take } = pictures(model, scene, say, changed);
  const kernel = kernelOf(model, el, lost("stale"));
  const followed = { "change:snapshot": arrived, "change:details": changed, "change:code": changed, "comm_live_update": kernel.liveness, "comm:close": lost("closed"), "msg:custom": tasks.answered };
  for (const [name, listener] of Object.entries(followed)) model.on(name, listener);
  const sized = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(() => set.resized() && changed());
  sized?.observe(set.root);
  const counting = setInterval(() => !document.hidden && scene.link === "live" && scene.ui.at === null && scene.frames.length && counts(scene.frames.at(-1).snapshot) && changed(), COUNT);
  calm.addEventListener("change", changed);
  take();
  paint();
  return () => {
    cancelAnimationFrame(frame);
    clearInterval(counting);
    tasks.end();
    reading.end();
    sized?.disconnect();
    calm.removeEventListener("change", changed);
    for (const [name, listener] of Object.entries(followed)) model.off(name, listener);
    kernel.end();
  };
}

function listen(root, listeners) {
  for (const [name, listener] of Object.entries(listeners)) root.addEventListener(name, listener);
}

/** Takes the pictures of a model into a scene, and says what happens in them; `lost(how)` makes what is told that none follow. */
function pictures(model, scene, say, changed) {
  const take = () => {
    const snapshot = model.get("snapshot");
    if (!snapshot || !snapshot.nodes) return;
    const before = scene.frames;
    scene.frames = remember(before, snapshot);
    if (scene.frames !== before) scene.came = performance.now();
    const { said } = scene.frames.at(-1);
    if (scene.frames !== before && scene.ui.at === null && said.length) say(said.join(" "));
    changed();
  };
  const arrived = () => {
    scene.link = "live"; // whoever sends a snapshot is not gone
    take();
  };
  const lost = (how) => () => {
    if (scene.link === how) return;
    scene.link = how;
    say(how === "stale" ? "The kernel is gone: the picture is stale." : "The view was closed.");
    changed();
  };
  return { arrived, lost, take };
}

export default { render };
