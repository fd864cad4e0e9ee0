/*
 * sim_login.mjs - does the real Baileys client live with a simulator that this project wrote?
 *
 * Usage: node sim_login.mjs INFO_JSON [--sessions N] [--tls]
 *
 * INFO_JSON is the line that the simulator prints. Credentials are the directories it wrote, loaded with the
 * library's own useMultiFileAuthState (from a copy: the library writes to them). Prints one line per check and
 * exits 1 if anything differs.
 */
import fs from 'node:fs'
import https from 'node:https'
import os from 'node:os'
import path from 'node:path'
import pino from 'pino'
import makeWASocket, { useMultiFileAuthState, WA_CERT_DETAILS } from 'baileys'

const argv = process.argv.slice(2)
const info = JSON.parse(argv[0])
const secure = argv.includes('--tls')
const many = Number(argv[argv.indexOf('--sessions') + 1]) || 25
const KEEP_ALIVE_MS = 400 // shortened from 30 s, so that a few seconds show many of them
const LIMIT_MS = 20_000
const sleep = ms => new Promise(r => setTimeout(r, ms))

WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(info.rootKeyHex, 'hex')
const url = secure ? info.tlsUrl : info.plainUrl
const agent = secure ? new https.Agent({ ca: fs.readFileSync(info.caFile), rejectUnauthorized: true }) : undefined
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'sim-login-'))

let passed = 0, failed = 0
const check = (name, ok, detail = '') => {
	ok ? passed++ : failed++
	console.log(`${ok ? 'ok  ' : 'FAIL'} ${name} ${detail}`)
}
const get = async route => (await fetch(info.control + route)).json()
const post = async (route, body = {}) => {
	const res = await fetch(info.control + route, { method: 'POST', body: JSON.stringify(body) })
	const json = await res.json()
	if (!res.ok) throw new Error(`${route}: ${json.error}`)
	return json
}

/** one session of the fleet: directory number `index` */
class Session {
	constructor(index) {
		this.name = fs.readdirSync(info.credentials).sort()[index]
		this.dir = path.join(scratch, this.name)
		if (!fs.existsSync(this.dir)) fs.cpSync(path.join(info.credentials, this.name), this.dir, { recursive: true })
		this.tags = {}
	}
	async open() {
		const { state, saveCreds } = await useMultiFileAuthState(this.dir)
		this.creds = state.creds
		this.user = state.creds.me.id.split(':')[0]
		this.state = 'connecting'
		this.sock = makeWASocket({
			auth: state, agent, waWebSocketUrl: url, keepAliveIntervalMs: KEEP_ALIVE_MS, logger: pino({ level: 'silent' })
		})
		this.sock.ev.on('creds.update', saveCreds)
		for (const tag of ['receipt', 'notification', 'message', 'ib'])
			this.sock.ws.on(`CB:${tag}`, () => (this.tags[tag] = (this.tags[tag] || 0) + 1))
		return new Promise(resolve => {
			const timer = setTimeout(() => resolve(this), LIMIT_MS)
			this.sock.ev.on('connection.update', update => {
				if (update.connection !== 'open' && update.connection !== 'close') return
				this.state = update.connection
				this.code = update.lastDisconnect?.error?.output?.statusCode
				clearTimeout(timer)
				resolve(this)
			})
		})
	}
	async closed(limitMs = 8_000) { // Baileys calls a silent server dead after its interval and 5 s
		for (let waited = 0; this.state !== 'close' && waited < limitMs; waited += 20) await sleep(20)
		return this
	}
	end = () => this.sock?.end(undefined)
}

