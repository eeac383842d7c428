// A small thing in the page that follows one run: buttons that send it a signal, or a bar of how far it is. One script, without
// imports; what the state holds is said in kernel_ext/widgets/controls.py. All text is set as text: nothing that people named becomes markup.

const PATIENCE_MS = 600; // after which a kernel that has not answered a click is called busy

/** @param {object} state @returns {string} how far a bar is, for the eye: "3 of 10 (30 %)", or what it says in its place */
export function barWords(state) {
  return [state.words, state.note].filter(Boolean).join(" · ");
}

/** @param {object} state @param {boolean} asked @returns {boolean[]} which buttons can be pressed */
export function pressable(state, asked) {
  return state.buttons.map(() => Boolean(state.enabled) && !asked);
}

function made(tag, className, text = "") {
  const one = document.createElement(tag);
  one.className = className;
  one.textContent = text;
  return one;
}

/** Draws one control into one element and follows it; returns what ends that. */
function render({ model, el }) {
  const root = made("div", "raftoral-control");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves the keys to it
  const title = made("span", "rc-title");
  const words = made("span", "rc-words");
  words.setAttribute("aria-live", "polite");
  let asked = false;
  let timer = 0;

  const bar = made("progress", "rc-bar");
  const buttons = [];
  const state = () => model.get("state");
  if (state().kind === "bar") {
    root.append(title, bar, words);
  } else {
    root.append(title);
    state().buttons.forEach((label, index) => {
      const button = made("button", "rc-button", label);
      button.type = "button";
      button.addEventListener("click", () => {
        asked = true;
        clearTimeout(timer);
        timer = setTimeout(() => { words.textContent = "the kernel is busy: it is sent when the cell has ended"; }, PATIENCE_MS);
        model.send({ send: index });
        paint();
      });
      buttons.push(button);
      root.append(button);
    });
    root.append(words);
  }
  el.append(root);

  const paint = () => {
    const now = state();
    title.textContent = now.title;
    root.dataset.tone = now.tone;
    if (now.kind === "bar") {
      if (now.fraction === null) bar.removeAttribute("value");
      else bar.value = now.fraction;
      bar.hidden = now.fraction === null && now.ended;
      bar.setAttribute("aria-label", now.title);
      root.dataset.ended = now.ended;
      words.textContent = barWords(now);
      return;
    }
    pressable(now, asked).forEach((can, index) => {
      buttons[index].disabled = !can;
      buttons[index].toggleAttribute("data-chosen", now.chosen === index);
    });
    root.dataset.enabled = now.enabled && !asked;
    if (!asked) words.textContent = now.words;
  };
  const changed = () => {
    asked = false;
    clearTimeout(timer);
    paint();
  };
  // Keys pressed on a button are not the notebook's.
  const keep = (event) => event.stopPropagation();
  root.addEventListener("keydown", keep);
  model.on("change:state", changed);
  paint();
  return () => {
    clearTimeout(timer);
    model.off("change:state", changed);
    root.remove();
  };
}

export default { render };
