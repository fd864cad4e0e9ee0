// The language: the browser's, or the one that was chosen. One dictionary for each, with equal keys (tested).
import en from "../lang/en.js";
import pt from "../lang/pt.js";
import ptAlerts from "../lang/pt_alerts.js";
import ptTune, { effects as ptEffects } from "../lang/pt_tune.js";
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

const ALERTS = { en: null, pt: ptAlerts };

/**
 * What an alert says, in this language: `text`, `remedy`, and `detail` where the text with its figures is only there in English.
 * The server speaks English; an alert that the dictionary does not know yet is shown as it came.
 */
export function alertWords(alert) {
  const known = ALERTS[current]?.[alert.alert];
  return known ? { text: known[0], remedy: known[1], detail: alert.text } : { text: alert.text, remedy: alert.remedy, detail: null };
}

const TUNE = { en: null, pt: ptTune };

/** Why a finding of `tune` matters, in this language. */
export const whyOf = (finding) => TUNE[current]?.[finding.name] ?? finding.why;

const EFFECTS = { en: [], pt: ptEffects };

/** What a finding means, with its figures as this language writes them; null when it is there as the server says it only. */
export function effectOf(finding) {
  for (const [said, text] of EFFECTS[current]) {
    const figures = new RegExp(`^${said}$`, "u").exec(finding.effect);
    if (figures) return text.replace(/\$(\d)/g, (_, place) => figures[place].replace(/(?<=\d)[.,](?=\d)/g, (mark) => (mark === "," ? "." : ",")));
  }
  return null;
}
