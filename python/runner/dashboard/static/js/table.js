// A table of any length: only the rows that can be seen exist. Roles instead of <table>, since rows are placed by hand.
import { h } from "./dom.js";
import { t } from "./i18n.js";

const SPARE = 6;

export class VirtualTable {
  /** `columns`: {key, label, sort?, cell(row, element)}; `idOf(row)`; `revisionOf(row)`, as text; `onsort(key)`. */
  constructor({ label, columns, idOf, revisionOf, onsort }) {
    this.columns = columns;
    this.idOf = idOf;
    this.revisionOf = revisionOf;
    this.rows = [];
    this.shown = new Map();
    this.heads = columns.map((column) => h("div", { role: "columnheader", class: `cell ${column.key}` },
      column.sort ? h("button", { type: "button", onclick: () => onsort(column.key) }, column.label, h("span", { class: "arrow", "aria-hidden": "true" })) : column.label));
    this.space = h("div", { class: "space", role: "rowgroup" });
    this.scroller = h("div", { class: "scroller", tabIndex: 0, role: "presentation", onscroll: () => this.#later() }, this.space);
    this.empty = h("p", { class: "empty", hidden: true });
    this.table = h("div", { role: "table", "aria-label": label, class: "table", "aria-colcount": columns.length },
      h("div", { role: "rowgroup" }, h("div", { role: "row", class: "head", "aria-rowindex": 1 }, this.heads)), this.scroller, this.empty);
    this.element = this.table;
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.scroller);
  }

  end() { this.watch.disconnect(); }

  sortedBy(key, isUp) {
    this.heads.forEach((head, i) => {
      if (this.columns[i].sort) head.setAttribute("aria-sort", this.columns[i].key !== key ? "none" : isUp ? "ascending" : "descending");
    });
  }

  show(rows, empty = t("sessions.none")) {
    this.rows = rows;
    this.empty.hidden = rows.length > 0;
    this.empty.textContent = empty;
    this.table.setAttribute("aria-rowcount", String(rows.length + 1));
    this.draw();
  }

  /** The rows on the screen. */
  visible() {
    const height = this.#height();
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / height));
    return this.rows.slice(first, first + Math.ceil(this.scroller.clientHeight / height) + 1);
  }

  #height() { return parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row")) || 38; }

  #later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const height = this.#height(), seen = this.scroller.clientHeight;
    this.space.style.height = `${this.rows.length * height}px`;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / height) - SPARE);
    const last = Math.min(this.rows.length, Math.ceil((this.scroller.scrollTop + seen) / height) + SPARE);
    const focused = this.space.contains(document.activeElement) ? document.activeElement : null;
    const now = Date.now(), next = new Map();
    const ids = this.rows.slice(first, last).map(this.idOf), staying = new Set(ids);
    const free = [...this.shown].filter(([id, it]) => !staying.has(id) && !it.element.contains(focused)).map(([, it]) => it);
    for (let i = first; i < last; i += 1) {
      const row = this.rows[i], id = ids[i - first];
      const it = this.shown.get(id) ?? free.pop() ?? this.#make();  // an element that is filled anew costs less than one that is made
      next.set(id, it);
      it.element.style.transform = `translateY(${i * height}px)`;
      it.element.setAttribute("aria-rowindex", String(i + 2));
      it.element.dataset.revision = this.revisionOf(row);
      this.columns.forEach((column, k) => column.cell(row, it.cells[k], now));
    }
    const used = new Set([...next.values()].map((it) => it.element));
    for (const it of this.shown.values()) if (!used.has(it.element)) it.element.remove();
    this.shown = next;
    let place = this.space.firstElementChild;
    for (const { element } of next.values()) {
      if (element === place) place = place.nextElementSibling;
      else this.space.insertBefore(element, place);
    }
    if (focused && focused !== document.activeElement && this.space.contains(focused)) focused.focus({ preventScroll: true });
  }

  #make() {
    const cells = this.columns.map((column) => h("div", { role: "cell", class: `cell ${column.key}`, dataset: { label: column.label } }));
    return { cells, element: h("div", { role: "row", class: "line" }, cells) };
  }
}
