// Changes a picture into the next one. Needs a page.

/** Makes `old` like `fresh`, keeping the elements that stay: transitions run, and focus, a selection or a tooltip is not lost. */
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.nodeName === "INPUT") {
    // What was typed or dragged hides the attribute.
    if (old.type === "checkbox" || old.type === "radio") old.checked = fresh.hasAttribute("checked");
    else if (old.value !== fresh.getAttribute("value")) old.value = fresh.getAttribute("value");
  }
  if (old.dataset?.kept) return; // what is in it is somebody else's
  const [olds, freshes] = [[...old.childNodes], [...fresh.childNodes]];
  freshes.forEach((child, index) => (index < olds.length ? morph(olds[index], child) : old.append(child)));
  olds.slice(freshes.length).forEach((child) => child.remove());
}
