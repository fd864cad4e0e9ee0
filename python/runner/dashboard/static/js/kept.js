// What this browser remembers: theme, language, filters. Never anything secret.
export function kept(name) {
  try { return localStorage.getItem(`runner.${name}`); } catch { return null; }
}
export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(`runner.${name}`);
    else localStorage.setItem(`runner.${name}`, value);
  } catch { /* no storage: it holds for this page */ }
}
