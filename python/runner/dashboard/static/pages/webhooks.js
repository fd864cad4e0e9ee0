// Where events go, and what did not arrive.
import { del, get, post } from "../js/api.js";
import { fill, h } from "../js/dom.js";
import { ago, dateTime, number } from "../js/format.js";
import { t } from "../js/i18n.js";
import { mayAdmin, mayOperate } from "../js/me.js";
import { ask, failed, notice } from "../js/notice.js";

const EVERY_MS = 5000, PAGE = 50, APP = "app", UNDECRYPTABLE = "undecryptable";

const button = (key, may, run, kind = "quiet small") => h("button", { type: "button", class: kind, disabled: !may, title: may ? "" : t("readOnly"), onclick: run }, t(key));
const path = (id, rest = "") => `/api/webhooks/${encodeURIComponent(id)}${rest}`;

function lastAttempt(last) {
  if (!last) return t("webhooks.never");
  const how = last.delivered ? t("webhooks.delivered") : last.problem ?? t("webhooks.status", { status: last.status ?? "–" });
  return `${how} · ${ago(last.at)}`;
}

export function webhooks(main, ends) {
  const list = h("div", { class: "stack figure" }), rows = h("tbody"), more = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => loadLetters(true) }, t("alerts.more"));
  const none = h("p", { class: "muted", hidden: true }, t("letters.none"));
  const table = h("div", { class: "scroll-x figure" }, h("table", { class: "plain letters" },
    h("thead", {}, h("tr", {}, ["letters.when", "letters.for", "letters.event", "letters.session", "letters.why"].map((key) => h("th", { scope: "col" }, t(key))), h("th", { scope: "col", "aria-label": t("letters.actions") }))), rows));
  const forAll = h("div", { class: "row wrap", hidden: true }, button("letters.redriveAll", mayOperate(), () => all("redrive")), button("letters.dropAll", mayAdmin(), () => all("drop")));
  let next = null;
  fill(main,
    h("div", { class: "row between wrap" }, h("h1", {}, t("nav.webhooks")), button("webhooks.add", mayAdmin(), add, "primary")),
    list,
    h("section", { class: "card", "aria-labelledby": "letters-title" },
      h("div", { class: "row between wrap" }, h("h2", { id: "letters-title" }, t("letters")), forAll),
      h("p", { class: "muted" }, t("letters.what")), table, none, more));

  function card(it) {
    return h("article", { class: "card webhook", dataset: { id: it.id } },
      h("div", { class: "row between wrap" }, h("h2", { class: "id" }, it.url), h("span", { class: "muted" }, it.source === "settings" ? t("webhooks.settings") : it.session ?? t("webhooks.everySession"))),
      h("p", {}, it.events.map((name) => [h("code", {}, name), " "])),
      h("dl", { class: "facts" },
        h("dt", {}, t("webhooks.last")), h("dd", {}, lastAttempt(it.lastAttempt)),
        h("dt", {}, t("webhooks.waiting")), h("dd", {}, number(it.waiting)),
        h("dt", {}, t("letters")), h("dd", {}, number(it.undelivered)),
        h("dt", {}, t("webhooks.signed")), h("dd", {}, t(it.signed ? "yes" : "no"))),
      h("div", { class: "row wrap" }, button("webhooks.test", mayOperate(), () => test(it)),
        it.source === "settings" ? null : button("webhooks.remove", mayAdmin(), () => remove(it))));
  }

  async function load() {
    try {
      const found = (await get("/api/webhooks")).webhooks;
      fill(list, found.length ? found.map(card) : h("p", { class: "card empty" }, t("webhooks.none")));
    } catch { /* live says that it is stale */ }
  }

  async function loadLetters(further) {
    try {
      const answer = await get(`/api/dead-letters?limit=${PAGE}${further && next ? `&after=${encodeURIComponent(next)}` : ""}`);
      const made = answer.deadLetters.map((it) => h("tr", { dataset: { id: it.id } },
        h("td", {}, h("time", {}, dateTime(it.diedAt))), h("td", {}, it.sink === APP || it.sink === UNDECRYPTABLE ? t(`letters.${it.sink}`) : h("code", {}, it.sink)),
        h("td", {}, h("code", {}, it.event)), h("td", {}, it.session ?? "–"), h("td", {}, it.why, " ", h("span", { class: "muted" }, t("letters.attempts", { n: it.attempts }))),
        h("td", {}, h("div", { class: "row" }, it.sink === UNDECRYPTABLE ? null : button("letters.redrive", mayOperate(), () => one("redrive", it)), button("letters.drop", mayAdmin(), () => one("drop", it))))));
      if (further) rows.append(...made); else fill(rows, made);
      next = answer.next;
      more.hidden = next === null;
      none.hidden = rows.children.length > 0;
      table.hidden = forAll.hidden = !none.hidden;
    } catch { /* the same */ }
  }

  const loadAll = () => Promise.all([load(), loadLetters(false)]);

  async function act(run, done) {
    try { notice(done(await run())); } catch (error) { failed(error); }
    await loadAll();
  }

  async function add() {
    const field = (key, props) => h("label", {}, t(key), h("input", props));
    const answer = await ask({ title: t("webhooks.add"), text: t("webhooks.add.text"), confirm: t("webhooks.add.confirm"), fields: [
      field("webhooks.url", { name: "url", type: "url", required: true, placeholder: "https://example.com/hook" }),
      field("webhooks.events", { name: "events", value: "message, session.status" }),
      field("webhooks.session", { name: "session", placeholder: t("webhooks.everySession") }),
      field("webhooks.secret", { name: "secret", type: "password", autocomplete: "off" }),
    ] });
    if (answer === null) return;
    const wish = { url: answer.url, events: answer.events.split(/[\s,]+/).filter(Boolean), session: answer.session.trim() || null, secret: answer.secret };
    await act(() => post("/api/webhooks", wish), () => t("webhooks.added"));
  }

  async function test(it) {
    try {
      const answer = await post(path(it.id, "/test"));
      if (answer.delivered) notice(t("webhooks.test.good")); else notice(t("webhooks.test.bad"), "bad", answer.problem ?? "");
    } catch (error) { failed(error); }
    await load();
  }

  async function remove(it) {
    const answer = await ask({ title: t("webhooks.remove.title"), text: it.url, detail: t("webhooks.remove.text", { n: number(it.waiting) }), confirm: t("webhooks.remove"), danger: true });
    if (answer !== null) await act(() => del(path(it.id)), () => t("webhooks.removed"));
  }

  const told = (verb) => (answer) => verb === "redrive" ? t("letters.redriven", { n: number(answer.messages + answer.deliveries), kept: number(answer.kept) }) : t("letters.dropped", { n: number(answer.dropped) });
  const one = (verb, it) => act(() => post(`/api/dead-letters/${verb}`, { ids: [it.id] }), told(verb));

  async function all(verb) {
    const answer = await ask({ title: t(verb === "redrive" ? "letters.redriveAll" : "letters.dropAll"), text: t(verb === "redrive" ? "letters.redriveAll.text" : "letters.dropAll.text"), confirm: t(verb === "redrive" ? "letters.redriveAll" : "letters.dropAll"), danger: verb === "drop" });
    if (answer !== null) await act(() => post(`/api/dead-letters/${verb}`, { all: true }), told(verb));
  }

  ends.every(EVERY_MS, () => { if (!main.contains(document.activeElement) || document.activeElement === main) loadAll(); });
  loadAll();
}