const scheme = secure ? 'wss' : 'ws'
{
	const s = await new Session(0).open()
	check(`one login over ${scheme} reaches 'open'`, s.state === 'open', `code ${s.code}`)
	await sleep(KEEP_ALIVE_MS * 6)
	const row = (await get('/sessions')).find(r => r.user === s.user)
	check('it stays open through keep-alives', s.state === 'open' && row?.pings >= 3, `${row?.pings} pings`)
	check('the LID that the server names is kept', s.creds.me.lid === `9${s.user}:1@lid`, s.creds.me.lid)
	check('edge routing is kept for the next connection', s.creds.routingInfo?.length === 4)
	for (const template of ['receipt', 'notification', 'message', 'ib']) await post('/push', { user: s.user, n: 20, template, coalesce: 4 })
	await sleep(1_000)
	const [owed] = await get(`/owed?user=${s.user}`)
	const stats = await get('/stats')
	check('pushed stanzas arrive, and each is answered', ['receipt', 'notification', 'message'].every(tag => s.tags[tag] >= 20 && stats.ackByClass[tag] >= 20) && owed.count === 0,
		JSON.stringify({ got: s.tags, acks: stats.ackByClass, owed: owed.count }))
	s.end()
	await s.closed()
	const again = await new Session(0).open()
	const next = (await get('/sessions')).find(r => r.user === again.user)
	check('the next connection brings the routing info along', again.state === 'open' && next?.routingInfo === true)
	for (const shape of [{ splitBytes: 7 }, { splitBytes: 0, coalesce: true }, { coalesce: false, zlib: true }]) {
		again.tags = {}
		await post('/shape', { user: again.user, ...shape })
		await post('/push', { user: again.user, n: 10, template: 'ib' })
		await sleep(300)
		check(`understands frames that are ${Object.keys(shape).at(-1)}`, again.state === 'open' && again.tags.ib === 10, `${again.tags.ib}`)
	}
	const second = await new Session(0).open()
	await again.closed()
	check('a second connection of the device replaces the first', second.state === 'open' && again.code === 440, `code ${again.code}`)
	second.end()
	await second.closed()
}

const fault = async (name, want, script, before) => {
	await before?.()
	const s = await new Session(1).open()
	if (!before) await script(s.user)
	await s.closed()
	check(name, s.state === 'close' && s.code === want, `code ${s.code}`)
	s.end()
}
for (const reason of [400, 401, 402, 403, 405, 406, 409, 413, 414, 415, 418, 429, 500, 501, 503, 599])
	await fault(`login failure ${reason}`, reason, null, () => post('/login-policy', { mode: 'failure', reason, count: 1 }))
for (const code of [401, 403, 409, 413, 414, 429, 440, 500, 503, 515, 516, 599])
	await fault(`stream error ${code}`, code, user => post('/stream-error', { user, code }))
await fault('stream error conflict replaced', 440, user => post('/stream-error', { user, child: 'conflict', childAttrs: { type: 'replaced' } }))
await fault('stream error 401 with conflict device_removed', 401, user => post('/stream-error', { user, code: 401, child: 'conflict', childAttrs: { type: 'device_removed' } }))
await fault('stream error with an unanswered stanza', 500, user => post('/stream-error', { user, child: 'ack', childAttrs: { class: 'message', id: 'X' } }))
await fault('stream error with a conflict of an unknown kind', 440, user => post('/stream-error', { user, child: 'conflict', childAttrs: { type: 'tea_time' } }))
await fault('stream error xml-not-well-formed', 500, user => post('/stream-error', { user, child: 'xml-not-well-formed' }))
await fault('stream error of an unknown kind', 500, user => post('/stream-error', { user, child: 'tea-time' }))
await fault('stream end', 428, user => post('/stream-end', { user }))
await fault('close frame', 428, user => post('/close', { user }))
await fault('tcp reset', 428, user => post('/close', { user, hard: true }))
await fault('silence of the application', 408, user => post('/silent', { user, on: true }))
await post('/config', { minRevision: 4_000_000_000 })
await fault('a client that is too old', 405, null, () => {})
await post('/config', { minRevision: 0 })
{
	const s = await new Session(1).open()
	await post('/unlink', { user: s.user })
	await s.closed()
	check('unlinked while online', s.code === 401, `code ${s.code}`)
	const again = await new Session(1).open()
	check('and not let in again', again.state === 'close' && again.code === 401, `code ${again.code}`)
	await post('/relink', { user: s.user })
	const back = await new Session(1).open()
	check('until it is linked again', back.state === 'open', `code ${back.code}`)
	back.end()
}
{
	const list = Array.from({ length: many }, (_, i) => new Session(i + 2))
	const t0 = performance.now()
	await Promise.all(list.map(s => s.open()))
	const ms = performance.now() - t0
	check(`${many} at once reach 'open'`, list.every(s => s.state === 'open'), `${ms.toFixed(0)} ms`)
	await sleep(KEEP_ALIVE_MS * 4)
	const online = (await get('/stats')).online
	check('and stay', list.every(s => s.state === 'open') && online >= many, `${online} online`)
	list.forEach(s => s.end())
	await Promise.all(list.map(s => s.closed()))
}
const end = await get('/stats')
check('the server saw no protocol errors', end.protocolErrors === 0)
check('and two connections of one device only where that was the point', end.duplicates === 1, `${end.duplicates}`)
fs.rmSync(scratch, { recursive: true, force: true })
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
