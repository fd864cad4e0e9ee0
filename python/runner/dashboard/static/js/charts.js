// One live chart: history from the API, then a point with every sample. Drawn by uPlot.
import uPlot from "../vendor/uPlot.esm.js";
import { colour, h, say } from "./dom.js";
import { locale, t } from "./i18n.js";

const HEIGHT = 150;

/** Time on the x axis, 24 hours a day. */
function times(spanS) {
  const options = spanS > 12 * 3600 ? { hour: "2-digit", minute: "2-digit" }
    : spanS > 900 ? { hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  const format = new Intl.DateTimeFormat(locale(), options);
  return (_plot, splits) => splits.map((s) => format.format(s * 1000));
}

export class Chart {
  /** `lines`: {metric, label, colour, fill?}; `stacked`: areas on each other; `format`: value to text. */
  constructor({ title, lines, format, stacked = false, most = null, binary = false }) {
    this.lines = lines;
    this.format = format;
    this.stacked = stacked;
    this.most = most;
    this.binary = binary;
    this.x = [];
    this.columns = lines.map(() => []);
    this.spanS = 3600;
    this.stepS = 10;
    this.value = h("span", { class: "figure value" });
    this.more = h("span", { class: "figure more" });
    this.box = h("div", { class: "plot figure", role: "img" });
    this.hover = h("div", { class: "hover", hidden: true });
    this.element = h("figure", { class: "card chart" },
      h("figcaption", {}, h("h3", {}, title), h("div", { class: "now" }, this.value, this.more)),
      h("div", { class: "plot-wrap" }, this.box, this.hover),
      lines.length > 1 ? h("ul", { class: "legend", "aria-hidden": "true" }, lines.map((line) =>
        h("li", {}, this.#swatch(line), line.label))) : null);
    this.title = title;
    this.plot = null;
    this.watch = new ResizeObserver(() => this.#fit());
    this.watch.observe(this.box);
  }

  #swatch(line) {
    const swatch = h("span", { class: "swatch" });
    swatch.style.background = `var(${line.colour})`;
    return swatch;
  }

  end() { this.watch.disconnect(); this.plot?.destroy(); this.plot = null; }

  /** The texts beside the title. */
  show(value, more = "") { say(this.value, value); say(this.more, more); }

  /** All points of a span: `series` as `/api/metrics/history` gives them, or null when there is no history. */
  load(series, spanS) {
    this.spanS = spanS;
    const first = series && this.lines.map((line) => series[line.metric]).find((it) => it?.at?.length);
    this.stepS = first?.stepS ?? 10;
    this.x = (first?.at ?? []).map((ms) => ms / 1000);
    this.columns = this.lines.map((line) => {
      const it = series?.[line.metric];
      if (!it) return this.x.map(() => null);
      if (it.at.length === this.x.length) return it.values.slice();
      const known = new Map(it.at.map((at, i) => [at / 1000, it.values[i]]));
      return this.x.map((at) => known.get(at) ?? null);
    });
    this.draw(true);
  }

  /** One more point. */
  add(at, numbers) {
    const s = at / 1000, last = this.x.at(-1);
    const values = this.lines.map((line) => numbers[line.metric] ?? null);
    if (last !== undefined && s <= last) return;
    this.x.push(s);
    this.columns.forEach((column, i) => column.push(values[i]));
    const from = s - this.spanS;
    let old = 0;
    while (old < this.x.length && this.x[old] < from) old += 1;
    if (old) { this.x.splice(0, old); for (const column of this.columns) column.splice(0, old); }
    this.draw();
  }

  #data() {
    if (!this.stacked) return [this.x, ...this.columns];
    const sums = this.x.map(() => 0);
    const layers = this.columns.map((column) => column.map((value, i) => (sums[i] += value ?? 0)));
    return [this.x, ...layers.reverse()];  // the highest first, the lower ones over it
  }

  draw(anew = false) {
    const width = this.box.clientWidth;
    if (!width) return;
    this.box.setAttribute("aria-label", t("chart.label", { title: this.title, value: this.value.textContent }));
    if (anew || !this.plot) {
      this.plot?.destroy();
      this.plot = new uPlot(this.#options(width), this.#data(), this.box);
    } else this.plot.setData(this.#data());
  }

  #fit() {
    const width = this.box.clientWidth;
    if (!width) return;
    if (!this.plot) this.draw();
    else if (width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  #options(width) {
    const grid = { stroke: colour("--grid"), width: 1 }, ink = colour("--muted");
    const lines = this.stacked ? [...this.lines].reverse() : this.lines;
    const now = () => Date.now() / 1000;
    return {
      width, height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: !this.stacked } },
      scales: {
        x: { time: true, range: () => [now() - this.spanS, now()] },
        y: { range: (_plot, _least, most) => [0, Math.max(this.most ?? 0, (most ?? 0) * 1.08, this.most === null ? 1 : 0)] },
      },
      axes: [
        { stroke: ink, grid: { show: false }, ticks: { show: false }, font: "11px system-ui", values: times(this.spanS), space: 70, size: 26 },
        { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui", size: 62, space: 34,
          ...(this.binary ? { incrs: Array.from({ length: 41 }, (_, i) => 2 ** i) } : {}),
          values: (_plot, splits) => splits.map((value) => this.format(value, true)) },
      ],
      series: [{}, ...lines.map((line) => {
        const stroke = colour(line.colour);
        return {
          label: line.label, stroke, width: this.stacked ? 0 : 1.75, spanGaps: false,
          fill: this.stacked ? stroke : line.fill ? stroke.replace(/^rgb\((.*)\)$/, "rgba($1, 0.13)") : undefined,
          points: { show: (plot, i) => !this.stacked && plot.data[i].filter((value) => value !== null).length < 3 },
        };
      })],
      hooks: { setCursor: [(plot) => this.#point(plot)] },
    };
  }

  #point(plot) {
    const i = plot.cursor.idx;
    this.hover.hidden = i === null || i === undefined || plot.cursor.left < 0;
    if (this.hover.hidden) return;
    const time = new Date(this.x[i] * 1000).toLocaleTimeString(locale());
    const parts = this.lines.map((line, k) => [line, this.columns[k][i]]).filter(([, value]) => !this.stacked || value);
    this.hover.replaceChildren(h("b", {}, time), ...parts.map(([line, value]) =>
      h("div", {}, this.#swatch(line), `${line.label} `, h("b", {}, value === null ? t("chart.none") : this.format(value)))));
    this.hover.classList.toggle("left", plot.cursor.left > plot.over.clientWidth / 2);
  }
}
