// What the page says to its user: short notices, and questions in a dialog.
import { fill, h, withCode } from "./dom.js";
import { t } from "./i18n.js";

const SHOWN_MS = 6000;
const area = h("div", { class: "notices", role: "status", "aria-live": "polite" });

export const noticeArea = () => area;

export function notice(text, kind = "good", more = "") {
  const item = h("div", { class: `notice ${kind}` }, h("strong", {}, text), more ? h("span", {}, withCode(more)) : null);
  area.append(item);
  setTimeout(() => item.remove(), SHOWN_MS);
}

export const failed = (error) => notice(error.message ?? String(error), "bad", error.remedy ?? "");

/** Ask before something is done. `fields`: elements with a name. Resolves to their values, or null. */
export function ask({ title, text, detail = null, confirm, danger = false, fields = [] }) {
  return new Promise((resolve) => {
    let answer = null;
    const form = h("form", { method: "dialog", onsubmit: (event) => {
      if (event.submitter?.value !== "yes") return;
      answer = Object.fromEntries([...form.elements].filter((it) => it.name).map((it) => [it.name, it.type === "checkbox" ? it.checked : it.value]));
    } });
    const dialog = h("dialog", { "aria-labelledby": "ask-title", onclose: () => { dialog.remove(); resolve(answer); } }, form);
    fill(form, h("h2", { id: "ask-title" }, title), h("p", {}, text), detail, ...fields,
      h("div", { class: "row end" },
        h("button", { type: "submit", value: "no", class: "quiet", formNoValidate: true }, t("cancel")),
        h("button", { type: "submit", value: "yes", class: danger ? "danger" : "primary" }, confirm)));
    document.body.append(dialog);
    dialog.showModal();
  });
}
