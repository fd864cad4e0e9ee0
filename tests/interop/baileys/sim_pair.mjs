/*
 * sim_pair.mjs - does the real Baileys client link itself with the phone that our simulator plays?
 *
 * Usage: node sim_pair.mjs INFO_JSON
 *
 * INFO_JSON is the line that the simulator prints. Each attempt begins with an empty auth state: a QR code that
 * `POST /pair` scans, or a pairing code that `POST /enter-code` types in. Prints one line per check and exits 1 if
 * anything differs.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pino from 'pino'
import makeWASocket, { useMultiFileAuthState, WA_CERT_DETAILS } from 'baileys'

const info = JSON.parse(process.argv[2])
const LIMIT_MS = 20_000
const sleep = ms => new Promise(r => setTimeout(r, ms))

WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(info.rootKeyHex, 'hex')
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'sim-pair-'))

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

/** one device of Baileys, linked or not */
class Device {
	constructor(name) { this.dir = path.join(scratch, name) }
	async open() {
		const { state, saveCreds } = await useMultiFileAuthState(this.dir)
		this.creds = state.creds
		this.state = this.qr = this.code = undefined
		this.sock = makeWASocket({ auth: state, waWebSocketUrl: info.plainUrl, logger: pino({ level: 'silent' }) })
		this.sock.ev.on('creds.update', saveCreds)
		this.sock.ev.on('connection.update', update => {
			if (update.qr) this.qr = update.qr
			if (update.connection !== 'open' && update.connection !== 'close') return
			this.state = update.connection
			this.code = update.lastDisconnect?.error?.output?.statusCode
		})
		return this
	}
	async until(what, condition, limitMs = LIMIT_MS) {
		for (let waited = 0; waited < limitMs; waited += 20) {
			if (condition()) return true
			await sleep(20)
		}
		console.log(`     no ${what}: state ${this.state}, code ${this.code}`)
		return false
	}
	end = () => this.sock?.end(undefined)
}

/** after the 515: the linked device logs in */
async function logsIn(name, device, jid) {
	check(`${name}: told to connect anew`, (await device.until('close', () => device.state === 'close')) && device.code === 515, `code ${device.code}`)
	check(`${name}: knows who it is`, device.creds.me?.id === jid, device.creds.me?.id)
	await device.open()
	check(`${name}: logs in`, await device.until('open', () => device.state === 'open'))
	device.end()
}

{
	const device = await new Device('qr').open()
	await device.until('qr', () => device.qr)
	const { jid, lid } = await post('/pair', { qr: device.qr, phone: '15550001111' })
	await logsIn('QR code', device, jid)
	check('QR code: the LID is kept', device.creds.me?.lid === lid, device.creds.me?.lid)
}
{
	const phone = '15550002222'
	const device = await new Device('code').open()
	await device.until('qr', () => device.qr)
	const code = await device.sock.requestPairingCode(phone)
	check('pairing code: the server offers it', code.length === 8, code)
	await post('/enter-code', { phone, code })
	await logsIn('pairing code', device, `${phone}:2@s.whatsapp.net`)
}
{
	const phone = '15550003333'
	const device = await new Device('mistyped').open()
	await device.until('qr', () => device.qr)
	await device.sock.requestPairingCode(phone)
	await post('/enter-code', { phone, code: '11111111' })
	const events = async () => (await get('/events')).filter(event => event.type === 'code-wrong')
	let wrong = []
	for (let i = 0; i < 100 && !wrong.length; i++) { wrong = await events(); await sleep(50) }
	check('a mistyped code links nothing', wrong.length === 1 && device.state === undefined)
	device.end()
}
{
	// The HMAC only: Baileys 7.0.0-rc13 takes any account signature, since its Curve.verify does not look at the answer.
	const device = await new Device('forged').open()
	await device.until('qr', () => device.qr)
	await post('/pair', { qr: device.qr, fault: 'bad-hmac' })
	const refused = await device.until('close', () => device.state === 'close')
	check('a consent under another secret is refused by Baileys as well', refused && !device.creds.me && device.code !== 515, `code ${device.code}`)
	device.end()
}
const end = await get('/stats')
check('two devices were linked', end.paired === 2, `${end.paired}`)
check('the server saw no protocol errors', end.protocolErrors === 0, `${end.protocolErrors}`)
fs.rmSync(scratch, { recursive: true, force: true })
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
