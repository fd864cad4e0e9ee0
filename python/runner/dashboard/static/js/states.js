// How a state looks: a dot of its colour and its word; never the colour alone.
import { h } from "./dom.js";
import { t } from "./i18n.js";

export const stateName = (state) => t(`state.${state}`);

export const pill = (state) => h("span", { class: "pill", dataset: { state }, title: t(`state.${state}.meaning`) },
  h("span", { class: "dot", "aria-hidden": "true" }), stateName(state));

export const severity = (level) => h("span", { class: "severity", dataset: { level } }, t(`severity.${level}`));
