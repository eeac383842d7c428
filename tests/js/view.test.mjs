// The pure part of the live view. Run: node --test tests/js/
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

// Read and imported as data: without a package.json, Node would take a .js file for the older kind of module.
const source = await readFile(new URL("../../kernel_ext/static/view.js", import.meta.url), "utf8");
const view = await import(`data:text/javascript;base64,${Buffer.from(source).toString("base64")}`);

const node = (number, changes = {}) => ({
  node: number, role: "follower", acting: false, paused: false, held: false, blocked: null, term: 2, epoch: 2,
  commit: 9, applied: 9, length: 9, behind: 0, effects: 0, ...changes,
});
const lane = (number, step, queue = 0, status = "running") => ({ node: number, status, step, queue, last: null, effects: 0 });
const sample = (changes = {}) => ({
  format: 1, seq: 4, name: "cluster-1", state: "running", leader: 2, term: 2, epoch: 2,
  nodes: [node(1), node(2, { role: "leader", acting: true }), node(3)],
  runs: [{ run: "order-1", workflow: "order", version: 1, status: "running", steps: 5, failure: null, lanes: [lane(1, 5), lane(2, 5), lane(3, 2, 3)] }],
  omitted: { running: 0, completed: 0, failed: 0 },
  counters: { commands: 7, checkpoints: 5 },
  ...changes,
});
const count = (text, pattern) => (text.match(pattern) ?? []).length;

test("what people named a run or a workflow cannot become markup", () => {
  const evil = `<img src=x onerror="alert('1')">&`;
  const run = { ...sample().runs[0], run: evil, workflow: evil, failure: evil };
  const html = view.viewHtml(sample({ name: evil, runs: [run], nodes: [node(1, { blocked: evil })] }), 700, "live");
  assert.equal(count(html, /<img/g), 0);
  assert.equal(count(html, /onerror="/g), 0);
});

test("the leader is told by word and crown, not only by colour", () => {
  const svg = view.nodesSvg(sample(), 700);
  assert.equal(count(svg, />leader</g), 1);
  assert.equal(count(svg, /rv-crown/g), 1);
  assert.match(svg, /data-node="2" data-role="leader"/);
});

test("a lane says how far its node is and how long its queue is, as data and in words", () => {
  const html = view.runsHtml(sample(), 700);
  assert.match(html, /data-node="3" data-step="2" data-queue="3"/);
  assert.match(html, />2\/5</);
  assert.match(html, />queue 3</);
  assert.match(html, /aria-label="node 3: 2 of 5 steps consumed, 3 in its catch-up queue, running"/);
});

test("steps are drawn one by one while they fit, and as one bar when they do not", () => {
  assert.equal(count(view.trackSvg(12, 4, 8, 400), /rv-done/g), 4);
  assert.equal(count(view.trackSvg(12, 4, 8, 400), /rv-waits/g), 8);
  assert.equal(count(view.trackSvg(5000, 4000, 1000, 400), /rv-done|rv-waits/g), 2);
  assert.equal(count(view.trackSvg(0, 0, 0, 400), /rv-done|rv-waits/g), 0);
});

test("no picture is wider than the room it has", () => {
  for (const width of [200, 320, 420, 700, 1000, 1600]) {
    for (const nodes of [1, 2, 3, 5, 7, 9]) {
      const plan = view.layout(nodes, width);
      for (const place of plan.places) {
        assert.ok(place.x >= 0 && place.x + plan.wide <= width + 0.5, `${nodes} nodes in ${width}`);
        assert.ok(place.y + 140 <= plan.height, `${nodes} nodes in ${width}`);
      }
    }
  }
});

test("a dead node is called dead, and a node of a stopped cluster is called stopped", () => {
  assert.match(view.nodesSvg(sample({ nodes: [node(1, { role: "dead" })] }), 700), /data-role="dead"/);
  const stopped = view.viewHtml(sample({ state: "stopped", leader: null }), 700, "live");
  assert.equal(count(stopped, /data-role="stopped"/g), 3);
  assert.match(stopped, /The cluster has stopped/);
});

test("paused, held, blocked, lagging and not yet acting nodes each say so", () => {
  const words = view.conditions(node(1, { role: "leader", paused: true, held: true, blocked: "In[3]:2", behind: 4 }));
  assert.deepEqual(words, ["paused", "held", "blocked", "not acting", "4 behind"]);
  assert.deepEqual(view.conditions(node(1, { role: "dead", held: true })), []);
  assert.deepEqual(view.conditions(node(1, { links: ["cut from 2", "slow to 3"], paused: true })), ["cut from 2", "slow to 3", "paused"]);
});

test("a stale picture says that the kernel is gone", () => {
  const html = view.viewHtml(sample(), 700, "stale");
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

test("holding, releasing, and the end of a run are said in words", () => {
  const held = sample({ nodes: [node(1), node(2, { role: "leader", acting: true }), node(3, { held: true })] });
  assert.deepEqual(view.changes(sample(), held), ["Node 3 is held."]);
  assert.deepEqual(view.changes(held, sample()), ["Node 3 was released."]);
  const alone = sample({ nodes: sample().nodes.map((one) => (one.node === 3 ? { ...one, links: ["isolated"] } : one)) });
  assert.deepEqual(view.changes(sample(), alone), ["Node 3 is isolated."]);
  assert.deepEqual(view.changes(alone, sample()), ["Node 3 is well connected again."]);
  assert.equal((view.nodesSvg(alone, 900).match(/rv-off/g) ?? []).length, 1, "the line to it is dashed");
  const done = sample({ runs: [{ ...sample().runs[0], status: "completed" }] });
  assert.deepEqual(view.changes(sample(), done), ["Run order-1 completed."]);
});

test("runs that are not drawn are counted", () => {
  assert.match(view.runsHtml(sample({ omitted: { running: 0, completed: 28, failed: 2 } }), 700), /28 completed, 2 failed/);
});

test("long names keep both of their ends", () => {
  assert.equal(view.shorten("abcdefghij", 10), "abcdefghij");
  assert.equal(view.shorten("abcdefghijklmnopqrstuvwxyz", 10), "abcdef…xyz");
});

test("nothing is asked of another host", () => {
  assert.doesNotMatch(source.replaceAll("http://www.w3.org/", ""), /https?:|\/\/[a-z]+\./);
});
