// The shell: who we are, the pages, and the truth about how old everything is.
import { ApiError, door, get, post } from "./api.js";
import { Ends, fill, h, say } from "./dom.js";
import { fleet } from "./fleet.js";
import { clockTime, duration, number } from "./format.js";
import { chooseLanguage, language, LANGUAGES, locale, t } from "./i18n.js";
import { keep, kept } from "./kept.js";
import { live } from "./live.js";
import { me } from "./me.js";
import { monitor } from "./monitor.js";
import { failed, noticeArea } from "./notice.js";
import { numbers } from "./numbers.js";
import { trouble } from "./trouble.js";
import { alerts } from "../pages/alerts.js";
import { events } from "../pages/events.js";
import { overview } from "../pages/overview.js";
import { session } from "../pages/session.js";
import { sessions } from "../pages/sessions.js";
import { signIn } from "../pages/signin.js";
import { system } from "../pages/system.js";
import { webhooks } from "../pages/webhooks.js";

const PAGES = { "": overview, sessions, session, events, alerts, webhooks, system };
const NAV = [["", "overview"], ["sessions", "sessions"], ["events", "events"], ["alerts", "alerts"], ["webhooks", "webhooks"], ["system", "system"]];
const RETRY_MS = 2000;
const root = document.body;
let ends = new Ends(), shell = null, isOut = false;

async function begin() {
  document.documentElement.lang = locale();
  try {
    const caller = await get("/api/caller");
    me.scopes = new Set(caller.scopes);
    me.signedIn = caller.signedIn;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return;  // `door` has shown the form
    fill(root, h("main", { class: "signin" }, h("p", { class: "card" }, error instanceof ApiError ? error.message : t("unreachable"))));
    setTimeout(begin, RETRY_MS);
    return;
  }
  isOut = false;
  build();
  live.start();
}

function showSignIn() {
  if (isOut) return;
  isOut = true;
  leave();
  live.stop();
  for (const store of [fleet, monitor, numbers, trouble]) store.clear();
  shell = null;
  root.classList.remove("stale");
  document.title = "runner";
  signIn(root, begin);
}

function leave() { ends.all(); ends = new Ends(); }

function build() {
  const main = h("main", { id: "main", tabIndex: -1 });
  const links = NAV.map(([path, key]) => h("a", { href: `#/${path}` }, t(`nav.${key}`), key === "alerts" ? h("span", { class: "badge", hidden: true }) : null));
  const mark = h("span", { class: "live" }, h("span", { class: "dot", "aria-hidden": "true" }), h("span", { class: "word" }, t("live")));
  const staleText = h("span"), staleAge = h("span", { "aria-hidden": "true" });
  const banner = h("div", { class: "banner", role: "alert", hidden: true }, staleText, staleAge);
  shell = { main, links, mark, banner, staleText, staleAge };
  fill(root,
    h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } }, t("skip")),
    h("header", {}, h("a", { class: "brand", href: "#/" }, h("span", { class: "pulse", "aria-hidden": "true" }), "runner"),
      h("nav", { "aria-label": t("nav") }, links),
      h("div", { class: "corner" }, mark,
        h("button", { type: "button", class: "icon theme", title: t("theme"), "aria-label": t("theme"), onclick: turnTheme }, themeSign()),
        h("button", { type: "button", class: "icon language", title: t("language"), "aria-label": t("language"), onclick: turnLanguage }, language().toUpperCase()),
        me.signedIn ? h("button", { type: "button", class: "quiet small", onclick: signOut }, t("signout")) : null)),
    banner, main, noticeArea());
  if (!me.scopes.has("operate")) main.before(h("p", { class: "read-only" }, t("readOnly.banner")));
  showLife();
  showBadge();
  route();
}

function route() {
  if (!shell) return;
  leave();
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const page = PAGES[name] ?? overview;
  for (const link of shell.links) {
    const isHere = link.getAttribute("href") === `#/${name === "session" ? "sessions" : name}`;
    if (isHere) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  let id = rest.join("/");
  try { id = decodeURIComponent(id); } catch { /* as it is written */ }
  document.title = `${name === "session" ? id : t(`nav.${NAV.find(([it]) => it === name)?.[1] ?? "overview"}`)} · runner`;
  shell.main.className = `page-${name || "overview"}`;
  page(shell.main, ends, new URLSearchParams(query), id);
}

function showLife() {
  if (!shell) return;
  const { banner, mark, staleText, staleAge } = shell;
  root.classList.toggle("stale", live.isStale);
  say(mark.lastChild, live.isStale ? t("stale") : t("live"));
  banner.hidden = !live.isStale;
  if (live.isStale) {
    say(staleText, live.heardAt === null ? t("unreachable") : t("stale.text", { time: clockTime(live.heardAt) }));
    say(staleAge, live.heardAt === null ? "" : ` ${t("stale.age", { age: duration(live.ageMs) })}`);
  }
}

function showBadge() {
  const badge = shell?.links.map((link) => link.querySelector(".badge")).find(Boolean);
  if (!badge) return;
  const n = trouble.open.length;
  badge.hidden = n === 0;
  badge.dataset.level = trouble.open.some((it) => it.severity === "critical") ? "critical" : "warning";
  say(badge, number(n));
  badge.setAttribute("aria-label", t("nav.alerts.open", { n: number(n) }));
}

const THEMES = ["auto", "light", "dark"];
const theme = () => kept("theme") ?? "auto";
const themeSign = () => ({ auto: "◐", light: "☀", dark: "☾" })[theme()];

function turnTheme(event) {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  keep("theme", next === "auto" ? null : next);
  if (next === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = next;
  event.currentTarget.textContent = themeSign();
  event.currentTarget.setAttribute("aria-label", `${t("theme")}: ${t(`theme.${next}`)}`);
  document.dispatchEvent(new Event("runner:theme"));
}

function turnLanguage() {
  const names = Object.keys(LANGUAGES);
  chooseLanguage(names[(names.indexOf(language()) + 1) % names.length]);
  document.documentElement.lang = locale();
  build();
  root.querySelector("button.language").focus();
}

async function signOut() {
  try { await post("/logout"); } catch (error) { failed(error); return; }
  door.dispatchEvent(new Event("closed"));
}

door.addEventListener("closed", showSignIn);
live.addEventListener("state", showLife);
trouble.addEventListener("change", showBadge);
window.addEventListener("hashchange", () => { route(); shell?.main.focus({ preventScroll: true }); window.scrollTo(0, 0); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("runner:theme")));
setInterval(() => { if (live.isStale) showLife(); }, 1000);
begin();
