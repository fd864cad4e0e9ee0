// Every session: search, filter by state, sort; ten thousand rows scroll like ten.
import { get, post } from "../js/api.js";
import { fill, h, say } from "../js/dom.js";
import { fleet, RANK, STATES } from "../js/fleet.js";
import { age, duration, milliseconds, NOTHING, number } from "../js/format.js";
import { t } from "../js/i18n.js";
import { live } from "../js/live.js";
import { me } from "../js/me.js";
import { ask, failed } from "../js/notice.js";
import { stateName } from "../js/states.js";
import { VirtualTable } from "../js/table.js";

const FRESHEN_MS = 5000;
const MOST_FRESHENED = 80;

const byId = (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
const least = (value) => value ?? Infinity;
const ORDERS = {
  state: (a, b) => RANK[a.state] - RANK[b.state] || byId(a, b),
  id: byId,
  reason: (a, b) => (a.reason ?? "~").localeCompare(b.reason ?? "~") || byId(a, b),
  since: (a, b) => b.since - a.since || byId(a, b),
  attempt: (a, b) => b.attempt - a.attempt || byId(a, b),
  retry: (a, b) => least(a.nextRetryAt) - least(b.nextRetryAt) || byId(a, b),
  rtt: (a, b) => (b.pongRttMs ?? -1) - (a.pongRttMs ?? -1) || byId(a, b),
  connection: (a, b) => b.connection - a.connection || byId(a, b),
};

function columns() {
  const text = (key, read) => (row, cell, now) => say(cell, read(row, now));
  return [
    { key: "state", cell(row, cell) {
      if (cell.dataset.state === row.state) return;
      cell.dataset.state = row.state;
      fill(cell, h("span", { class: "dot", "aria-hidden": "true" }), stateName(row.state));
    } },
    { key: "id", cell(row, cell) {
      if (cell.firstChild?.textContent === row.id) return;
      fill(cell, h("a", { href: `#/session/${encodeURIComponent(row.id)}` }, row.id));
    } },
    { key: "reason", cell: text("reason", (row) => row.reason ?? NOTHING) },
    { key: "since", cell(row, cell, now) {
      const time = cell.firstChild ?? cell.appendChild(h("time"));
      const at = new Date(row.since).toISOString();
      if (time.dateTime !== at) time.dateTime = at;
      say(time, age(row.since, now));
    } },
    { key: "attempt", cell: text("attempt", (row) => (row.attempt ? String(row.attempt) : NOTHING)) },
    { key: "retry", cell: text("retry", (row, now) => (row.nextRetryAt ? duration(row.nextRetryAt - now) : NOTHING)) },
    { key: "rtt", cell: text("rtt", (row) => milliseconds(row.pongRttMs)) },
    { key: "connection", cell: text("connection", (row) => number(row.connection)) },
  ].map((column) => ({ ...column, label: t(`sessions.${column.key}`), sort: true }));
}

export function sessions(main, ends, query) {
  const wanted = new Set((query.get("state") ?? "").split(",").filter((state) => STATES.includes(state)));
  let order = ORDERS[query.get("sort")] ? query.get("sort") : "state", isUp = query.get("down") === null;
  const search = h("input", { type: "search", placeholder: t("sessions.search"), "aria-label": t("sessions.search"), value: query.get("q") ?? "",
    autocomplete: "off", spellcheck: false, oninput: () => { remember(); update(); } });
  const count = h("p", { class: "muted count", role: "status" });
  const chips = h("div", { class: "chips", role: "group", "aria-label": t("sessions.filter") }, STATES.map((state) =>
    h("button", { type: "button", class: "chip", dataset: { state }, "aria-pressed": String(wanted.has(state)), onclick: (event) => {
      if (!wanted.delete(state)) wanted.add(state);
      event.currentTarget.setAttribute("aria-pressed", String(wanted.has(state)));
      remember();
      update();
    } }, h("span", { class: "dot", "aria-hidden": "true" }), stateName(state), h("b", {}, ""))));
  const table = new VirtualTable({ label: t("nav.sessions"), columns: columns(), idOf: (row) => row.id, revisionOf: (row) => String(row.revision), onsort: (key) => {
    isUp = key === order ? !isUp : true;
    order = key;
    remember();
    update();
  } });
  const sortPick = h("select", { class: "sort", "aria-label": t("sessions.sort"), onchange: () => { order = sortPick.value; isUp = true; remember(); update(); } },
    Object.keys(ORDERS).map((key) => h("option", { value: key, selected: key === order }, `${t("sessions.sort")}: ${t(`sessions.${key}`)}`)));

  fill(main, h("div", { class: "sessions" },
    h("div", { class: "row between" }, h("h1", {}, t("nav.sessions")),
      h("div", { class: "row" }, count, h("button", { type: "button", class: "primary small add", disabled: !me.scopes.has("admin"), onclick: add }, t("sessions.add")))),
    h("div", { class: "tools" }, search, sortPick, chips), table.element));

  async function add() {  // a new session; its page shows the code to scan
    const field = (name, props) => h("label", { class: "stack" }, t(`sessions.add.${name}`), h("input", { name, autocomplete: "off", spellcheck: false, ...props }));
    const answer = await ask({ title: t("sessions.add"), text: t("sessions.add.text"), confirm: t("sessions.add.confirm"),
      fields: [field("id", { required: true, maxLength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", title: t("sessions.add.id.form") }), field("proxy", { placeholder: "socks5://user:password@10.0.0.7:1080" })] });
    if (answer === null) return;
    try {
      await post("/api/sessions", { id: answer.id, proxy: answer.proxy || null });
      location.hash = `#/session/${encodeURIComponent(answer.id)}`;
    } catch (error) { failed(error); }
  }

  function remember() {  // in the address, so that it can be kept and shared
    const next = new URLSearchParams();
    if (wanted.size) next.set("state", [...wanted].join(","));
    if (search.value) next.set("q", search.value);
    if (order !== "state") next.set("sort", order);
    if (!isUp) next.set("down", "1");
    history.replaceState(null, "", `#/sessions${next.size ? `?${next}` : ""}`);
  }

  function update() {
    const text = search.value.trim().toLowerCase(), counts = Object.fromEntries(STATES.map((state) => [state, 0]));
    const rows = [];
    for (const row of fleet.rows.values()) {
      if (text && !row.id.toLowerCase().includes(text) && !(row.reason ?? "").includes(text)) continue;
      counts[row.state] += 1;
      if (!wanted.size || wanted.has(row.state)) rows.push(row);
    }
    rows.sort(isUp ? ORDERS[order] : (a, b) => -ORDERS[order](a, b));
    for (const chip of chips.children) {
      const n = counts[chip.dataset.state];
      say(chip.lastChild, number(n));
      chip.classList.toggle("zero", n === 0 && !wanted.has(chip.dataset.state));
    }
    sortPick.value = order;
    table.sortedBy(order, isUp);
    table.show(rows, fleet.isComplete ? t("sessions.none") : fleet.error ? fleet.error.message : t("loading"));
    say(count, fleet.isComplete ? t("sessions.count", { n: number(rows.length), all: number(fleet.rows.size) }) : t("sessions.loading", { n: number(fleet.rows.size) }));
  }

  async function freshen() {  // pings change without an event; those on the screen are read anew
    const seen = table.visible().slice(0, MOST_FRESHENED);
    if (live.isStale || document.hidden || !seen.length) return;
    try {
      const answer = await get(`/api/sessions?limit=${seen.length}&${seen.map((row) => `session=${encodeURIComponent(row.id)}`).join("&")}`);
      fleet.put(answer.sessions);
    } catch { /* live says that it is stale */ }
  }

  ends.on(fleet, "change", update);
  ends.every(1000, () => { if (!live.isStale) table.draw(); });
  ends.every(FRESHEN_MS, freshen);
  ends.add(() => table.end());
  update();
}
