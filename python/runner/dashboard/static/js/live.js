// The WebSocket: what changes, as it changes. Comes back by itself, and knows how old what we show is.
import { get, ApiError } from "./api.js";

const FIRST_DELAY_MS = 500, MOST_DELAY_MS = 10_000;
const QUIET_MS = 15_000;   // without a word for so long, ask whether the runner is there
const STALE_MS = 25_000;   // heard nothing for so long: what we show is old, whatever the socket says
const LOST_MS = 1_500;     // a socket that comes back at once is no reason to alarm anybody

/** Events: "event" (detail: the envelope), "open" (again or first: load anew), "state" (stale or not). */
class Live extends EventTarget {
  heardAt = null;
  isStale = false;
  #socket = null;
  #delay = FIRST_DELAY_MS;
  #lostAt = null;
  #timers = [];
  #asking = false;

  start() {
    if (this.#timers.length) return;
    this.#timers = [setInterval(() => this.#look(), 500)];
    this.#connect();
  }

  stop() {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.heardAt = this.#lostAt = null;
    this.#delay = FIRST_DELAY_MS;
    this.#set(false);
  }

  get ageMs() { return this.heardAt === null ? null : Date.now() - this.heardAt; }

  /** An answer of the API is as good a sign of life as an event. */
  heard() { this.heardAt = Date.now(); }

  #connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = this.#socket = new WebSocket(`${scheme}//${location.host}/ws?events=*`);
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.#delay = FIRST_DELAY_MS;
      this.#lostAt = null;
      this.heard();
      this.#look();
      this.dispatchEvent(new Event("open"));
    };
    socket.onmessage = (message) => {
      if (socket !== this.#socket) return;
      this.heard();
      this.dispatchEvent(new CustomEvent("event", { detail: JSON.parse(message.data) }));
    };
    socket.onclose = () => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      this.#lostAt ??= Date.now();
      const delay = this.#delay * (0.5 + Math.random() / 2);
      this.#delay = Math.min(this.#delay * 2, MOST_DELAY_MS);
      setTimeout(() => { if (this.#timers.length && this.#socket === null) this.#connect(); }, delay);
      this.#ask();  // a browser does not say why an upgrade failed; a 401 shows itself here
    };
  }

  #look() {
    if (this.#socket?.readyState === WebSocket.OPEN && this.ageMs > QUIET_MS) this.#ask();
    const isLost = this.#lostAt !== null && Date.now() - this.#lostAt > LOST_MS;
    this.#set(isLost || this.ageMs > STALE_MS);
  }

  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    try {
      await get("/api/caller");
      if (this.#socket?.readyState === WebSocket.OPEN) this.heard();
    } catch (error) {
      if (!(error instanceof ApiError) && this.#socket?.readyState === WebSocket.OPEN && this.ageMs > STALE_MS) this.#socket.close();
    } finally { this.#asking = false; }
  }

  #set(isStale) {
    if (this.isStale === isStale) return;
    this.isStale = isStale;
    this.dispatchEvent(new Event("state"));
  }
}

export const live = new Live();
