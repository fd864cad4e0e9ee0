// Numbers and times as people read them.
import { locale, t } from "./i18n.js";

export const NOTHING = "–";

export const number = (value, digits = 0) => value === null || value === undefined ? NOTHING
  : value.toLocaleString(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const percent = (ratio, digits = 1) => ratio === null || ratio === undefined ? NOTHING : `${number(ratio * 100, digits)} %`;

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return NOTHING;
  return ms === 0 ? "0 ms" : ms < 10 ? `${number(ms, 1)} ms` : ms < 10_000 ? `${number(ms)} ms` : `${number(ms / 1000, 1)} s`;
}

export function bytes(count) {
  if (count === null || count === undefined) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(count) >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${number(count, unit === 0 ? 0 : 1)} ${units[unit]}`;
}

/** `5 s`, `3 m 10 s`, `2 h 05 m`, `4 d 02 h`. */
export function duration(ms) {
  if (ms === null || ms === undefined) return NOTHING;
  const s = Math.max(0, Math.floor(ms / 1000)), two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} m`;
  return `${Math.floor(s / 86400)} d ${two(Math.floor(s / 3600) % 24)} h`;
}

export const age = (at, now = Date.now()) => at ? duration(now - at) : NOTHING;
export const ago = (at, now = Date.now()) => at ? t("ago", { time: duration(now - at) }) : NOTHING;

export function clockTime(at) {
  return new Date(at).toLocaleTimeString(locale(), { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function dateTime(at) {
  if (!at) return NOTHING;
  const day = new Date(at), isToday = day.toDateString() === new Date().toDateString();
  return isToday ? clockTime(at)
    : day.toLocaleString(locale(), { day: "2-digit", month: "short", year: day.getFullYear() === new Date().getFullYear() ? undefined : "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
