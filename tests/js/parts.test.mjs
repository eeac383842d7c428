// What the live view is put together of, each part on its own: they are given what they touch. Run: node --test tests/js/
import assert from "node:assert/strict";
import { test } from "node:test";

const folder = new URL("../../kernel_ext/widgets/static/", import.meta.url);
const load = (name) => import(new URL(`${name}.mjs`, folder));
const { announcer, sayings } = await load("announcer");
const { chosen, clicking, fields } = await load("clicks");
const { dragging, dropAction } = await load("drag");
const { kernelOf } = await load("kernel");
const { entryBeside, typing } = await load("keys");
const { reader } = await load("reader");
const { marks } = await load("stage");
const { taskList } = await load("tasks");
const { START } = await load("ui");

const snapshot = (seq, changes = {}) => ({
  seq, time: seq, state: "running", leader: 1, term: 2, epoch: 2, name: "c",
  nodes: [1, 2, 3].map((node) => ({ node, role: node === 1 ? "leader" : "follower", tail: [], links: [] })),
  links: [], runs: [{ run: "r", status: "running", lanes: [], tail: [] }], counters: { checkpoints: 7 }, ...changes,
});
const frame = (seq, said = []) => ({ snapshot: snapshot(seq), said, lost: {} });
const target = (matching, dataset = {}, more = {}) => ({ dataset, matches: (selector) => matching.includes(selector), ...more });
const key = (name, on, more = {}) => {
  const event = { key: name, target: on, shiftKey: false, prevented: 0, stopped: 0, ...more, preventDefault: () => { event.prevented += 1; }, stopPropagation: () => { event.stopped += 1; } };
  return event;
};

// --- the announcer

test("announcements stand below one another, and only the latest are kept", () => {
  const live = {
    children: [], ownerDocument: { createElement: () => ({ remove() { live.children.splice(live.children.indexOf(this), 1); } }) },
    append: (one) => live.children.push(one),
    get childElementCount() { return live.children.length; },
    get firstElementChild() { return live.children[0]; },
  };
  const say = announcer(live);
  for (let number = 0; number < 20; number += 1) say(`${number}`);
  assert.deepEqual(live.children.map((one) => one.textContent), ["12", "13", "14", "15", "16", "17", "18", "19"]);
});

test("what changed for the reader is said, and what did not is not", () => {
  const frames = [frame(1, ["Node 1 leads."]), frame(2)];
  assert.deepEqual(sayings(START, { ...START, node: 2 }, frames), []);
  assert.match(sayings(START, { ...START, at: 1 }, frames)[0], /^Node 1 leads\. /);
  assert.match(sayings({ ...START, at: 1 }, START, frames)[0], /^Back to now\. /);
  assert.equal(sayings(START, { ...START, messages: true, at: 1 }, frames).length, 2);
});

// --- tasks

function listened() {
  const page = { sent: [], said: [], news: 0 };
  page.tasks = taskList({ send: (one) => page.sent.push(one), say: (words) => page.said.push(words), changed: () => { page.news += 1; } });
  return page;
}

test("a task is sent, and told when it is done; what is only taken is not read out", () => {
  const { tasks, sent, said } = listened();
  tasks.ask("kill 1");
  assert.equal(sent[0].do, "kill 1");
  tasks.answered({ task: sent[0].task, state: "taken" });
  tasks.answered({ task: sent[0].task, state: "done", words: "node 1 killed" });
  assert.deepEqual(said, ["kill 1: asked", "kill 1: node 1 killed"]);
  assert.deepEqual(tasks.all().map(({ line, state }) => [line, state]), [["kill 1", "done"]]);
  tasks.end();
});

test("an answer to a task of another display is not ours", () => {
  const [one, other] = [listened(), listened()];
  one.tasks.ask("kill 1");
  const before = other.news;
  other.tasks.answered({ task: one.sent[0].task, state: "done", words: "node 1 killed" });
  other.tasks.answered(undefined);
  assert.deepEqual([other.tasks.all(), other.news], [[], before]);
  one.tasks.end();
});

test("a kernel that has not answered after a while is called busy, unless the view has ended", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { tasks, said } = listened();
  tasks.ask("kill 1");
  context.mock.timers.tick(399);
  assert.equal(said.length, 1);
  context.mock.timers.tick(1);
  assert.equal(said[1], "kill 1: kernel busy, queued");
  tasks.ask("kill 2");
  tasks.end();
  context.mock.timers.tick(10_000);
  assert.equal(said.length, 3);
});

// --- the reader

function read(changes = {}) {
  const view = { said: [], asked: [], sent: [], scene: { frames: [frame(1), frame(2)], ui: START, link: "live", ...changes } };
  const { said, asked, sent, scene } = view;
  view.reader = reader({ scene, say: (one) => said.push(one), ask: (one) => asked.push(one), send: (one) => sent.push(one), seen: () => true, changed: () => {} });
  return view;
}

