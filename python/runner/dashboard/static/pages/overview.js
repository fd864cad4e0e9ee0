// The whole fleet at a glance.
import { get } from "../js/api.js";
import { Chart } from "../js/charts.js";
import { fill, h, say } from "../js/dom.js";
import { fleet, STATES } from "../js/fleet.js";
import { bytes, milliseconds, NOTHING, number, percent } from "../js/format.js";
import { t } from "../js/i18n.js";
import { keep, kept } from "../js/kept.js";
import { live } from "../js/live.js";
import { numbers } from "../js/numbers.js";
import { stateName } from "../js/states.js";
import { trouble } from "../js/trouble.js";
import { alertCard } from "./alerts.js";

const SPANS = { "15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400 };
const POINTS = 400;
const REFRESH_MS = 300_000;
const SHOWN = 5;
const NOT_ONLINE = ["connecting", "pairing", "backoff", "degraded", "suspended", "parked", "logged_out"];
const BEST_FIRST = ["online", ...NOT_ONLINE, "stopped"];

export function overview(main, ends) {
  const bar = h("div", { class: "bar figure", role: "img" });
  const legend = h("ul", { class: "states figure" });
  const big = h("p", { class: "big figure" }), under = h("p", { class: "muted figure" });
  const card = h("section", { class: "card fleet", "aria-labelledby": "fleet-title" });
  const wrong = h("div", { class: "stack figure" });
  let span = SPANS[kept("span")] ? kept("span") : "1h";
  const charts = makeCharts();
  const pick = h("div", { class: "chips", role: "group", "aria-label": t("overview.span") }, Object.keys(SPANS).map((name) =>
    h("button", { type: "button", class: "chip", "aria-pressed": String(name === span), onclick: (event) => {
      span = name;
      keep("span", name);
      for (const chip of pick.children) chip.setAttribute("aria-pressed", String(chip === event.currentTarget));
      loadHistory();
    } }, name)));

  fill(main,
    h("h1", { class: "hidden" }, t("nav.overview")),
    h("div", { class: "top" },
      fill(card, h("h2", { id: "fleet-title" }, t("overview.fleet")), big, under, bar, legend),
      h("section", { class: "card", "aria-labelledby": "wrong-title" },
        h("h2", { id: "wrong-title" }, t("overview.wrong")), wrong)),
    h("section", { "aria-labelledby": "charts-title" },
      h("div", { class: "row between" }, h("h2", { id: "charts-title" }, t("overview.charts")), pick),
      h("div", { class: "charts" }, charts.map((it) => it.chart.element))));

  function showFleet() {
    const counts = fleet.isComplete ? fleet.counts() : countsOf(numbers.now);
    if (counts === null) { say(big, NOTHING); say(under, t("loading")); return; }
    card.dataset.revision = String((fleet.isComplete ? fleet.revision : numbers.now.revision) ?? "");
    const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
    const good = counts.online ?? 0;
    fill(big, h("strong", {}, number(good)), ` ${t("overview.of", { all: number(all) })}`);
    say(under, all === 0 ? t("overview.none") : t("overview.share", { share: percent(all ? good / all : null, good === all ? 0 : 2) }));
    const there = BEST_FIRST.filter((state) => counts[state]);
    bar.setAttribute("aria-label", there.map((state) => `${stateName(state)} ${counts[state]}`).join(", "));
    fill(bar, there.map((state) => {
      const part = h("span", { dataset: { state }, title: `${stateName(state)} ${counts[state]}` });
      part.style.flexGrow = String(counts[state]);
      return part;
    }));
    fill(legend, there.map((state) => h("li", {}, h("a", { href: `#/sessions?state=${state}` },
      h("span", { class: "dot", dataset: { state }, "aria-hidden": "true" }), stateName(state), h("b", {}, number(counts[state]))))));
  }

  function showWrong() {
    if (!trouble.isKnown) { fill(wrong, h("p", { class: "muted" }, t("loading"))); return; }
    const cards = trouble.open.map((it) => alertCard(it, { short: true }));
    const rest = trouble.alerts.length - trouble.open.length;
    fill(wrong,
      cards.length === 0 ? h("p", { class: "fine" }, h("span", { class: "tick", "aria-hidden": "true" }, "✓"), t("overview.fine")) : cards.slice(0, SHOWN),
      cards.length > SHOWN || rest > 0 ? h("a", { href: "#/alerts" }, t("overview.more", { n: number(Math.max(0, cards.length - SHOWN) + rest) })) : null);
  }

  function showNumbers(isNew) {
    const now = numbers.now;
    if (!now) return;
    for (const { chart, texts } of charts) {
      chart.show(...texts(now));
      if (isNew) chart.add(now.at, now);
    }
  }

  let turn = 0;
  async function loadHistory() {
    const mine = turn += 1;
    const spanS = SPANS[span], names = [...new Set(charts.flatMap((it) => it.chart.lines.map((line) => line.metric)))];
    let history = null;
    try {
      history = await get(`/api/metrics/history?metric=${names.join(",")}&since=${Date.now() - spanS * 1000}&points=${POINTS}`);
    } catch { /* live says that it is stale */ }
    if (mine !== turn) return;
    for (const { chart } of charts) chart.load(history?.series ?? null, spanS);
    showNumbers(true);
  }

  let isLinked = fleet.isComplete;  // a session in an alert becomes a link once it is known
  ends.on(fleet, "change", () => { showFleet(); if (!isLinked && fleet.isComplete) { isLinked = true; showWrong(); } });
  ends.on(numbers, "change", () => { showNumbers(true); if (!fleet.isComplete) showFleet(); });
  ends.on(trouble, "change", showWrong);
  ends.on(live, "open", loadHistory);
  ends.on(document, "runner:theme", () => { for (const { chart } of charts) chart.draw(true); });
  ends.every(REFRESH_MS, () => { if (!live.isStale) loadHistory(); });
  ends.add(() => { for (const { chart } of charts) chart.end(); });
  showFleet();
  showWrong();
  showNumbers(false);
  loadHistory();
}

function countsOf(now) {
  return now && now["sessions.online"] !== undefined ? Object.fromEntries(STATES.map((state) => [state, now[`sessions.${state}`] ?? 0])) : null;
}

function makeCharts() {
  const whole = (value) => number(value, value > 0 && value < 10 && value % 1 ? 1 : 0);
  const line = (metric, key, shade, fill = false) => ({ metric, label: t(key), colour: shade, fill });
  const chart = (key, lines, format, texts, more = {}) => ({ chart: new Chart({ title: t(key), lines, format, ...more }), texts });
  return [
    chart("chart.sessions", NOT_ONLINE.map((state) =>
      ({ metric: `sessions.${state}`, label: stateName(state), colour: `--state-${state}` })), whole,
    (now) => [now["sessions.online"] === undefined ? NOTHING : number(NOT_ONLINE.reduce((sum, state) => sum + now[`sessions.${state}`], 0)), ""], { stacked: true }),
    chart("chart.response", [line("averageResponseTime", "chart.average", "--line-a", true), line("responseTimeP95", "chart.p95", "--line-b")], milliseconds,
      (now) => [milliseconds(now.averageResponseTime), now.responseTimeP95 === undefined ? "" : `p95 ${milliseconds(now.responseTimeP95)}`]),
    chart("chart.reconnects", [line("reconnectsPerMinute", "chart.reconnects.line", "--line-a", true), line("closesPerMinute", "chart.closes", "--line-c")], whole,
      (now) => [perMinute(now.reconnectsPerMinute), now.closesPerMinute === undefined ? "" : t("chart.closes.now", { n: whole(now.closesPerMinute) })]),
    chart("chart.errors", [line("errorsPerMinute", "chart.errors.line", "--line-c", true)], whole,
      (now) => [perMinute(now.errorsPerMinute), t("chart.rate", { rate: percent(now.errorRate) })]),
    chart("chart.cpu", [line("cpuUsage", "chart.cpu", "--line-a", true)], (value, isAxis) => percent(value, isAxis ? 0 : 1),
      (now) => [percent(now.cpuUsage), now.cpuScope ?? ""], { most: 0.1 }),
    chart("chart.memory", [line("usedMemory", "chart.memory.used", "--line-a", true), line("processRss", "chart.memory.process", "--line-b")], bytes,
      (now) => [bytes(now.usedMemory), `${t("chart.memory.of", { all: bytes(now.totalMemory) })}${now.memoryScope ? ` (${now.memoryScope})` : ""}`], { binary: true }),
    chart("chart.messages", [line("messagesPerMinute", "chart.messages", "--line-a", true)], whole,
      (now) => [perMinute(now.messagesPerMinute), ""]),
  ];
}

const perMinute = (value) => value === undefined || value === null ? NOTHING : t("perMinute", { n: number(value, value > 0 && value < 10 ? 1 : 0) });
