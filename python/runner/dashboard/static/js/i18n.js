// The language: the browser's, or the one that was chosen. One dictionary for each, with equal keys (tested).
import en from "../lang/en.js";
import pt from "../lang/pt.js";
import { kept, keep } from "./kept.js";

export const LANGUAGES = { en, pt };
const LOCALES = { en: "en-GB", pt: "pt-BR" };

let current = LANGUAGES[kept("language")] ? kept("language") : (navigator.language ?? "").toLowerCase().startsWith("pt") ? "pt" : "en";

export const language = () => current;
export const locale = () => LOCALES[current];

export function chooseLanguage(name) { current = name; keep("language", name); }

/** The text of a key; `{name}` in it is replaced. A key that is missing shows itself: better than nothing. */
export function t(key, values = {}) {
  const text = LANGUAGES[current][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

/** The text if there is one for this key, else the fallback. */
export const tOr = (key, fallback) => LANGUAGES[current][key] ?? fallback;