test("lines are asked for while the kernel is there and the picture is that of now", () => {
  const { reader: now, asked } = read();
  now.act({ do: "kill 1" });
  now.cause("");
  read({ link: "stale" }).reader.act({ do: "kill 2" });
  assert.deepEqual(asked, ["kill 1"]);
  const before = read({ ui: { ...START, at: 1 } });
  before.reader.cause("kill 3");
  assert.deepEqual([before.asked, before.reader.able()], [[], false]);
});

test("opening a run tells the kernel, and so does watching messages, until that ends", (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const { reader: one, sent, said } = read();
  one.act({ act: "open", run: "r" });
  assert.deepEqual(sent, [{ open: ["r"] }]);
  one.act({ act: "messages" });
  context.mock.timers.tick(500);
  assert.deepEqual(sent.slice(1), [{ look: true }, { look: true }]);
  one.act({ act: "messages" });
  context.mock.timers.tick(500);
  assert.equal(sent.length, 3);
  assert.equal(said.length, 2);
  one.act({ act: "messages" });
  one.end();
  context.mock.timers.tick(500);
  assert.equal(sent.length, 3);
});

test("a signal is made of what was typed, and its value is cleared", () => {
  const { reader: one, asked, scene } = read({ ui: { ...START, typed: { r: { name: "approve", value: "True" } } } });
  const within = { closest: () => ({ dataset: { run: "r" } }) };
  one.signal(within);
  assert.deepEqual(asked, ["signal r approve True"]);
  assert.deepEqual(scene.ui.typed.r, { name: "approve", value: "" });
  one.signal({ closest: () => ({ dataset: { run: "gone" } }) });
  assert.equal(asked.length, 1);
});

// --- keys

function typed(event, ui = START) {
  const done = [];
  const root = { focus: () => done.push("focus") };
  typing({ root, scene: { ui, frames: [frame(1)] }, act: (action) => done.push(action), signal: () => done.push("signal") })(event.target === "root" ? Object.assign(event, { target: Object.assign(root, target([])) }) : event);
  return done;
}

test("a key typed into a field stays there, but Enter sends and Escape leaves it", () => {
  const field = target(["input[type=text]"]);
  assert.deepEqual(typed(key("k", field)), []);
  assert.deepEqual(typed(key("Enter", field)), ["signal"]);
  assert.deepEqual(typed(key("Escape", field)), ["focus"]);
});

test("a key typed on the view is an action, and none of the notebook's or the browser's", () => {
  const event = key("2", "root");
  assert.deepEqual(typed(event), [{ act: "node", node: 2 }]);
  assert.deepEqual([event.stopped, event.prevented], [1, 1]);
  const copy = key("c", "root", { ctrlKey: true });
  assert.deepEqual([typed(copy), copy.stopped, copy.prevented], [[], 1, 0]);
});

test("Enter on a node chooses it, and on a button is the button's own", () => {
  assert.deepEqual(typed(key("Enter", target([".rv-node"], { node: "3" }))), [{ act: "node", node: 3, toggle: true }]);
  assert.deepEqual(typed(key(" ", target([]))), []);
  assert.deepEqual(typed(key("ArrowLeft", target(["input[type=range]"]))), []);
});

test("arrows go from entry to entry: sideways in a log, up and down to the same index of another", () => {
  const rows = [["1:1", "2:1"], ["2:1", "3:1"]].map((names) => {
    const row = { querySelectorAll: () => row.cells, querySelector: (selector) => row.cells.find((cell) => selector.includes(`"${cell.dataset.entry.split(":")[0]}:"`)) };
    row.cells = names.map((entry) => ({ dataset: { entry }, closest: () => row }));
    return row;
  });
  [rows[0].nextElementSibling, rows[1].previousElementSibling] = [rows[1], rows[0]];
  const [first, second] = rows[0].cells;
  assert.equal(entryBeside(first, "ArrowRight"), second);
  assert.equal(entryBeside(first, "ArrowLeft"), undefined);
  assert.equal(entryBeside(second, "ArrowDown"), rows[1].cells[0]);
  assert.equal(entryBeside(rows[1].cells[0], "ArrowUp"), second);
  assert.equal(entryBeside(first, "ArrowDown"), undefined);
});

// --- clicks and fields

test("what is pressed says what is chosen", () => {
  assert.deepEqual(chosen({ act: "open", run: "r" }), { act: "open", run: "r", step: undefined });
  assert.deepEqual(chosen({ entry: "3:1", of: "1" }), { act: "entry", entry: "3:1" });
  assert.deepEqual(chosen({ node: "2", role: "leader" }), { act: "node", node: 2, toggle: true });
  assert.deepEqual(chosen({ link: "1-2" }), { act: "link", link: "1-2" });
  assert.deepEqual(chosen({ runStep: "r", stepId: "0/a" }), { act: "step", run: "r", step: "0/a" });
});

