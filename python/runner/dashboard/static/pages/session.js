// One session: what it is doing, why, what it went through, and what can be done about it.
import { ApiError, get, post, sessionPath } from "../js/api.js";
import { fill, h, say, throttled, withCode } from "../js/dom.js";
import { ago, clockTime, dateTime, duration, milliseconds, NOTHING, number } from "../js/format.js";
import { t, tOr } from "../js/i18n.js";
import { live } from "../js/live.js";
import { mayOperate } from "../js/me.js";
import { ask, failed, notice } from "../js/notice.js";
import { pill, stateName } from "../js/states.js";
import { linkCard, wantsPhone } from "./linking.js";

const FRESHEN_MS = 5000;
const TICK_MS = 500;

export function session(main, ends, _query, id) {
  const head = h("div", { class: "row between wrap" }), retry = h("div", {}), facts = h("dl", { class: "facts figure" });
  const six = h("dl", { class: "facts six figure" }), steps = h("ol", { class: "timeline" });
  const state = h("div", { class: "state-now figure", role: "status" });
  const actions = h("div", { class: "row wrap actions", role: "group", "aria-label": t("session.actions") });
  const buttons = makeButtons(), link = linkCard(id);
  let view = null, metrics = null, timeline = null, turn = 0;

  fill(main, h("nav", { class: "crumb", "aria-label": t("session.path") }, h("a", { href: "#/sessions" }, `‹ ${t("nav.sessions")}`)),
    head, link.element,
    h("div", { class: "two" },
      h("div", { class: "stack" },
        h("section", { class: "card", "aria-labelledby": "facts-title" }, h("h2", { id: "facts-title" }, t("session.facts")), facts),
        h("section", { class: "card", "aria-labelledby": "six-title" }, h("h2", { id: "six-title" }, t("session.metrics")), six)),
      h("section", { class: "card", "aria-labelledby": "timeline-title" }, h("h2", { id: "timeline-title" }, t("session.timeline")), steps)));
  fill(head, h("div", {}, h("h1", { class: "id" }, id), state, retry), actions);
  fill(actions, Object.values(buttons));

  function makeButtons() {
    const button = (key, run, kind = "quiet") => h("button", { type: "button", class: kind, disabled: !mayOperate(), title: mayOperate() ? "" : t("readOnly"), onclick: run }, t(`session.${key}`));
    return { reconnect: button("reconnect", reconnect, "primary"), breaker: button("breaker", resetBreaker), start: button("start", start), stop: button("stop", stop) };
  }

  async function act(run, done) {
    for (const button of Object.values(buttons)) button.disabled = true;
    try {
      const answer = await run();
      if (answer !== false) notice(t(done, answer ?? {}));  // false: the user thought better of it
    } catch (error) { failed(error); }
    await load();
  }

  async function reconnect() {
    await act(async () => {
      try { return await post(sessionPath(id, "/reconnect")); } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 409) throw error;
        const answer = await ask({
          title: t("session.risk"), text: t("session.risk.text"), danger: true, confirm: t("session.risk.confirm"),
          detail: h("dl", { class: "facts" }, h("dt", {}, t("session.reason")), h("dd", {}, h("code", {}, error.reason)), h("dt", {}, t("session.said")), h("dd", {}, error.message),
            error.remedy ? [h("dt", {}, t("alerts.remedy")), h("dd", {}, withCode(error.remedy))] : null),
        });
        if (answer === null) return false;
        return post(sessionPath(id, "/reconnect?override=true"));
      }
    }, "session.reconnect.done");
  }

  function resetBreaker() { return act(() => post(sessionPath(id, "/breaker/reset")), "session.breaker.done"); }
  function start() { return act(() => post(sessionPath(id, "/start")), "session.start.done"); }

  async function stop() {
    const answer = await ask({ title: t("session.stop.title", { id }), text: t("session.stop.text"), confirm: t("session.stop"), danger: true });
    if (answer !== null) await act(() => post(sessionPath(id, "/stop")), "session.stop.done");
  }

  async function load() {
    const mine = turn += 1;
    try {
      const loaded = await Promise.all([get(sessionPath(id)), get(sessionPath(id, "/metrics")), get(sessionPath(id, "/timeline"))]);
      live.heard();
      if (mine !== turn) return;
      if (view === null || loaded[0].revision >= view.revision) [view] = loaded;  // else an event has said more since
      [, metrics, timeline] = loaded;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) { fill(main, h("p", { class: "empty" }, t("session.unknown", { id })), h("a", { href: "#/sessions" }, t("nav.sessions"))); ends.all(); }
    }
    show();
  }

  function show() {
    if (!view) return;
    const operate = mayOperate();
    link.show(view);
    buttons.reconnect.disabled = !operate || wantsPhone(view);
    buttons.breaker.disabled = !operate || view.breaker.state === "closed";
    buttons.start.disabled = !operate || view.state !== "stopped";
    buttons.stop.disabled = !operate || view.state === "stopped";
    fill(state, pill(view.state), view.reason ? h("code", {}, view.code === null ? view.reason : `${view.reason} ${view.code}`) : null,
      h("span", { class: "muted" }, t(`state.${view.state}.meaning`)));
    showTimeline();
    tick();
  }

  function pairs(list, values) {
    const made = list.children.length !== values.length * 2;
    if (made) fill(list, values.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    else values.forEach(([, value], i) => say(list.children[i * 2 + 1], value));
  }

  function tick() {
    if (!view || live.isStale) return;
    const now = Date.now();
    const isWaiting = view.nextRetryAt !== null;
    retry.className = isWaiting ? "next-try figure" : "";
    if (isWaiting) {
      const left = view.nextRetryAt - now;
      const text = left > 0 ? t("session.retry", { time: duration(left + 999) }) : t("session.retry.now");
      if (retry.dataset.text !== text) { retry.dataset.text = text; fill(retry, h("strong", {}, text), h("span", { class: "muted" }, t("session.attempt", { n: view.attempt, at: clockTime(view.nextRetryAt) }))); }
    } else if (retry.dataset.text !== "") { retry.dataset.text = ""; fill(retry); }
    const breaker = [tOr(`breaker.${view.breaker.state}`, view.breaker.state), view.breaker.why,
      view.breaker.retryAt ? t("session.breaker.retry", { time: duration(view.breaker.retryAt - now) }) : null].filter(Boolean).join(" · ");
    pairs(facts, [
      [t("session.since"), `${dateTime(view.since)} (${duration(now - view.since)})`],
      [t("session.connection"), number(view.connection)],
      [t("session.attempts"), number(view.attempt)],
      [t("session.breakerState"), breaker],
      [t("session.data"), ago(view.lastDataReceivedAt, now)],
      [t("session.pong"), ago(view.lastPongAt, now)],
      [t("session.rtt"), milliseconds(view.pongRttMs)],
      [t("session.flaps"), t("session.flaps.value", { five: number(view.flap5m), hour: number(view.flap60m) })],
      [t("session.phase"), view.phase ?? NOTHING],
      [t("session.proxy"), view.proxy ?? NOTHING],
      ...(view.detail ? [[t("session.detail"), view.detail]] : []),
    ]);
    if (!metrics) return;
    pairs(six, [
      [t("six.connectionUptime"), metrics.revision === view.revision ? duration(metrics.connectionUptime * 1000) : NOTHING],
      [t("six.messagesProcessed"), number(metrics.messagesProcessed)],
      [t("six.messagesPerMinute"), number(metrics.messagesPerMinute)],
      [t("six.averageResponseTime"), milliseconds(metrics.averageResponseTime) + (metrics.responseTimeP95 != null ? ` · p95 ${milliseconds(metrics.responseTimeP95)}` : "")],
      [t("six.errorCount"), number(metrics.errorCount)],
      [t("six.reconnectCount"), number(metrics.reconnectCount)],
    ]);
  }

  function showTimeline() {
    const states = timeline?.states ?? [];
    if (states.length && states.at(-1).at < view.since) states.push({ ...view, at: view.since });  // told by an event
    if (!states.length) { fill(steps, h("li", { class: "muted" }, t("session.timeline.none"))); return; }
    const last = states.length - 1;
    fill(steps, states.map((it, i) => h("li", { dataset: { state: it.state } },
      h("time", { dateTime: new Date(it.at).toISOString() }, dateTime(it.at)),
      h("div", {}, h("b", {}, stateName(it.state)), it.reason ? h("code", {}, it.code === null ? it.reason : `${it.reason} ${it.code}`) : null,
        h("span", { class: "muted" }, [t("session.step", { n: it.connection }), i < last ? t("session.lasted", { time: duration(states[i + 1].at - it.at) }) : t("session.still")].join(" · "))))).reverse());
  }

  const soon = throttled(300, () => { void load(); });
  ends.on(live, "event", ({ detail }) => {
    if (detail.session !== id) return;
    if (detail.event === "session.qr") void link.load();
    if (detail.payload?.state !== undefined) { view = detail.payload; show(); }
    soon();
  });
  ends.on(live, "open", () => { if (view) view.revision = -1; soon(); });  // perhaps a new process, which counts anew
  ends.every(FRESHEN_MS, () => { if (!live.isStale && !document.hidden) void load(); });
  ends.every(TICK_MS, () => { tick(); if (!live.isStale) link.tick(); });
  load();
}
