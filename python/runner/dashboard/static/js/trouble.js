// What is wrong: active alerts, and the incidents of the fleet where a runner has no alerts.
import { get, getIfThere } from "./api.js";
import { throttled } from "./dom.js";
import { live } from "./live.js";

/** Events: "change". */
class Trouble extends EventTarget {
  alerts = [];
  silences = [];
  incidents = [];
  isKnown = false;
  hasAlerts = true;
  load = throttled(500, () => { void this.#load(); });

  constructor() {
    super();
    live.addEventListener("open", () => this.load());
    live.addEventListener("event", ({ detail }) => {
      if (detail.event.startsWith("alert.") || detail.event.startsWith("incident.")) this.load();
    });
  }

  clear() { this.alerts = []; this.silences = []; this.incidents = []; this.isKnown = false; }

  async #load() {
    try {
      const [alerts, fleet] = await Promise.all([getIfThere("/api/alerts"), get("/reconnection-status?limit=0")]);
      this.hasAlerts = alerts !== null;
      this.alerts = alerts?.active ?? [];
      this.silences = alerts?.silences ?? [];
      this.incidents = fleet.incidents ?? [];
      this.isKnown = true;
      this.dispatchEvent(new Event("change"));
    } catch { /* live says that it is stale */ }
  }

  /** What asks for somebody: not silenced, not explained by another, not acknowledged. */
  get open() { return this.alerts.filter((it) => !it.silencedUntil && !it.suppressedBy && !it.acknowledgedAt); }
}

export const trouble = new Trouble();