test("a click outside of everything, of another view, or at the end of dragging does nothing", () => {
  const done = [];
  const button = target([], { do: "kill 1" });
  const view = { set: { root: { contains: (one) => one === button } }, scene: {}, cause: (line) => done.push(line), act: () => done.push("act"), signal: () => {}, say: () => {} };
  const at = (found) => ({ target: { closest: () => found } });
  clicking({ ...view, busy: () => true })(at(button));
  clicking({ ...view, busy: () => false })(at(null));
  clicking({ ...view, busy: () => false })(at(target([], { do: "kill 2" })));
  assert.deepEqual(done, []);
  clicking({ ...view, busy: () => false })(at(button));
  assert.deepEqual(done, ["kill 1"]);
});

test("the bar of time shows a picture, and its end is now", () => {
  const done = [];
  const { input, change } = fields({ scene: { ui: START, frames: [frame(1), frame(4)] }, act: (action) => done.push(action) });
  input({ type: "input", target: { dataset: {}, type: "range", value: "0" } });
  input({ type: "input", target: { dataset: {}, type: "range", value: "1" } });
  change({ type: "change", target: { dataset: { field: "name", run: "r" }, value: "x" } });
  change({ type: "change", target: { dataset: { side: "2" }, type: "checkbox" } });
  assert.deepEqual(done, [{ act: "at", at: 1 }, { act: "at", at: null }, { act: "side", node: 2 }]);
});

// --- dragging

function board(over = []) {
  const done = [];
  const page = { createElement: () => ({ style: {}, remove: () => done.push("gone") }), elementsFromPoint: () => over };
  const root = { ownerDocument: page, setPointerCapture: () => {}, append: () => {}, contains: () => true, getBoundingClientRect: () => ({ left: 0, top: 0 }) };
  const drag = dragging({ root, able: () => true, act: (action) => done.push(action) });
  const at = (clientX, type = "") => ({ type, clientX, clientY: 0, button: 0, target: { closest: () => target([], { node: "2" }) } });
  return { done, drag, at, ...drag.listeners };
}

test("a pointer that hardly moves drags nothing", () => {
  const { done, drag, at, pointerdown, pointermove, pointerup } = board();
  pointerdown(at(0));
  pointermove(at(3));
  pointerup(at(3, "pointerup"));
  assert.deepEqual([done, drag.busy()], [[], false]);
});

test("a node is dropped on the other side, or stays where it was, and the click that follows is none", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  for (const [over, type, dropped] of [[[{ closest: () => true }], "pointerup", true], [[], "pointerup", false], [[{ closest: () => true }], "pointercancel", false]]) {
    const { done, drag, at, pointerdown, pointermove, pointerup } = board(over);
    pointerdown(at(0));
    pointermove(at(30));
    pointerup(at(30, type));
    assert.deepEqual(done, [{ act: "drag", node: 2 }, "gone", dropAction(2, dropped)]);
    assert.equal(drag.busy(), true);
    context.mock.timers.tick(1);
    assert.equal(drag.busy(), false);
  }
});

// --- the kernel, and the stage

test("a kernel that ends is noticed however the front end tells it, and not once the view has ended", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const signal = () => {
    const all = new Set();
    return { connect: (one) => all.add(one), disconnect: (one) => all.delete(one), fire: (...told) => all.forEach((one) => one(null, ...told)) };
  };
  const kernel = { statusChanged: signal(), disposed: signal() };
  let gone = 0;
  const { liveness, end } = kernelOf({ widget_manager: { kernel } }, { closest: () => ({}) }, () => { gone += 1; });
  kernel.statusChanged.fire("busy");
  assert.equal(gone, 0);
  kernel.statusChanged.fire("restarting");
  kernel.disposed.fire();
  liveness();
  context.mock.timers.tick(1);
  assert.equal(gone, 3);
  end();
  kernel.disposed.fire();
  kernel.statusChanged.fire("dead");
  assert.equal(gone, 3);
  kernelOf({}, { closest: () => null }, () => assert.fail()).end();
});

test("the view says as data which picture it shows", () => {
  const frames = [frame(1), frame(2)];
  assert.deepEqual(marks({ frames, ui: START, link: "live" }), { raftoral: "view", raftoralLeader: 1, seq: 2, term: 2, state: "running", time: "now", checkpoints: 7 });
  const before = marks({ frames, ui: { ...START, at: 1 }, link: "stale" });
  assert.deepEqual([before.seq, before.time, before.state], [1, "before", "stale"]);
});
