// Before anything is drawn, so that a chosen theme does not flash. Not a module: those run after the page is parsed.
(() => {
  let kept = null;
  try { kept = localStorage.getItem("runner.theme"); } catch { /* no storage: follow the system */ }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
