// The runner and its machine: health, build, what to tune, the settings in force.
import { get } from "../js/api.js";
import { fill, h } from "../js/dom.js";
import { bytes, dateTime, duration, number } from "../js/format.js";
import { effectOf, t, tOr, whyOf } from "../js/i18n.js";
import { live } from "../js/live.js";
import { failed } from "../js/notice.js";

const FRESHEN_MS = 15_000;
const WORST = ["too_small", "advised", "unknown", "fine", "not_advised"];

export function system(main, ends) {
  const build = h("dl", { class: "facts figure" }), checks = h("ul", { class: "list figure" }), findings = h("div", { class: "stack" }), needs = h("p", { class: "muted" });
  const settings = h("tbody"), filter = h("input", { type: "search", placeholder: t("system.filter"), "aria-label": t("system.filter"), oninput: () => showSettings() });
  const count = h("input", { type: "number", min: "1", max: "1000000", placeholder: t("system.now"), "aria-label": t("system.sessions"), name: "sessions" });
  let known = {};
  fill(main, h("h1", {}, t("nav.system")),
    h("div", { class: "two" },
      h("section", { class: "card", "aria-labelledby": "build-title" }, h("h2", { id: "build-title" }, t("system.runner")), build),
      h("section", { class: "card", "aria-labelledby": "health-title" }, h("h2", { id: "health-title" }, t("system.health")), checks)),
    h("section", { class: "card", "aria-labelledby": "tune-title" }, h("div", { class: "row between wrap" }, h("h2", { id: "tune-title" }, t("system.tuning")),
      h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); loadFindings(); } }, h("label", { class: "row" }, t("system.sessions"), count), h("button", { class: "quiet small" }, t("system.judge")))), needs, findings),
    h("section", { class: "card", "aria-labelledby": "settings-title" }, h("div", { class: "row between wrap" }, h("h2", { id: "settings-title" }, t("system.settings")), filter),
      h("div", { class: "scroll-x" }, h("table", { class: "plain settings" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("system.setting")), h("th", { scope: "col" }, t("system.value")))), settings))));

  function showSettings() {
    const text = filter.value.trim().toLowerCase();
    fill(settings, Object.entries(known).map(([name, value]) => [name.startsWith("WHATSAPP_") ? name : `WHATSAPP_${name}`, value])
      .filter(([name, value]) => !text || `${name} ${value}`.toLowerCase().includes(text))
      .map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), h("td", {}, String(value)))));
  }

  async function load() {
    try {
      const [it, health] = await Promise.all([get("/api/system"), healthOf()]);
      live.heard();
      const process = health.process ?? {};
      fill(build, [
        ...flat(it.version ?? {}).map(([name, value]) => [tOr(`system.version.${name}`, name), String(value)]),
        [t("system.pid"), process.pid], [t("system.started"), process.startedAt ? `${dateTime(process.startedAt)} (${duration(Date.now() - process.startedAt)})` : null],
        [t("system.restarts"), process.restarts], [t("system.rss"), it.process?.rss ? bytes(it.process.rss) : null],
      ].filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
      fill(checks, h("li", { class: "row between" }, h("b", {}, t("system.ready")), mark(health.ready)), (health.checks ?? []).map((check) =>
        h("li", { class: "row between" }, h("span", {}, h("code", {}, check.name), check.detail ? h("span", { class: "muted" }, ` ${check.detail}`) : null), mark(check.healthy))));
      known = it.settings ?? {};
      if (document.activeElement !== filter) showSettings();
    } catch { /* live says that it is stale */ }
  }

  async function loadFindings() {
    try {
      const report = await get(`/api/system/doctor${count.value ? `?sessions=${encodeURIComponent(count.value)}` : ""}`);
      fill(needs, t("system.needs", { n: number(report.sessions), fds: number(report.needs.fileDescriptors), memory: bytes(report.needs.memoryBytes), kernel: bytes(report.needs.kernelMemoryBytes) }));
      const sorted = [...report.findings].sort((a, b) => WORST.indexOf(a.status) - WORST.indexOf(b.status));
      fill(findings, sorted.map((it) => h("details", { class: "finding", open: it.status === "too_small" },
        h("summary", {}, h("span", { class: "severity", dataset: { level: it.status } }, tOr(`finding.${it.status}`, it.status)), " ", h("b", {}, it.setting), " ",
          h("code", {}, it.now), it.advised ? [" → ", h("code", {}, it.advised)] : null),
        effectOf(it) ? h("p", {}, effectOf(it)) : h("p", { lang: "en" }, it.effect), h("p", { class: "muted" }, whyOf(it)), it.how ? h("p", {}, h("b", {}, `${t("system.how")} `), h("code", {}, it.how)) : null,
        it.whyNot ? h("p", { class: "muted", lang: "en" }, it.whyNot) : null, h("p", { class: "muted source" }, it.source))));
    } catch (error) { failed(error); }
  }

  ends.on(live, "open", load);
  ends.every(FRESHEN_MS, () => { if (!live.isStale && !document.hidden) load(); });
  load();
  loadFindings();
}

const mark = (good) => h("span", { class: good ? "good" : "bad" }, good ? `✓ ${t("system.good")}` : `✕ ${t("system.bad")}`);

const flat = (object, prefix = "") => Object.entries(object).flatMap(([name, value]) =>
  value !== null && typeof value === "object" ? flat(value, `${prefix}${name}.`) : [[`${prefix}${name}`, value]]);

/** Not ready is a 503 with the same body. */
async function healthOf() {
  const answer = await fetch("/health", { cache: "no-store" });
  return answer.json();
}
