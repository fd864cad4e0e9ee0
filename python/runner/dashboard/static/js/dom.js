// Elements without markup in strings: what a peer or an operator wrote is only ever text.

/** An element. `props`: class, on* listeners, dataset, any property (value, disabled …), else an attribute. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.startsWith("aria") && name !== "role" && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace what is in `parent`. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return parent;
}

/** A text in which commands stand between backticks. */
export const withCode = (text) => text.split("`").map((part, place) => place % 2 ? h("code", {}, part) : part);

/** Set a text only if it differs: screen readers and the layout notice every write. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A colour of the style sheet as the canvas needs it. */
export function colour(name) {
  const probe = h("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}

/** Things to undo when a page is left. */
export class Ends {
  #ends = [];
  add(end) { this.#ends.push(end); return end; }
  on(target, name, listener) { target.addEventListener(name, listener); this.add(() => target.removeEventListener(name, listener)); }
  every(ms, run) { const timer = setInterval(run, ms); this.add(() => clearInterval(timer)); }
  all() { for (const end of this.#ends.splice(0)) end(); }
}

/** `run`, at most once in `ms`, the last call included. */
export function throttled(ms, run) {
  let timer = null, again = false;
  const fire = () => {
    timer = setTimeout(() => { timer = null; if (again) { again = false; fire(); } }, ms);
    run();
  };
  return () => { if (timer === null) fire(); else again = true; };
}
