// The last events of all sessions, kept while the page is open, so that the monitor does not begin empty.
import { live } from "./live.js";

const KEPT = 300;
const NOT_SHOWN = new Set(["system.metrics", "session.metrics", "metrics.paused"]);

/** Events: "change". */
class Monitor extends EventTarget {
  events = [];

  constructor() {
    super();
    live.addEventListener("event", ({ detail }) => {
      if (NOT_SHOWN.has(detail.event)) return;
      this.events.unshift(detail);
      if (this.events.length > KEPT) this.events.pop();
      this.dispatchEvent(new Event("change"));
    });
  }

  clear() { this.events = []; this.dispatchEvent(new Event("change")); }
}

export const monitor = new Monitor();
