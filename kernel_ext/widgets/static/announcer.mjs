// What is read out: by whom it is said, and what is said of what the reader does.

import { placeOf } from "./history.mjs";
import { summary } from "./words.mjs";

const MOST_SAID = 8; // announcements kept for screen readers

/** @param {HTMLElement} live where it is said @returns {(words: string) => void} what says it */
export function announcer(live) {
  // Each announcement is added below the ones before: replaced at once by the next, it might never be read out.
  return (words) => {
    const said = live.ownerDocument.createElement("p");
    said.textContent = words;
    live.append(said);
    while (live.childElementCount > MOST_SAID) live.firstElementChild.remove();
  };
}

/**
 * What is said when the reader has chosen something else. Pure.
 * @param {import("./ui.mjs").Ui} before @param {import("./ui.mjs").Ui} after @param {import("./history.mjs").Frame[]} frames
 */
export function sayings(before, after, frames) {
  const words = [];
  if (after.messages !== before.messages) {
    words.push(after.messages ? "Messages are watched, though nothing else happens." : "Messages are drawn when something happens.");
  }
  if (after.at !== before.at) {
    const { snapshot, said } = frames[placeOf(frames, after.at)];
    words.push(after.at === null ? `Back to now. ${summary(snapshot)}` : [...said, summary(snapshot)].join(" "));
  }
  return words;
}
