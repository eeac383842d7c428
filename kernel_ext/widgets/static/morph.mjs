// Changes a picture into the next one. Needs a page, but for `parts`.

/**
 * Leaves out of a picture what is on the page already: `part(name, html)` is `html`, or a mark in its place if the part of that
 * name was the same in the picture before. A name stands for one place of the page; the part is one element.
 * @param {Map<string, string>} before what `drawn` was of the picture before
 */
export function parts(before) {
  /** @type {Map<string, string>} */
  const drawn = new Map();
  /** @param {string} name @param {string} html */
  const part = (name, html) => {
    drawn.set(name, html);
    if (before.get(name) !== html) return html;
    const tag = html.slice(1, html.search(/[\s>]/));
    return `<${tag} data-same="true"></${tag}>`;
  };
  return { part, drawn };
}

/** Makes `old` like `fresh`, keeping the elements that stay: transitions run, and focus, a selection or a tooltip is not lost. */
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (fresh.dataset?.same) {
    // It is as it was last drawn, but for what was typed into it and taken back since, before another picture was drawn.
    old.querySelectorAll("input").forEach((field) => fill(field, field));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.nodeName === "INPUT") fill(old, fresh);
  if (old.dataset?.kept) return; // what is in it is somebody else's
  if (old.dataset?.keyed) {
    shift(old, fresh);
    return;
  }
  const [olds, freshes] = [[...old.childNodes], [...fresh.childNodes]];
  freshes.forEach((child, index) => (index < olds.length ? morph(olds[index], child) : old.append(child)));
  olds.slice(freshes.length).forEach((child) => child.remove());
}

/** Has a field show what is drawn: what was typed or dragged hides the attribute. */
function fill(field, drawn) {
  if (field.type === "checkbox" || field.type === "radio") field.checked = drawn.hasAttribute("checked");
  else if (field.value !== drawn.getAttribute("value")) field.value = drawn.getAttribute("value");
}

/** Children that have a `data-entry` are followed by it: when a log grows its cells move on, and hardly any changes. */
function shift(old, fresh) {
  const stay = new Set([...fresh.children].map((child) => child.dataset.entry));
  for (const child of [...old.children]) if (!stay.has(child.dataset.entry)) child.remove();
  const known = new Map([...old.children].map((child) => [child.dataset.entry, child]));
  let at = old.firstElementChild;
  for (const child of [...fresh.children]) {
    const { entry } = child.dataset;
    const same = entry === undefined ? (at && at.dataset.entry === undefined ? at : undefined) : known.get(entry);
    if (same && same === at) at = at.nextElementSibling;
    else old.insertBefore(same ?? child, at);
    if (same) morph(same, child);
  }
  while (at) {
    const next = at.nextElementSibling;
    at.remove();
    at = next;
  }
}
