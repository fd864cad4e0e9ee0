// The card of a session that no phone has linked (or none any more): the QR code, its time, a code to type instead.
import { ApiError, get, post, sessionPath } from "../js/api.js";
import { fill, h, say } from "../js/dom.js";
import { duration } from "../js/format.js";
import { t } from "../js/i18n.js";
import { mayOperate } from "../js/me.js";
import { failed } from "../js/notice.js";

const authPath = (id, rest) => `/api/${encodeURIComponent(id)}/auth/${rest}`;
const NEEDS_PHONE = new Set(["parked", "stopped", "logged_out"]);

export const wantsPhone = (view) => !view.linked || view.state === "logged_out";

export function linkCard(id) {
  const wait = h("div", { class: "muted" }, t("link.wait")), qr = h("div", { class: "qr" }, wait);
  const left = h("p", { class: "figure muted", role: "status" });
  const typed = h("output", { class: "code figure", hidden: true, "aria-label": t("link.code") });
  const phone = h("input", { type: "tel", name: "phone", required: true, autocomplete: "tel", placeholder: "+55 11 91234-5678", "aria-label": t("link.phone") });
  const askCode = h("button", { type: "submit", class: "quiet" }, t("link.code.ask"));
  const form = h("form", { class: "row wrap", onsubmit: (event) => { event.preventDefault(); void requestCode(); } }, phone, askCode);
  const begin = h("button", { type: "button", class: "primary", onclick: start }, t("link.begin"));
  const idle = h("div", { class: "stack" }, h("p", {}, t("link.idle")), begin);
  const shown = h("div", { class: "link" }, qr,
    h("div", { class: "stack" }, h("ol", { class: "steps" }, [1, 2, 3].map((n) => h("li", {}, t(`link.step${n}`)))), left, h("p", { class: "muted" }, t("link.instead")), form, typed));
  const element = h("section", { class: "card", "aria-labelledby": "link-title", hidden: true }, h("h2", { id: "link-title" }, t("link.title")), idle, shown);
  let state = null, expiresAt = 0, codeUntil = 0, more = 0, asking = false;

  async function start() {
    begin.disabled = true;
    try { await post(sessionPath(id, "/pair")); } catch (error) { failed(error); }
    begin.disabled = !mayOperate();
  }

  async function requestCode() {
    askCode.disabled = true;
    try {
      const answer = await post(authPath(id, "request-code"), { phoneNumber: phone.value });
      codeUntil = answer.expiresAt;
      typed.hidden = false;
      say(typed, answer.code);
    } catch (error) { failed(error); }
    askCode.disabled = false;
    tick();
  }

  async function load() {
    if (asking || state !== "pairing" || !mayOperate()) return;
    asking = true;
    try {
      const code = await get(authPath(id, "qr?format=raw"));
      if (code.expiresAt !== expiresAt) {
        ({ expiresAt, left: more } = code);
        // The address is new each time, so that no old code is shown.
        fill(qr, h("img", { alt: t("link.qr"), width: 280, height: 280, src: authPath(id, `qr?until=${expiresAt}`) }));
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;  // none at the moment; the state says why
    } finally { asking = false; }
    tick();
  }

  function show(view) {
    element.hidden = !wantsPhone(view);
    state = view.state;
    idle.hidden = !NEEDS_PHONE.has(state);
    shown.hidden = NEEDS_PHONE.has(state);
    begin.disabled = !mayOperate();
    if (state !== "pairing") { fill(qr, wait); typed.hidden = true; expiresAt = codeUntil = 0; }
    else if (Date.now() >= expiresAt) void load();
    tick();
  }

  function tick() {
    if (element.hidden) return;
    const now = Date.now();
    if (state === "pairing" && expiresAt && now >= expiresAt) { fill(qr, wait); void load(); }
    say(left, expiresAt > now ? t("link.left", { time: duration(expiresAt - now + 999), n: more }) : "");
    if (codeUntil && now >= codeUntil) { typed.hidden = true; codeUntil = 0; }
  }

  return { element, show, tick, load };
}
