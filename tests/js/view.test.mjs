// The pure part of the live view. Run: node --test tests/js/
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";

const modules = new URL("../../kernel_ext/widgets/static/", import.meta.url);
const names = (await readdir(modules)).filter((name) => name.endsWith(".mjs"));
const view = Object.assign({}, ...(await Promise.all(names.map((name) => import(new URL(name, modules))))));

const node = (number, changes = {}) => ({
  node: number, role: "follower", acting: false, paused: false, held: false, blocked: null, term: 2, epoch: 2,
  commit: 9, applied: 9, length: 9, behind: 0, effects: 0, snapshot: 0, first: 1, voted: null, silence: 0.02, timer: null, links: [],
  incarnation: 1, tail: [[7, 2], [8, 2], [9, 2]], ...changes,
});
const lane = (number, step, queue = 0, status = "running", changes = {}) =>
  ({ node: number, status, step, had: step, queue, next: [], turn: null, effects: 0, problem: null, doing: [], more: 0, ...changes });
const recorded = (count, by = 2) => Array.from({ length: count }, (_, place) => ({ id: `${place}/s`, op: "compute", node: by, failed: false }));
const run = (changes = {}) => ({
  run: "order-1", workflow: "order", version: 1, status: "running", steps: 5, records: 5, failure: null, first: 0, tail: recorded(5),
  lanes: [lane(1, 5), lane(2, 5), lane(3, 2, 3)], parent: null, waiting: 0, waits: null, stuck: false, ...changes,
});
const pair = (a, b, changes = {}) => ({ a, b, up: true, cut: null, slow: null, out: {}, back: {}, ...changes });
const command = (kind, step = null) => ({ kind, text: `${kind} ${step ?? ""}`, run: "order-1", step });
const entry = (kind, step) => ({ kind, size: 80, count: 1, commands: [command(kind, step)] });
const sample = (changes = {}) => ({
  format: 4, seq: 4, time: 1000, name: "cluster-1", state: "running", leader: 2, term: 2, epoch: 2, timeout: 0.5,
  nodes: [node(1), node(2, { role: "leader", acting: true, silence: null }), node(3)],
  links: [pair(1, 2), pair(1, 3), pair(2, 3)],
  entries: { "7:2": entry("start"), "8:2": entry("checkpoint", "0/s"), "9:2": entry("checkpoint", "1/s") },
  runs: [run()],
  omitted: { running: 0, completed: 0, failed: 0 },
  counters: { commands: 7, checkpoints: 5 },
  ...changes,
});
const frameOf = (snapshot, lost = {}) => ({ snapshot, said: [], lost });
const page = (snapshot, changes = {}, width = 700) =>
  view.viewHtml({ frames: [frameOf(snapshot)], ui: view.START, tasks: [], details: {}, link: "live", ...changes }, width);
const count = (text, pattern) => (text.match(pattern) ?? []).length;

