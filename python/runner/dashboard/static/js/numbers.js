// The numbers of the system: the last sample, from the stream or, when it is silent, from the API.
import { get } from "./api.js";
import { STATES } from "./fleet.js";
import { live } from "./live.js";

const SILENT_MS = 12_000;

/** One shape for `system.metrics` and for `/performance-metrics`; undefined: not said, null: nothing to say. */
export function numbersOf(it, at) {
  const system = it.system ?? it;
  const times = it.responseTime;
  const states = it.states && Object.fromEntries(STATES.map((state) => [`sessions.${state}`, it.states[state] ?? 0]));
  return {
    at,
    cpuUsage: system.cpuUsage,
    cpuScope: system.cpuScope,
    usedMemory: system.usedMemory,
    totalMemory: system.totalMemory,
    memoryScope: system.memoryScope,
    activeConnections: system.activeConnections,
    errorRate: system.errorRate,
    averageResponseTime: it.averageResponseTime ?? system.averageResponseTime ?? times?.averageMs,
    responseTimeP95: times?.p95Ms,
    responseTimeP99: times?.p99Ms,
    messagesPerMinute: it.messagesPerMinute,
    reconnectsPerMinute: it.reconnectsPerMinute,
    closesPerMinute: it.closesPerMinute,
    errorsPerMinute: it.errorsPerMinute,
    revision: it.revision,
    processRss: it.process?.rss,
    openFds: it.process?.openFds,
    ...states,
  };
}

/** Events: "change". */
class Numbers extends EventTarget {
  now = null;
  #asking = false;

  constructor() {
    super();
    live.addEventListener("event", ({ detail }) => {
      if (detail.event === "system.metrics") this.#set(numbersOf(detail.payload, detail.timestamp));
    });
    live.addEventListener("open", () => this.ask());
    setInterval(() => {
      if (live.heardAt !== null && !live.isStale && (this.now === null || Date.now() - this.now.at > SILENT_MS)) this.ask();
    }, 2000);
  }

  clear() { this.now = null; }

  async ask() {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const answer = await get("/performance-metrics?limit=0");
      live.heard();
      this.#set(numbersOf(answer, Date.now()));
    } catch { /* live says that it is stale */ } finally { this.#asking = false; }
  }

  #set(numbers) {
    // The stream may say less than the API: what it leaves out stays as it was.
    const said = Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== undefined));
    this.now = { ...this.now, ...said };
    this.dispatchEvent(new Event("change"));
  }
}

export const numbers = new Numbers();
