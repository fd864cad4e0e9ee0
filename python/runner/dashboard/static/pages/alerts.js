// What is wrong, what was, and who looks after it.
import { del, get, post } from "../js/api.js";
import { fill, h, throttled, withCode } from "../js/dom.js";
import { fleet } from "../js/fleet.js";
import { age, ago, dateTime, duration } from "../js/format.js";
import { alertWords, t } from "../js/i18n.js";
import { live } from "../js/live.js";
import { mayOperate } from "../js/me.js";
import { ask, failed, notice } from "../js/notice.js";
import { severity } from "../js/states.js";
import { trouble } from "../js/trouble.js";

const PAGE = 50;
const MINUTES = [15, 60, 240, 1440];

async function act(run, done) {
  try { await run(); notice(t(done)); } catch (error) { failed(error); }
  trouble.load();
}

async function silence(alert) {
  const minutes = h("select", { name: "minutes" }, MINUTES.map((n) => h("option", { value: String(n), selected: n === 60 }, duration(n * 60_000))));
  const note = h("input", { name: "note", maxLength: 500 });
  const answer = await ask({
    title: t("alerts.silence.title", { alert: alert.alert }), text: alert.about ? t("alerts.silence.about", { about: alert.about }) : t("alerts.silence.all"), confirm: t("alerts.silence"),
    fields: [h("label", {}, t("alerts.silence.for"), minutes), h("label", {}, t("alerts.note"), note)],
  });
  if (answer !== null) await act(() => post("/api/alerts/silences", { alert: alert.alert, about: alert.about ?? null, minutes: Number(answer.minutes), note: answer.note }), "alerts.silence.done");
}

const button = (key, run, kind = "quiet small") => h("button", { type: "button", class: kind, disabled: !mayOperate(), title: mayOperate() ? "" : t("readOnly"), onclick: run }, t(key));

export function alertCard(alert, { short = false } = {}) {
  const id = encodeURIComponent(alert.id), words = alertWords(alert);
  const marks = [
    alert.acknowledgedAt ? t("alerts.acked", { by: alert.acknowledgedBy ?? "", time: ago(alert.acknowledgedAt) }) : null,
    alert.silencedUntil ? t("alerts.silenced", { time: dateTime(alert.silencedUntil) }) : null,
    alert.suppressedBy ? t("alerts.suppressed", { by: alert.suppressedBy }) : null,
  ].filter(Boolean);
  return h("article", { class: "alert", dataset: { level: alert.severity, muted: marks.length ? "yes" : "no", id: alert.id } },
    h("div", { class: "row between" },
      h("h3", {}, severity(alert.severity), " ", h("code", {}, alert.alert), alert.about ? [" ", fleet.rows.has(alert.about) ? h("a", { href: `#/session/${encodeURIComponent(alert.about)}` }, alert.about) : h("span", { class: "about" }, alert.about)] : null),
      h("time", { class: "muted", title: dateTime(alert.since) }, age(alert.since))),
    h("p", {}, words.text),
    words.detail ? h("p", { class: "muted", lang: "en" }, words.detail) : null,
    !short && words.remedy ? h("p", { class: "remedy" }, h("b", {}, `${t("alerts.remedy")} `), withCode(words.remedy)) : null,
    !short && marks.length ? h("p", { class: "muted" }, marks.join(" · ")) : null,
    short ? null : h("div", { class: "row wrap" },
      alert.acknowledgedAt ? null : button("alerts.ack", () => act(() => post(`/api/alerts/${id}/ack`, {}), "alerts.ack.done"), "primary small"),
      button("alerts.silence", () => silence(alert)),
      button("alerts.resolve", () => act(() => post(`/api/alerts/${id}/resolve`), "alerts.resolve.done"))));
}

export function alerts(main, ends) {
  const active = h("div", { class: "stack figure" }), silences = h("div", {}), past = h("tbody"), more = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => loadPast(true) }, t("alerts.more"));
  const none = h("p", { class: "muted", hidden: true }, t("alerts.past.none"));
  let next = null;
  fill(main, h("h1", {}, t("nav.alerts")),
    h("section", { "aria-labelledby": "active-title" }, h("h2", { id: "active-title" }, t("alerts.active")), active), silences,
    h("section", { class: "card", "aria-labelledby": "past-title" }, h("h2", { id: "past-title" }, t("alerts.past")),
      h("div", { class: "scroll-x" }, h("table", { class: "plain past" },
        h("thead", {}, h("tr", {}, ["alerts.when", "alerts.lasted", "alerts.severity", "alerts.alert", "alerts.text"].map((key) => h("th", { scope: "col" }, t(key))))), past)), none, more));

  function show() {
    if (!trouble.isKnown) { fill(active, h("p", { class: "muted" }, t("loading"))); return; }
    fill(active, trouble.alerts.length ? trouble.alerts.map((it) => alertCard(it)) : h("p", { class: "card fine" }, h("span", { class: "tick", "aria-hidden": "true" }, "✓"), t("overview.fine")));
    fill(silences, trouble.silences.length ? h("section", { class: "card", "aria-labelledby": "silences-title" }, h("h2", { id: "silences-title" }, t("alerts.silences")),
      h("ul", { class: "list" }, trouble.silences.map((it) => h("li", { class: "row between wrap" },
        h("span", {}, h("code", {}, it.alert), it.about ? ` ${it.about}` : "", ` · ${t("alerts.until", { time: dateTime(it.until) })}`, it.note ? ` · ${it.note}` : ""),
        button("alerts.unsilence", () => act(() => del(`/api/alerts/silences/${encodeURIComponent(it.id)}`), "alerts.unsilence.done")))))) : null);
  }

  async function loadPast(further) {
    try {
      const answer = await get(`/api/alerts/history?limit=${PAGE}${further && next ? `&before=${encodeURIComponent(next)}` : ""}`);
      const rows = answer.alerts.map((it) => h("tr", {},
        h("td", {}, h("time", {}, dateTime(it.firedAt ?? it.since))), h("td", {}, it.resolvedAt ? duration(it.resolvedAt - it.since) : t("session.still")),
        h("td", {}, severity(it.severity)), h("td", {}, h("code", {}, it.alert), it.about ? ` ${it.about}` : ""), h("td", { title: it.text }, alertWords(it).text)));
      if (further) past.append(...rows); else fill(past, rows);
      next = answer.next;
      more.hidden = next === null;
      none.hidden = past.children.length > 0;
    } catch { /* live says that it is stale */ }
  }

  const soon = throttled(1000, () => { void loadPast(false); });
  let isLinked = fleet.isComplete;
  ends.on(fleet, "change", () => { if (!isLinked && fleet.isComplete) { isLinked = true; show(); } });
  ends.on(trouble, "change", show);
  ends.on(live, "event", ({ detail }) => { if (detail.event === "alert.resolved") soon(); });
  ends.on(live, "open", soon);
  ends.every(5000, () => { if (!live.isStale && !main.contains(document.activeElement)) show(); });
  show();
  trouble.load();
  loadPast(false);
}