test("what people named a run, a step or a workflow cannot become markup", () => {
  const evil = `<img src=x onerror="alert('1')">&`;
  const one = run({
    run: evil, workflow: evil, failure: evil, parent: evil, tail: [{ id: evil, op: evil, node: 1, failed: false }], steps: 1, records: 1,
    lanes: [lane(1, 1, 0, "diverged", { problem: evil, turn: { op: evil, name: evil }, next: [{ op: evil, name: evil }], doing: [{ id: evil, attempt: 2, fraction: 0.5, text: evil, failure: evil }] })],
    waits: { node: 1, had: 1, branches: [{ branch: evil, name: evil, kind: evil, what: evil, op: evil, until: null, attempt: 2, failure: evil, again: null }], more: 0 },
  });
  const entries = { "9:2": { kind: evil, size: 1, count: 1, commands: [{ kind: evil, text: evil, run: evil, step: evil }] } };
  const links = [pair(1, 2, { out: { [evil]: 3 } })];
  const snapshot = sample({ name: evil, runs: [one], links, nodes: [node(1, { blocked: evil, links: [evil] })], entries });
  const ui = { ...view.START, node: 1, entry: "9:2", open: [evil], side: [1], typed: { [evil]: { name: evil, value: evil } } };
  const details = { [evil]: { start: 1, first: 0, records: [{ id: evil, op: evil, node: 1, failed: true, from: 1, at: 2, value: evil }], places: { 1: [{ branch: evil, line: 2, own: true, where: evil }, { branch: "", line: 9, own: false, where: evil }] } } };
  const code = { [evil]: { file: evil, first: 1, lines: [evil, evil], left: 0 } };
  const tasks = [{ id: "1", line: evil, state: "failed", words: evil }];
  for (const form of ["picture", "tables"]) {
    const before = frameOf(sample({ links: [pair(1, 2)] }));
    const html = page(snapshot, { frames: [before, frameOf({ ...snapshot, seq: 5 })], ui: { ...ui, form }, details, code, tasks, motion: false });
    assert.equal(count(html, /<img/g), 0, form);
    assert.equal(count(html, /onerror="/g), 0, form);
  }
});

// --- the ring

test("the leader is told by word and crown, not only by colour", () => {
  const svg = view.ringSvg(sample(), 700);
  assert.equal(count(svg, />leader</g), 1);
  assert.equal(count(svg, /rv-crown/g), 1);
  assert.match(svg, /data-node="2" data-role="leader"/);
  assert.match(svg, /aria-label="node 2, leader, term 2, epoch 2, applied 9 of 9 log entries"/);
});

test("no node stands outside of the picture, nor on another", () => {
  for (const width of [200, 320, 420, 700, 1000, 1600]) {
    for (const nodes of [1, 2, 3, 5, 7, 9]) {
      const plan = view.ring(nodes, width);
      plan.places.forEach((place, index) => {
        assert.ok(place.x >= plan.radius && place.x + plan.radius <= width && place.y >= plan.radius && place.y + plan.radius <= plan.height, `${nodes} nodes in ${width}`);
        for (const other of plan.places.slice(0, index)) {
          assert.ok(Math.hypot(place.x - other.x, place.y - other.y) > 2 * plan.radius, `${nodes} nodes in ${width}`);
        }
      });
    }
  }
});

test("a link says in words that it is cut, which way, or slow", () => {
  const links = [pair(1, 2, { cut: "both" }), pair(1, 3, { cut: "back", slow: 0.2 }), pair(2, 3, { slow: 1.5 })];
  const svg = view.ringSvg(sample({ links }), 700);
  assert.match(svg, /<text y="4">cut<\/text>/);
  assert.match(svg, /<text y="4">cut 3→1, slow 200 ms<\/text>/);
  assert.match(svg, /<text y="4">slow 1.5 s<\/text>/);
  assert.match(svg, /data-link="2-3" data-state="slow"/);
});

test("a node that hears no leader shows how long it will wait, and one that hears does not", () => {
  const waits = sample({ nodes: [node(1, { timer: 0.25 }), node(2), node(3)] });
  assert.equal(count(view.ringSvg(waits, 700), /class="rv-timer"/g), 1);
  assert.match(view.ringSvg(waits, 700), /stroke-dasharray: 0.500 1; animation: rv-runs-out-0 0.25s/);
  assert.doesNotMatch(view.ringSvg(waits, 700, {}, true), /animation/, "a picture that stands still does not move");
  assert.equal(view.timerWords(node(1, { timer: 0.25 })), "hears no leader; asks for votes in 250 ms");
});

test("a dead node is called dead, and a node of a stopped cluster is called stopped", () => {
  assert.match(view.ringSvg(sample({ nodes: [node(1, { role: "dead" })] }), 700), /data-role="dead"/);
  const stopped = page(sample({ state: "stopped", leader: null }));
  assert.equal(count(stopped, /data-role="stopped"/g), 3);
  assert.match(stopped, /The cluster has stopped/);
  assert.equal(count(stopped, /data-do="/g), 0, "and nothing can be done to it");
});

test("paused, held, blocked, lagging and not yet acting nodes each say so", () => {
  const words = view.conditions(node(1, { role: "leader", paused: true, held: true, blocked: "In[3]:2", behind: 4 }));
  assert.deepEqual(words, ["paused", "held", "blocked", "not acting", "4 behind"]);
  assert.deepEqual(view.conditions(node(1, { role: "dead", held: true })), []);
  assert.deepEqual(view.conditions(node(1, { links: ["cut from 2", "slow to 3"], paused: true })), ["cut from 2", "slow to 3", "paused"]);
  assert.match(view.ringSvg(sample({ nodes: [node(1, { paused: true, held: true, blocked: "x", behind: 2 })] }), 700), />2 more</);
});

// --- the logs

test("an entry shows its kind, its term, and whether it is applied, committed or neither", () => {
  const late = node(1, { applied: 7, commit: 8 });
  const html = view.logsHtml(frameOf(sample({ nodes: [late] })), 700);
  const states = [...html.matchAll(/data-entry="(\d+:\d+)" data-of="1" data-state="(\w+)" data-kind="(\w+)"/g)].map((one) => one.slice(1));
  assert.deepEqual(states, [["7:2", "applied", "start"], ["8:2", "committed", "checkpoint"], ["9:2", "uncommitted", "checkpoint"]]);
  assert.match(html, /<b>S<\/b><i>2<\/i>/);
});

test("looking at a step marks the entry that recorded it, and looking at an entry names its step", () => {
  const ui = { ...view.START, step: { run: "order-1", id: "0/s" } };
  assert.match(view.logsHtml(frameOf(sample()), 700, ui), /data-entry="8:2"[^>]*data-linked="true"/);
  assert.equal(view.entryOf(sample(), ui.step), "8:2");
  assert.equal(view.entryOf(sample(), { run: "other", id: "0/s" }), null);
  assert.match(view.logsHtml(frameOf(sample()), 700, { ...view.START, entry: "9:2" }), /data-act="step" data-run="order-1" data-step="1\/s"/);
  assert.match(view.runsHtml(sample(), 700, ui), /data-step-id="0\/s" data-linked="true"/);
});

test("entries that a log dropped are seen for a while, struck out, with what they held", () => {
  const before = sample({ nodes: [node(1, { commit: 8, applied: 8 })] });
  const after = sample({ seq: 5, time: 1001, nodes: [node(1, { tail: [[7, 2], [8, 2]], length: 8, commit: 8, applied: 8, term: 3 })], entries: { "8:2": entry("start") } });
  const frames = view.remember(view.remember([], before), after);
  assert.deepEqual(frames[1].said, ["Node 1 dropped 1 uncommitted entry."]);
  assert.match(view.logsHtml(frames[1], 700), /data-entry="9:2" data-of="1" data-state="lost" data-kind="checkpoint"/);
  const replaced = sample({ seq: 6, time: 1002, nodes: [node(1, { tail: [[7, 2], [8, 2], [9, 3]] })], entries: { "9:3": entry("takeover") } });
  assert.match(view.logsHtml(view.remember(frames, replaced)[2], 700), /data-entry="9:3"[^>]*data-replaced="true"/);
  const later = view.remember(frames, { ...after, seq: 7, time: 1001 + view.LOST_SHOWN });
  assert.equal(count(view.logsHtml(later.at(-1), 700), /data-of="1" data-state="lost"/g), 0);
});

test("what a snapshot took the place of, and what lies before the tail, was not dropped", () => {
  assert.deepEqual(view.truncated(node(1), node(1, { tail: [[9, 2], [10, 2]], length: 10 })), []);
  assert.deepEqual(view.truncated(node(1), node(1, { tail: [[30, 4]], length: 30, snapshot: 30, first: 30 })), []);
  assert.deepEqual(view.truncated(node(1), node(1, { tail: [[7, 2], [8, 3]], length: 8 })), [[8, 2], [9, 2]]);
});

// --- the runs

test("a lane says how far its node is and how long its queue is, as data and in words", () => {
  const html = view.runsHtml(sample(), 700);
  assert.match(html, /data-node="3" data-step="2" data-queue="3"/);
  assert.match(html, />2\/5</);
  assert.match(html, />queue 3</);
  assert.match(html, /aria-label="node 3: 2 of 5 records had their turn, 3 in its catch-up queue, running"/);
});

test("records are drawn one by one while they fit, and as one bar when they do not", () => {
  const track = (steps, step, queue) => view.trackSvg(run({ steps, records: steps, tail: [], first: steps }), lane(1, step, queue), 400);
  assert.equal(count(track(12, 4, 8), /rv-done/g), 4);
  assert.equal(count(track(12, 4, 8), /rv-waits/g), 8);
  assert.equal(count(track(5000, 4000, 1000), /rv-done|rv-waits/g), 2);
  assert.equal(count(track(0, 0, 0), /rv-done|rv-waits/g), 0);
});

const arrived = (op, name = "") => ({ id: null, op, node: 0, failed: false, name });
const waits = (branches, changes = {}) => ({ node: 2, had: 5, branches, more: 0, ...changes });
const wait = (branch, kind, what = "", changes = {}) => ({ branch, name: "", kind, what, op: "", until: null, ...changes });

test("messages, timers, ends of children, moves and requests to cancel are records with marks and words of their own", () => {
  const tail = [arrived("signal arrived", "approve"), arrived("timers fired"), arrived("child ended", "order-1/2"), arrived("cancel requested", "too late"), arrived("moved", "version 2")];
  const svg = view.trackSvg(run({ tail }), lane(1, 5), 400);
  for (const words of ["signal &#39;approve&#39;", "timers fired", "end of child order-1/2", "request to cancel: too late", "moved to version 2"]) assert.ok(svg.includes(`<title>${words}</title>`), words);
  for (const mark of ["✉", "z", "⤷", "⊘", "V"]) assert.ok(svg.includes(`>${mark}</text>`), mark);
  assert.equal(count(svg, /data-step-id/g), 0, "what is no step is no step to look for in the logs");
});

test("the catch-up queue is a row of records, each with its kind, and the next one is marked", () => {
  const tail = [...recorded(2), arrived("signal arrived", "approve"), ...recorded(2)];
  const svg = view.trackSvg(run({ tail }), lane(3, 2, 3), 400);
  assert.equal(count(svg, /class="rv-waits/g), 3);
  assert.equal(count(svg, /rv-waits rv-next/g), 1);
  assert.match(svg, /<title>signal &#39;approve&#39;, next in the queue<\/title><rect class="rv-waits rv-next"/);
  assert.equal(count(svg, />ƒ<\/text>/g), 2, "an effect that waits says so by its mark");
});

test("a queue that is too long to be drawn shows its next records one by one, and the rest as a bar", () => {
  const next = [arrived("signal arrived", "approve"), { op: "compute", name: "7/s" }];
  const svg = view.trackSvg(run({ records: 5000, steps: 5000, tail: [], first: 5000 }), lane(3, 4000, 1000, "running", { next }), 400);
  assert.equal(count(svg, /rv-waits/g), 3);
  assert.ok(svg.indexOf("signal &#39;approve&#39;, next in the queue") < svg.indexOf("step 7/s, waits in the queue"));
  const right = Math.max(...[...svg.matchAll(/ x="([\d.]+)"[^>]* width="([\d.]+)"/g)].map((found) => Number(found[1]) + Number(found[2])));
  assert.ok(right <= 400);
});

test("the turn of a node is told with the record that made it", () => {
  assert.equal(view.turnWords(lane(1, 17, 0, "running", { turn: arrived("signal arrived", "approve") })), "turn 17: signal 'approve'");
  assert.equal(view.turnWords(lane(1, 0)), "before its first turn");
  const html = view.runsHtml(sample({ runs: [run({ lanes: [lane(2, 5, 0, "running", { turn: { op: "compute", name: "4/s" } })], waits: waits([]) })] }), 700);
  assert.match(html, /<span class="rv-turn">turn 5: step 4\/s<\/span><span class="rv-quiet"> · node 2<\/span>/);
});

test("each branch says what it waits for, how long still, which attempt it is and how the last one failed", () => {
  const words = (one, now = 1000) => view.wholeWords(one, now);
  assert.equal(words(wait("", "signal", "'approve' or 'refuse'", { until: 1480 })), "signal 'approve' or 'refuse', times out in 8 min 0 s");
  assert.equal(words(wait("t1", "time", "", { until: 1012.2 })), "a time, 13 s left");
  assert.equal(words(wait("t1", "time", "", { until: 1012.2 }), 1005), "a time, 8 s left", "it counts down");
  assert.equal(words(wait("t1", "time", "", { until: 999 })), "a time, due");
  assert.equal(words(wait("", "step", "3/fit", { op: "compute", attempt: 1, failure: null, again: null })), "step 3/fit");
  const failed = { op: "compute", attempt: 2, failure: "ConnectionError: away", again: 1003 };
  assert.equal(words(wait("", "step", "3/fit", failed)), "step 3/fit, attempt 2 failed: ConnectionError: away; again in 3 s");
  assert.equal(words(wait("", "step", "3/fit", { ...failed, attempt: 3, again: null })), "step 3/fit, attempt 3, after ConnectionError: away");
  assert.equal(words(wait("", "child", "order-1/2")), "end of child order-1/2");
  assert.equal(words(wait("", "tasks", "t1., t2.t1.")), "tasks t1, t2.t1");
  assert.equal(words(wait("", "other", "Lock.acquire")), "Lock.acquire");
  assert.deepEqual([0.2, 61, 3660, 90000, 180000].map(view.timeLeft), ["1 s", "1 min 1 s", "1 h 1 min", "1 day 1 h", "2 days 2 h"]);
});

test("plain tasks have lanes as branches do, also before anything of theirs is recorded, with a mark for what they wait for", () => {
  const tail = ["0/a", "t1.0/x", "t1.t2.0/y", "t1.gabcdef01.0/gate", "2.1.0/z"].map((id) => ({ id, op: "compute", node: 2, failed: false }));
  const one = run({ tail, lanes: [lane(2, 5), lane(3, 2, 3)], waits: waits([wait("t10", "time"), wait("c1", "signal", "'go'"), wait("t1.t2", "step", "t1.t2.1/y", { op: "compute" })]) });
  assert.deepEqual(view.branchesOf(tail, ["t10", "c1", "u2", "u2.t1"]), ["", "2.1", "t1", "t1.t2", "t10", "u2", "u2.t1", "c1"]);
  assert.deepEqual(["0/a", "2.1.0/z", "t1.0/x", "t1.t2.0/y", "2.1.t1.0/y", "t1.gabcdef01.0/gate"].map(view.depth), [0, 1, 1, 2, 2, 1]);
  const svg = view.trackSvg(one, one.lanes[0], 400);
  for (const name of ["2.1", "t1", "t1.t2", "t10", "c1"]) assert.ok(svg.includes(`>⇉${name}</text>`), name);
  assert.match(svg, /data-branch="c1"[^>]*><title>waits for signal &#39;go&#39;<\/title>✉<\/text>/);
  assert.equal(count(view.trackSvg(one, one.lanes[1], 400), /waits for/g), 0, "a node that is behind waits for its queue");
  assert.match(view.runsHtml(sample({ runs: [one] }), 700), /<li data-branch="t1.t2" data-kind="step">/);
});

test("a run that nothing can wake says so, in the picture, in the tables and aloud", () => {
  const stuck = sample({ runs: [run({ stuck: true, waits: waits([wait("", "other", "Event.wait")]) })] });
  assert.match(page(stuck), /<b class="rv-stuck">nothing can wake it<\/b>/);
  assert.match(page(stuck), /Only a request to cancel reaches it/);
  assert.match(page(stuck, { ui: { ...view.START, form: "tables" } }), /nothing can wake it/);
  assert.deepEqual(view.changes(sample(), stuck), ["Nothing can wake run order-1."]);
  assert.doesNotMatch(page(sample()), /nothing can wake/);
});

test("of many branches that wait the first are shown, and all of them in an opened run", () => {
  const many = run({ waits: waits(Array.from({ length: 16 }, (_, at) => wait(`t${at + 1}`, "time", "", { until: 1010 })), { more: 4 }) });
  const rows = (ui) => page(sample({ runs: [many] }), { ui: { ...view.START, ...ui } });
  assert.match(rows({}), /and 14 more branches/);
  assert.match(rows({ open: ["order-1"] }), /and 4 more branches/);
  assert.ok(view.counts(sample({ runs: [many] })) && !view.counts(sample()), "it counts down while something does");
  const frames = [frameOf(sample({ seq: 1, runs: [many] })), frameOf(sample({ seq: 2, runs: [many] }))];
  const at = (ui) => view.viewHtml({ frames, ui: { ...view.START, ...ui }, tasks: [], details: {}, link: "live", passed: 4 }, 700);
  assert.match(at({}), /6 s left/);
  assert.match(at({ at: 1 }), /10 s left/, "a picture of before stands still");
});

test("an opened run shows what came to it between its steps, and only steps can be chosen", () => {
  const tail = [...recorded(1), arrived("signal arrived", "approve")];
  const html = page(sample({ runs: [run({ steps: 1, records: 2, tail })] }), { ui: { ...view.START, open: ["order-1"] } });
  assert.match(html, /<div class="rv-item" title="turn 2: signal &#39;approve&#39;">/);
  assert.equal(count(html, /data-act="step"/g), 1);
});

test("an effect is marked in the lane of the node that ran it, and in no other", () => {
  assert.equal(count(view.trackSvg(run(), lane(2, 5), 400), /rv-here/g), 5);
  assert.equal(count(view.trackSvg(run(), lane(1, 5), 400), /rv-here/g), 0);
  const variable = run({ tail: recorded(5).map((step) => ({ ...step, op: "var" })) });
  assert.equal(count(view.trackSvg(variable, lane(2, 5), 400), /rv-here/g), 0, "a variable is no effect");
});

test("a node that cannot read a run says so, and its queue says nothing", () => {
  const lanes = [lane(1, 3, 4, "unreadable", { problem: "step '0/a' does not unpickle" }), lane(2, 5, 0, "running")];
  const html = view.runsHtml(sample({ runs: [run({ lanes })] }), 700);
  assert.match(html, /cannot read its code or a value/);
  assert.match(html, /node 1: step &#39;0\/a&#39; does not unpickle/);
});

test("a node that diverged says why, and a step that is being run says which and how far it is", () => {
  const lanes = [lane(1, 3, 0, "diverged", { problem: "asked for 3/b" }), lane(2, 5, 0, "running", { doing: [{ id: "5/fit", attempt: 2, fraction: 0.25, text: "" }] })];
  const html = view.runsHtml(sample({ runs: [run({ lanes })] }), 700);
  assert.match(html, /node 1: asked for 3\/b/);
  assert.match(html, /5\/fit <b class="rv-again">attempt 2<\/b> 25 %/);
});

test("a kind or status that is not known is drawn with its own name", () => {
  const odd = run({ status: "dreaming", tail: recorded(5).map((step) => ({ ...step, op: "dream" })), lanes: [lane(1, 5, 0, "dreaming")] });
  const html = page(sample({ runs: [odd], entries: { "9:2": entry("dream") } }), { ui: { ...view.START, open: ["order-1"] } });
  assert.match(html, /• dreaming/);
  assert.match(html, /step 4\/s, dream, by node 2/);
  assert.match(html, /<b>D<\/b>/);
  assert.deepEqual(view.recordKind("constructor"), { mark: "◆", word: "constructor" });
});

test("an opened run shows its steps at once, and their times and values when these have come", () => {
  const ui = { ...view.START, open: ["order-1"] };
  assert.match(page(sample(), { ui }), /as soon as the kernel is not busy/);
  const steps = recorded(5).map((step, place) => ({ ...step, from: 10 + place, at: 10.5 + place, value: `${place}` }));
  const details = { "order-1": { start: 10, first: 0, records: steps } };
  const html = page(sample(), { ui, details });
  assert.match(html, /step 4\/s, effect, by node 2, 500 ms, 4/);
  assert.equal(count(html, /class="rv-item"/g), 5);
  const earlier = page(sample({ runs: [run({ steps: 2, records: 2, tail: recorded(2) })] }), { ui, details });
  assert.equal(count(earlier, /class="rv-item"/g), 2, "a picture of before knows only the steps of then");
  assert.equal(view.depth("0/a"), 0);
  assert.equal(view.depth("2.1.0/a"), 1);
});

test("runs that are not drawn are counted", () => {
  assert.match(view.runsHtml(sample({ omitted: { running: 0, completed: 28, failed: 2 } }), 700), /28 completed, 2 failed/);
});

test("steps of branches stand on lines of their own, and a timer's end on that of the branch that waits for it", () => {
  const steps = ["0/a", "1.0.0/left", "1.1.0/right", "1.10.0/last", "1.1.1/sleep", "1.1.1.0.0/wake"].map((id) => ({ id, op: id.split("/")[1], node: 2, failed: false }));
  assert.deepEqual(view.branchesOf(steps), ["", "1.0", "1.1", "1.10"], "in the order of their numbers");
  const one = run({ steps: 6, records: 6, tail: steps });
  const svg = view.trackSvg(one, lane(1, 6), 400);
  for (const name of ["1.0", "1.1", "1.10"]) assert.ok(svg.includes(`>⇉${name}</text>`), name);
  const heights = [...svg.matchAll(/class="rv-done" x="[\d.]+" y="([\d.]+)"/g)].map((found) => Number(found[1]));
  assert.equal(new Set(heights).size, 4);
  assert.deepEqual(heights.slice(2, 3).concat(heights.slice(4)), [heights[2], heights[2], heights[2]], "right, sleep and wake are on one line");
  assert.match(view.runsHtml(sample({ runs: [one] }), 700), /3 branches/);
});

test("more branches than there is room for share the last line, and it says how many", () => {
  const steps = Array.from({ length: 12 }, (_, place) => ({ id: `0.${place}.0/s`, op: "compute", node: 2, failed: false }));
  const plan = view.linesOf(steps);
  assert.equal(plan.names.length, view.MOST_LINES);
  assert.equal(plan.names.at(-1), "+8", "five lines are theirs alone, that of the workflow among them");
  assert.ok(steps.every((step) => plan.by.get(view.branchOf(step)) < view.MOST_LINES));
});

test("what an earlier version recorded has marks in a lane too, and what was tried again has one", () => {
  const tail = [["0/z", "sleep"], ["1/m", "receive"], ["2/c", "child"], ["3/f", "compute"]].map(([id, op]) => ({ id, op, node: 2, failed: false }));
  tail[3].attempts = 3;
  const svg = view.trackSvg(run({ steps: 4, records: 4, tail }), lane(1, 4), 400);
  for (const mark of ["z", "✉", "⤷"]) assert.ok(svg.includes(`>${mark}</text>`), mark);
  assert.equal(count(svg, /rv-retried/g), 1);
  assert.match(svg, /3\/f: effect, run by node 2, 3 attempts/);
});

test("a run names its parent and its children, and links to those that are drawn", () => {
  const runs = [run(), run({ run: "order-1/2", parent: "order-1", waiting: 2 }), run({ run: "far-1", parent: "elsewhere" })];
  const html = view.runsHtml(sample({ runs }), 700);
  assert.match(html, /child <button[^>]*data-act="show" data-run="order-1\/2"/);
  assert.match(html, /child of <button[^>]*data-act="show" data-run="order-1"/);
  assert.match(html, /child of <b>elsewhere<\/b>/);
  assert.match(html, /2 messages not received yet/);
});

test("steps that are being run and find no room are counted", () => {
  const doing = [{ id: "5/fit", attempt: 1, fraction: null, text: "" }, { id: "6/fit", attempt: 1, fraction: null, text: "" }];
  const html = view.runsHtml(sample({ runs: [run({ lanes: [lane(1, 5, 0, "running", { doing, more: 3 })] })] }), 700);
  assert.match(html, /5\/fit … \+4/);
  assert.match(html, /runs 5\/fit, runs 6\/fit, and 3 steps more/);
});

test("the code of an opened run shows at which line each node is, and nodes at one line stand together", () => {
  const at = (line, changes = {}) => ({ branch: "", line, own: true, where: `cell:${line} in order`, ...changes });
  const places = { 1: [at(12)], 2: [at(12), at(11, { branch: "1.0." })], 3: [at(3, { own: false, where: "tools.py:3 in fit" })] };
  const code = { "order-1": { file: "cell", first: 10, lines: ["    async def order(ctx):", "        a", "", "        b"], left: 0 } };
  const ui = { ...view.START, open: ["order-1"] };
  const details = { "order-1": { start: 1, first: 0, records: [], places } };
  const html = page(sample(), { ui, details, code });
  assert.match(html, /data-line="12" data-nodes="1 2" data-here="true"/);
  assert.match(html, /data-line="11" data-nodes="2" data-here="true"/);
  assert.match(html, />1 2♛<\/b>/);
  assert.match(html, /<b[^>]*>3<\/b> in tools.py:3 in fit/);
  assert.match(html, /<code>async def order\(ctx\):<\/code>/, "without the indentation that all lines have");
  const frames = [frameOf(sample({ seq: 1 })), frameOf(sample({ seq: 2 }))];
  const before = view.viewHtml({ frames, ui: { ...ui, at: 1 }, tasks: [], details, code, link: "live" }, 700);
  assert.equal(count(before, /data-here="true"/g), 0, "where the nodes were before is not known");
});

test("code whose source is not known says so, and where the nodes are all the same", () => {
  const ui = { ...view.START, open: ["order-1"] };
  const places = { 1: [{ branch: "", line: 3, own: true, where: "<made>:3 in order" }] };
  const details = { "order-1": { start: 1, first: 0, records: [], places } };
  const html = page(sample(), { ui, details, code: { "order-1": { file: "<made>", first: 2, lines: [], left: 0 } } });
  assert.match(html, /<p class="rv-quiet">source not known<\/p>/);
  assert.match(html, /in &#60;made&#62;:3 in order/);
  const none = page(sample(), { ui, details, code: { "order-1": { file: "", first: 0, lines: [], left: 0 } } });
  assert.match(none, /known as soon as a node has begun/);
  assert.doesNotMatch(none, /source not known/);
});

// --- messages

test("what was sent between two pictures is told by direction and kind, the rarer kinds first, and what a cut swallows is lost", () => {
  const before = sample({ links: [pair(1, 2, { out: { append: 3, heartbeat: 9 } }), pair(1, 3)] });
  const after = sample({ links: [pair(1, 2, { cut: "out", out: { append: 5, heartbeat: 9, "ask vote": 1 }, back: { acknowledge: 2 } }), pair(1, 3), pair(2, 3, { out: { append: 7 } })] });
  const sent = view.sentBetween(before, after);
  assert.deepEqual(sent.map((one) => [one.from, one.to, one.kind, one.count, one.lost]), [
    [1, 2, "ask vote", 1, true],
    [1, 2, "append", 2, true],
    [2, 1, "acknowledge", 2, false],
  ], "of a link that was not there before nothing is said: it may be older");
  assert.equal(view.sentWords(sent[1]), "1→2: appends entries ×2, lost");
  const again = view.sentBetween(after, sample({ links: [pair(1, 2, { out: { append: 1 } })] }));
  assert.deepEqual(again.map((one) => one.count), [1], "a node that was restarted counts anew");
  assert.deepEqual(view.sentBetween(undefined, after), []);
});

test("of many messages some are drawn with their number, each with a letter and a shape, and a lost one ends half way", () => {
  const links = Array.from({ length: 6 }, (_, at) => pair(at + 1, at + 2, { cut: at ? null : "both" }));
  const busy = links.map((link) => ({ ...link, out: { append: 5, heartbeat: 2, propose: 1 }, back: { acknowledge: 5 } }));
  const places = new Map(Array.from({ length: 7 }, (_, at) => [at + 1, { x: 100 * at, y: 50 }]));
  const drawn = view.flights(view.sentBetween(sample({ links }), sample({ links: busy })), places, 27);
  assert.equal(drawn.length, view.MOST_FLIGHTS);
  assert.equal(drawn.filter((one) => one.kind === "heartbeat").length, 0, "the most usual ones make room first");
  const lost = drawn.find((one) => one.from === 1 && one.to === 2);
  assert.ok(lost.lost && lost.end.x === 50);
  assert.match(view.markHtml({ kind: "append", count: 5, lost: false }), /data-answer="false" data-lost="false"><b>A<\/b><i>×5/);
  assert.match(view.markHtml({ kind: "acknowledge", count: 1, lost: true }), /data-answer="true" data-lost="true"><b>✓<\/b><\/span>/);
});

test("messages are numbers where nothing may move, and in the tables", () => {
  const links = [pair(1, 2, { out: { append: 4, heartbeat: 1 } })];
  const frames = [frameOf(sample({ seq: 1 })), frameOf(sample({ seq: 2, links }))];
  const calm = (changes) => view.viewHtml({ frames, ui: view.START, tasks: [], details: {}, link: "live", ...changes }, 700);
  assert.match(calm({ motion: false }), /data-lane="1-2"[^>]*><title>1→2: appends entries ×4; 1→2: heartbeat<\/title><text y="4">A4 ♥1</);
  assert.equal(count(calm({}), /data-lane=/g), 0, "where they move they are not told twice");
  assert.match(calm({ link: "stale" }), /data-lane="1-2"/);
  assert.match(calm({ ui: { ...view.START, form: "tables" } }), /4 append, 1 heartbeat/);
  assert.match(calm({ ui: { ...view.START, link: "1-2" } }), /<dt>1→2<\/dt><dd>4 append, 1 heartbeat/);
});

test("no number of messages stands upon a node or its words, in any ring", () => {
  const boxes = (svg, pattern, of) => [...svg.matchAll(pattern)].map((found) => of(...found.slice(1).map((one) => (Number.isNaN(Number(one)) ? one : Number(one)))));
  for (const width of [306, 366, 446, 606, 662]) {
    for (const nodes of [2, 3, 4, 5, 6, 7, 8, 9]) {
      const numbers = Array.from({ length: nodes }, (_, at) => at + 1);
      const pairs = numbers.flatMap((a) => numbers.filter((b) => b > a).map((b) => pair(a, b)));
      const sent = pairs.flatMap(({ a, b }) => [[a, b], [b, a]]).flatMap(([from, to]) => ["vote", "append", "heartbeat"].map((kind) => ({ from, to, kind, count: 120, lost: false, slow: null })));
      const ring = sample({ nodes: numbers.map((number) => node(number, number === 1 ? { held: true, paused: true } : {})), links: pairs });
      const { by, dense, factor, radius } = view.placesOf(ring, width);
      const svg = view.ringSvg(ring, width, {}, true, sent);
      const told = boxes(svg, /data-lane="(\S+)" data-lost="false" transform="translate\((\S+) (\S+)\)"><title>[^<]*<\/title><text y="4">([^<]*)/g, (lane, x, y, text) => ({ lane, x, y, half: text.length * 3 }));
      assert.equal(told.length, nodes * (nodes - 1));
      for (const { lane, x, y, half } of told) {
        for (const [number, place] of by) {
          const [dx, dy] = [Math.abs(x - place.x), y - place.y];
          const where = `${lane} at node ${number} of ${nodes}, in ${width}`;
          assert.ok(dx > radius + half || Math.abs(dy) > radius + 5, `${where}: upon the node`);
          assert.ok(dx > half + (dense ? 28 : 60) * factor || dy < radius || dy > (27 + (dense ? 33 : 37)) * factor + 5, `${where}: upon its words`);
        }
      }
    }
  }
});

test("a number stands where its messages set off if there is room, and by another one if not", () => {
  const places = new Map([[1, { x: 0, y: 0 }], [2, { x: 400, y: 0 }]]);
  const sent = [{ from: 1, to: 2, kind: "append", count: 4, lost: false, slow: null }, { from: 1, to: 2, kind: "vote", count: 1, lost: false, slow: null }];
  const place = (words) => view.numbersSvg(sent, places, 27, false, words).match(/translate\((\S+) (\S+)\).*<text y="4">(.*)<\/text>/).slice(1);
  assert.deepEqual(place([]), ["143.9", "5.0", "A4 V1"]);
  assert.deepEqual(place([[100, -20, 180, 40]]), ["206.6", "5.0", "A4 V1"], "further on");
  assert.deepEqual(place([[0, -20, 400, 9]]), ["143.9", "17.0", "A4 V1"], "beside the link");
  assert.deepEqual(place([[0, -20, 154, 60], [188, -20, 400, 60]]), ["167.0", "5.0", "A4…"], "shorter");
});

test("below the logs stands what their marks mean, that of owners and labels too", () => {
  const legend = view.logsHtml(frameOf(sample()), 700).match(/<p class="rv-about rv-quiet">(.*?)<br>/)[1];
  assert.match(legend, /<b>S<\/b> step · /);
  assert.match(legend, /<b>O<\/b> owners and labels · /);
  for (const kind of ["offer", "withdraw", "assign", "bind"]) assert.equal(view.entryKind(kind).mark, "O");
});

// --- words

test("a stale picture says that the kernel is gone", () => {
  const html = page(sample(), { link: "stale" });
  assert.match(html, /data-state="stale"/);
  assert.match(html, /kernel is gone/);
});

test("a change of the leader is said in words", () => {
  const without = sample({ leader: null, nodes: [node(1), node(2, { role: "dead" }), node(3)] });
  const after = sample({ leader: 3, term: 3 });
  assert.deepEqual(view.changes(sample(), without), ["No node leads.", "Node 2 is dead."]);
  assert.deepEqual(view.changes(without, after), ["Node 3 leads in term 3.", "Node 2 runs again."]);
  assert.deepEqual(view.changes(after, after), []);
  assert.deepEqual(view.changes(null, sample()), ["Node 2 leads in term 2; 3 nodes."]);
});

test("holding, releasing, joining, and the end of a run are said in words", () => {
  const held = sample({ nodes: [node(1), node(2, { role: "leader", acting: true }), node(3, { held: true })] });
  assert.deepEqual(view.changes(sample(), held), ["Node 3 is held."]);
  assert.deepEqual(view.changes(held, sample()), ["Node 3 was released."]);
  const alone = sample({ nodes: sample().nodes.map((one) => (one.node === 3 ? { ...one, links: ["isolated"] } : one)) });
  assert.deepEqual(view.changes(sample(), alone), ["Node 3 is isolated."]);
  assert.deepEqual(view.changes(alone, sample()), ["Node 3 is well connected again."]);
  assert.deepEqual(view.changes(sample(), sample({ nodes: [...sample().nodes, node(4)] })), ["Node 4 joined."]);
  assert.deepEqual(view.changes(sample({ nodes: [...sample().nodes, node(4)] }), sample()), ["Node 4 was removed."]);
  const done = sample({ runs: [run({ status: "completed" })] });
  assert.deepEqual(view.changes(sample(), done), ["Run order-1 completed."]);
});

test("the tables say what the picture says", () => {
  const links = [pair(1, 2, { cut: "both" })];
  const html = page(sample({ links, nodes: [node(1, { held: true }), node(2, { role: "leader", acting: true }), node(3)] }), { ui: { ...view.START, form: "tables" } });
  for (const words of ["<th scope=\"row\">node 1</th>", "held, heard its leader", "<td>cut</td>", "2 of 5 records had their turn, 3 in its catch-up queue"]) {
    assert.ok(html.includes(words), words);
  }
  assert.equal(count(html, /data-role=/g), 0);
});

test("long names keep both of their ends", () => {
  assert.equal(view.shorten("abcdefghij", 10), "abcdefghij");
  assert.equal(view.shorten("abcdefghijklmnopqrstuvwxyz", 10), "abcdef…xyz");
});

test("durations are said in units that fit them", () => {
  assert.deepEqual([0, 0.0404, 0.9999, 12.34, 185].map(view.duration), ["0 ms", "40 ms", "1.0 s", "12.3 s", "3 min 5 s"]);
});

test("what is on the page already is left out of the next picture, and a mark of the same tag stands in its place", () => {
  const first = view.parts(new Map());
  assert.equal(first.part("run 0", '<section class="x">a</section>'), '<section class="x">a</section>');
  const second = view.parts(first.drawn);
  assert.equal(second.part("run 0", '<section class="x">a</section>'), '<section data-same="true"></section>');
  assert.equal(second.part("run 1", "<section>a</section>"), "<section>a</section>", "the same in another place is another part");
  assert.equal(view.parts(second.drawn).part("run 0", "<section>b</section>"), "<section>b</section>");
  assert.equal(view.parts(new Map(view.parts(second.drawn).drawn)).part("run 0", "<p>a</p>"), "<p>a</p>", "what was not drawn in between is gone");
});

// --- faults

test("only what makes sense for a node is offered", () => {
  const lines = (one, snapshot = sample()) => view.nodeFaults(one, snapshot).map((fault) => fault.line);
  assert.deepEqual(lines(node(1)), ["kill 1", "pause 1", "hold 1", "isolate 1", "transfer 1"]);
  assert.deepEqual(lines(node(1, { paused: true, held: true })), ["kill 1", "resume 1", "release 1", "isolate 1"]);
  assert.deepEqual(lines(node(1, { role: "dead" })), ["restart 1"]);
  assert.deepEqual(lines(node(1), sample({ links: [pair(1, 2, { slow: 0.1 })] })).slice(3), ["heal 1", "transfer 1"]);
  assert.deepEqual(lines(node(1), sample({ state: "stopped" })), []);
  assert.deepEqual(lines(node(1), sample({ nodes: [node(1)], links: [] })), ["kill 1", "pause 1", "hold 1"]);
});

test("a link is cut as seen from either end, and healed when it is ill", () => {
  const lines = (links, from, to) => view.linkFaults(sample({ links }), from, to).map((fault) => fault.line);
  assert.deepEqual(lines([pair(1, 2)], 2, 1), ["cut 2-1", "cut 2-1 --one-way", "slow 2-1 --delay 200ms"]);
  assert.deepEqual(lines([pair(1, 2, { cut: "out" })], 1, 2), ["heal 1-2"]);
  assert.deepEqual(lines([pair(1, 2)], 1, 3), []);
});

test("a run is paused, cancelled and sent signals by lines that the magics take, while it has not ended", () => {
  const lines = (one) => view.runFaults(one).map((fault) => fault.line);
  assert.deepEqual(lines(run()), ["pause order-1", "cancel order-1", "terminate order-1"]);
  assert.deepEqual(lines(run({ status: "paused" }))[0], "resume order-1");
  assert.deepEqual(lines(run({ run: "my run" }))[1], 'cancel "my run"');
  assert.deepEqual(lines(run({ status: "completed" })), []);
  assert.equal(view.signalLine(run(), "approve", " True "), "signal order-1 approve True");
  assert.equal(view.signalLine(run(), "it's ok", ""), `signal order-1 "it's ok"`);
  assert.equal(view.signalLine(run(), "  ", "1"), null);
  assert.equal(view.signalLine(run(), `"'`, "1"), null);
  assert.equal(view.signalLine(run({ run: "my run" }), "approve", ""), null);
  const ui = { ...view.START, open: ["order-1"], typed: { "order-1": { name: "approve", value: "3" } } };
  assert.match(page(sample(), { ui }), /data-do="signal order-1 approve 3" title="%raftoral signal order-1 approve 3">Signal/);
  const ended = page(sample({ runs: [run({ status: "failed" })] }), { ui });
  assert.equal(count(ended, /data-field=/g), 0);
});

test("a node that is dragged to the other side is on it, and there is a place to drop it while it is dragged", () => {
  let ui = view.reduce({ ...view.START, node: 3 }, { act: "drag", node: 3 });
  assert.match(page(sample(), { ui }), /data-tray="true" data-over="true"/);
  ui = view.reduce(ui, { act: "drop", node: 3 });
  assert.deepEqual([ui.drag, ui.node, ui.side], [null, null, [3]]);
  assert.match(page(sample(), { ui }), /data-do="partition 3 \/ 1 2"/);
  assert.match(view.ringSvg(sample(), 700, ui), /data-node="3"[^>]*data-sided="true"/);
  assert.deepEqual(view.reduce(view.reduce(ui, { act: "drag", node: 1 }), { act: "drag", node: null }).side, [3]);
});

test("a partition needs nodes on both sides", () => {
  assert.equal(view.partitionLine([1], sample()), "partition 1 / 2 3");
  assert.equal(view.partitionLine([], sample()), null);
  assert.equal(view.partitionLine([1, 2, 3], sample()), null);
  assert.equal(view.partitionLine([9], sample()), null, "of nodes that left nothing is made");
});

test("what was asked for is shown with its magic and how it stands, and a late word of a busy kernel changes nothing", () => {
  let tasks = view.withTask([], { id: "a", line: "kill 2" });
  assert.equal(view.taskWords(tasks[0]), "asked");
  tasks = view.withTask(tasks, { id: "a", state: "queued" });
  assert.equal(view.taskWords(tasks[0]), "kernel busy, queued");
  tasks = view.withTask(tasks, { id: "a", state: "done", words: "node 2 killed" });
  tasks = view.withTask(tasks, { id: "a", state: "queued" });
  assert.equal(view.taskWords(tasks[0]), "node 2 killed");
  for (const id of ["b", "c", "d", "e"]) tasks = view.withTask(tasks, { id, line: "heal" });
  assert.deepEqual(tasks.map((task) => task.id), ["b", "c", "d", "e"]);
  assert.match(page(sample(), { tasks }), /<code>%raftoral heal<\/code>/);
});

// --- time

test("history is bounded in pictures and in seconds, and keeps those in which something happened", () => {
  let frames = [];
  for (let seq = 0; seq < 3000; seq += 1) frames = view.remember(frames, sample({ seq, time: 1000 + seq / 20, leader: seq === 500 ? null : 2 }));
  assert.ok(frames.length <= view.MAX_FRAMES);
  assert.equal(frames.at(-1).snapshot.seq, 2999);
  assert.ok(frames.some((frame) => frame.snapshot.seq === 500 && frame.said.includes("No node leads.")));
  frames = view.remember(frames, sample({ seq: 3000, time: 1000 + 500 + view.MAX_AGE }));
  assert.equal(frames.length, 1);
});

test("a picture that was dropped is replaced by the next one that is left", () => {
  const frames = [2, 4, 6].map((seq) => frameOf(sample({ seq })));
  assert.deepEqual([null, 2, 3, 6, 9].map((seq) => view.placeOf(frames, seq)), [2, 0, 1, 2, 2]);
});

test("a picture of before says so, and nothing can be done to it", () => {
  const frames = [frameOf(sample({ seq: 1, time: 990 })), frameOf(sample({ seq: 2 }))];
  const html = view.viewHtml({ frames, ui: { ...view.START, at: 1, node: 1 }, tasks: [], details: {}, link: "live" }, 700);
  assert.match(html, /10\.0 s before now/);
  assert.match(html, /data-do="kill 1"[^>]* disabled/);
});

// --- keys

const typed = (keys, ui = view.START, frames = [frameOf(sample({ seq: 1 })), { ...frameOf(sample({ seq: 2 })), said: ["x"] }, frameOf(sample({ seq: 3 }))]) => {
  let last = null;
  for (const key of keys) {
    last = view.keyed(key.replace("Shift ", ""), key.startsWith("Shift"), ui, frames);
    if (last?.act) ui = view.reduce(ui, last);
  }
  return [ui, last];
};

test("a node is chosen by its number, and a letter does something to it", () => {
  assert.equal(typed(["3", "k"])[1].do, "kill 3");
  assert.equal(typed(["1", "t"])[1].do, "transfer 1");
  assert.match(typed(["2", "t"])[1].say, /cannot be done to node 2/);
  assert.match(typed(["k"])[1].say, /Choose a node first/);
  assert.match(typed(["7"])[1].say, /no node 7/);
  assert.equal(typed(["x"])[1], null);
});

test("a link is cut or slowed with a letter and a number", () => {
  const [ui, last] = typed(["1", "c", "3"]);
  assert.equal(last.do, "cut 1-3");
  assert.equal(ui.node, 1);
  assert.equal(ui.waits, null);
  assert.equal(typed(["1", "s", "2"])[1].do, "slow 1-2 --delay 200ms");
  assert.match(typed(["1", "c", "1"])[1].say, /between two nodes/);
});

test("space stops the picture and goes on, arrows go through it, and Escape comes back to now", () => {
  assert.equal(typed([" "])[0].at, 3);
  assert.equal(typed([" ", " "])[0].at, null);
  assert.equal(typed(["ArrowLeft"])[0].at, 2);
  assert.equal(typed(["ArrowLeft", "ArrowLeft", "ArrowLeft"])[0].at, 1);
  assert.equal(typed(["ArrowLeft", "ArrowLeft", "ArrowRight"])[0].at, 2);
  assert.equal(typed(["ArrowRight"])[1], null);
  assert.equal(typed(["Shift ArrowLeft"])[0].at, 2);
  assert.equal(typed(["1", " ", "Escape"])[0].at, null);
  assert.match(typed(["1", " ", "k"])[1].say, /picture of before/);
});

test("nothing is asked of another host", async () => {
  for (const name of names) {
    const source = await readFile(new URL(name, modules), "utf8");
    assert.doesNotMatch(source.replaceAll("http://www.w3.org/", ""), /https?:|\/\/[a-z]+\./, name);
  }
});
