// The pure part of buttons and bars. Run: node --test tests/js/
import assert from "node:assert/strict";
import { test } from "node:test";

const control = await import(new URL("../../kernel_ext/widgets/static/controls/control.mjs", import.meta.url));

test("a button can be pressed until one was, or until the kernel says so", () => {
  const state = { buttons: ["Yes", "No"], enabled: true };
  assert.deepEqual(control.pressable(state, false), [true, true]);
  assert.deepEqual(control.pressable(state, true), [false, false]);
  assert.deepEqual(control.pressable({ ...state, enabled: false }, false), [false, false]);
});

test("a bar says how far it is, and what became of the run", () => {
  assert.equal(control.barWords({ words: "3 of 10", note: "" }), "3 of 10");
  assert.equal(control.barWords({ words: "3 of 10", note: "paused" }), "3 of 10 · paused");
});
