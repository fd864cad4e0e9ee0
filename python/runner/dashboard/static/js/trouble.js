// What is wrong: the active alerts, and the silences in force.
import { get } from "./api.js";
import { throttled } from "./dom.js";
import { live } from "./live.js";

const RELOAD_MS = 30_000;  // what a restart or a silence that ends changes has no event
const SETTLE_MS = 500;

/** Events: "change". */
class Trouble extends EventTarget {
  alerts = [];
  silences = [];
  isKnown = false;
  load = throttled(SETTLE_MS, () => { void this.#load(); });

  constructor() {
    super();
    live.addEventListener("open", () => this.load());
    live.addEventListener("event", ({ detail }) => { if (detail.event.startsWith("alert.")) this.load(); });
    setInterval(() => { if (live.heardAt !== null && !live.isStale) this.load(); }, RELOAD_MS);
  }

  clear() { this.alerts = []; this.silences = []; this.isKnown = false; }

  async #load() {
    try {
      const { active, silences } = await get("/api/alerts");
      this.alerts = active;
      this.silences = silences;
      this.isKnown = true;
      this.dispatchEvent(new Event("change"));
    } catch { /* live says that it is stale */ }
  }

  /** What asks for somebody: not silenced, not explained by another, not acknowledged. */
  get open() { return this.alerts.filter((it) => !it.silencedUntil && !it.suppressedBy && !it.acknowledgedAt); }
}

export const trouble = new Trouble();
