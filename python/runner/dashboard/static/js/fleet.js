// All sessions: loaded page by page, then kept true by `session.status`.
//
// While a load runs, an event is newer than any page that arrives later, or is followed by one that is: what an
// event touched is not overwritten by a page.
import { get } from "./api.js";
import { throttled } from "./dom.js";
import { live } from "./live.js";

const PAGE = 2000;
const RELOAD_MS = 60_000;  // for what has no event: sessions that were deleted, pings
const TELL_MS = 250;

export const STATES = ["logged_out", "parked", "suspended", "degraded", "backoff", "connecting", "pairing", "online", "stopped"];
/** Worst first. */
export const RANK = Object.fromEntries(STATES.map((state, rank) => [state, rank]));

/** Events: "change" (at most four times a second). */
class Fleet extends EventTarget {
  rows = new Map();
  isComplete = false;
  loadedAt = null;
  error = null;
  #touched = null;
  #run = 0;
  #timer = null;
  #tell = throttled(TELL_MS, () => this.dispatchEvent(new Event("change")));

  constructor() {
    super();
    live.addEventListener("event", ({ detail }) => this.#take(detail));
    live.addEventListener("open", () => this.load());
  }

  clear() {
    this.#run += 1;
    this.rows = new Map();
    this.isComplete = false;
    this.#touched = null;
    clearTimeout(this.#timer);
  }

  /** How many are in each state. */
  counts() {
    const counts = Object.fromEntries(STATES.map((state) => [state, 0]));
    for (const row of this.rows.values()) counts[row.state] = (counts[row.state] ?? 0) + 1;
    return counts;
  }

  async load() {
    const run = this.#run += 1;
    clearTimeout(this.#timer);
    const touched = this.#touched = new Set();
    const fresh = new Map();
    try {
      for (let offset = 0; offset !== null;) {
        const page = await get(`/api/sessions?offset=${offset}&limit=${PAGE}`);
        if (run !== this.#run) return;
        live.heard();
        for (const row of page.sessions) {
          const known = touched.has(row.id) ? this.rows.get(row.id) ?? row : row;
          fresh.set(row.id, known);
          if (!this.isComplete) this.rows.set(row.id, known);
        }
        offset = page.next;
        this.#tell();
      }
      for (const id of touched) if (this.rows.has(id)) fresh.set(id, this.rows.get(id));
      this.rows = fresh;
      this.isComplete = true;
      this.loadedAt = Date.now();
      this.error = null;
    } catch (error) {
      if (run !== this.#run) return;
      this.error = error;
    }
    this.#touched = null;
    this.#tell();
    this.#timer = setTimeout(() => { if (!live.isStale) this.load(); }, RELOAD_MS);
  }

  /** Rows that somebody read from the API. */
  put(rows) {
    for (const row of rows) if (this.rows.has(row.id)) this.rows.set(row.id, row);
    this.#tell();
  }

  #take({ event, payload }) {
    if (event === "stream.lost") { this.load(); return; }
    if (!event.startsWith("session.") || payload?.state === undefined || payload.id === undefined) return;
    this.rows.set(payload.id, payload);
    this.#touched?.add(payload.id);
    this.#tell();
  }
}

export const fleet = new Fleet();
