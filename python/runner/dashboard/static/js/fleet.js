// All sessions: loaded page by page, then kept true by the events of sessions.
//
// Every change of a session has a number, and a row says that of its last one: of two, the greater is the newer, on
// whatever way it came.
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
  #heard = 0;   // the last change of which an event told
  #ahead = 0;   // the last change that a page has shown
  #isWhole = false;  // no change is missing: everything was loaded, and no event was lost since
  #isLoading = false;
  #again = false;
  #run = 0;
  #timer = null;
  #tell = throttled(TELL_MS, () => this.dispatchEvent(new Event("change")));

  constructor() {
    super();
    live.addEventListener("event", ({ detail }) => this.#take(detail));
    live.addEventListener("open", () => this.#begin());
  }

  clear() {
    this.#run += 1;
    this.rows = new Map();
    this.isComplete = this.#isWhole = this.#isLoading = this.#again = false;
    this.#heard = this.#ahead = 0;
    clearTimeout(this.#timer);
  }

  /** The change up to which all rows together are true; null while some are ahead of the others, or behind. */
  get revision() { return this.#isWhole && this.#heard >= this.#ahead ? this.#heard : null; }

  /** How many are in each state. */
  counts() {
    const counts = Object.fromEntries(STATES.map((state) => [state, 0]));
    for (const row of this.rows.values()) counts[row.state] = (counts[row.state] ?? 0) + 1;
    return counts;
  }

  /** A new socket, perhaps of a new process, which counts anew: whatever it says is newer than what we have. */
  #begin() {
    this.#heard = this.#ahead = 0;
    this.#isWhole = false;
    for (const row of this.rows.values()) row.revision = -1;
    this.#isLoading = false;
    this.load();
  }

  async load() {
    if (this.#isLoading) { this.#again = true; return; }
    const run = this.#run += 1;
    clearTimeout(this.#timer);
    this.#isLoading = true;
    this.#again = false;
    const seen = new Set();
    let first = null, last = null;
    try {
      for (let offset = 0; offset !== null;) {
        const page = await get(`/api/sessions?offset=${offset}&limit=${PAGE}`);
        if (run !== this.#run) return;
        live.heard();
        first ??= page.revision;
        last = page.revision;
        for (const row of page.sessions) { seen.add(row.id); this.#put(row); }
        offset = page.next;
        this.#tell();
      }
      for (const [id, row] of this.rows) if (!seen.has(id) && row.revision <= first) this.rows.delete(id);
      // If nothing has changed since the first page was asked for, the pages are of one moment.
      if (first === last && this.#ahead <= first) this.#heard = Math.max(this.#heard, first);
      this.isComplete = true;
      this.#isWhole = !this.#again;
      this.loadedAt = Date.now();
      this.error = null;
    } catch (error) {
      if (run !== this.#run) return;
      this.error = error;
    }
    this.#isLoading = false;
    this.#tell();
    if (this.#again) this.load();
    else this.#timer = setTimeout(() => { if (!live.isStale) this.load(); }, RELOAD_MS);
  }

  /** Rows that somebody read from the API. */
  put(rows) {
    for (const row of rows) if (this.rows.has(row.id)) this.#put(row);
    this.#tell();
  }

  #put(row) {
    const known = this.rows.get(row.id);
    if (known && known.revision > row.revision) return;
    this.rows.set(row.id, row);
    this.#ahead = Math.max(this.#ahead, row.revision);
  }

  #take({ event, payload }) {
    if (event === "stream.lost") { this.#isWhole = false; this.load(); return; }
    if (!event.startsWith("session.") || payload?.breaker === undefined) return;
    this.#heard = Math.max(this.#heard, payload.revision);
    const known = this.rows.get(payload.id);
    if (known && known.revision > payload.revision) return;
    this.rows.set(payload.id, payload);
    this.#tell();
  }
}

export const fleet = new Fleet();
