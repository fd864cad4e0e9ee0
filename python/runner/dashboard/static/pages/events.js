// What happens, as it happens: states, messages, alerts.
import { fill, h, throttled } from "../js/dom.js";
import { clockTime, dateTime } from "../js/format.js";
import { t } from "../js/i18n.js";
import { mayOperate } from "../js/me.js";
import { monitor } from "../js/monitor.js";

const SHOW_MS = 250;
const FAMILIES = ["", "message", "session.", "alert.", "incident."];
const WORDS = ["state", "reason", "alert", "kind", "severity", "detail"];

function said({ event, payload }) {
  if (event === "message") return `${payload.from} · ${payload.kind}: ${payload.body ?? ""}`;
  if (event === "message.undecryptable") return `${payload.from} · ${payload.reason}`;
  if (event === "stream.lost") return t("events.lost", { n: payload.events });
  return WORDS.map((key) => payload[key]).filter(Boolean).join(" · ");
}

const line = (event) => h("details", { class: "event", dataset: { event: event.event } },
  h("summary", {},
    h("time", { class: "muted", title: dateTime(event.timestamp) }, clockTime(event.timestamp)),
    h("code", {}, event.event),
    event.session ? h("a", { href: `#/session/${encodeURIComponent(event.session)}` }, event.session) : null,
    h("span", { class: "said" }, said(event))),
  h("pre", { tabIndex: 0 }, JSON.stringify(event, null, 2)));

export function events(main, ends) {
  let isPaused = false, shown = [];
  const list = h("div", { class: "events", role: "log", "aria-label": t("nav.events") });
  const none = h("p", { class: "empty" }, t("events.none"));
  const family = h("select", { "aria-label": t("events.which") }, FAMILIES.map((it) => h("option", { value: it }, it === "" ? t("events.all") : it.replace(/\.$/, ".*"))));
  const search = h("input", { type: "search", placeholder: t("events.session"), "aria-label": t("events.session") });
  const pause = h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.textContent = t(isPaused ? "events.go" : "events.pause");
    show();
  } }, t("events.pause"));
  fill(main, h("h1", {}, t("nav.events")),
    mayOperate() ? null : h("p", { class: "muted" }, t("events.noMessages")),
    h("div", { class: "tools" }, family, search, pause, h("button", { type: "button", class: "quiet", onclick: () => monitor.clear() }, t("events.clear"))),
    h("section", { class: "card figure" }, list, none));

  const isMeant = (it) => it.event.startsWith(family.value) && (it.session ?? "").includes(search.value.trim());

  // Only what is new is made, so that an opened one stays open.
  function show() {
    if (isPaused) return;
    const wanted = monitor.events.filter(isMeant), kept = new Set(wanted);
    for (const it of shown) if (!kept.has(it.event)) it.element.remove();
    shown = shown.filter((it) => kept.has(it.event));
    const known = new Set(shown.map((it) => it.event));
    const fresh = wanted.filter((it) => !known.has(it)).map((event) => ({ event, element: line(event) }));
    list.prepend(...fresh.map((it) => it.element));
    shown = [...fresh, ...shown];
    none.hidden = shown.length > 0;
  }

  const again = () => { shown = []; fill(list); show(); };
  family.addEventListener("change", again);
  search.addEventListener("input", again);
  ends.on(monitor, "change", throttled(SHOW_MS, show));
  show();
}
