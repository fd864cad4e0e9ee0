/*
 * sim_messages.mjs - real Baileys writes to another client of the simulator.
 *
 * Usage: node sim_messages.mjs INFO_JSON --index N --to JID --count N [--patience MS] [--debug]
 *
 * Logs in as device N of the simulator's fleet (from a copy of its credentials), sends COUNT texts to JID, waits for a
 * delivery receipt of each, and prints one JSON line: { sent: [[id, text]], receipts: [id], retries: n }.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pino from 'pino'
import makeWASocket, { useMultiFileAuthState, WA_CERT_DETAILS } from 'baileys'

const argv = process.argv.slice(2)
const option = name => argv[argv.indexOf(name) + 1]
const info = JSON.parse(argv[0])
const count = Number(option('--count'))
const LIMIT_MS = 60_000
const patienceMs = argv.includes('--patience') ? Number(option('--patience')) : LIMIT_MS

WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(info.rootKeyHex, 'hex')
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'sim-messages-'))
const name = fs.readdirSync(info.credentials).sort()[Number(option('--index'))]
fs.cpSync(path.join(info.credentials, name), scratch, { recursive: true })

const { state, saveCreds } = await useMultiFileAuthState(scratch)
const texts = new Map()
const sock = makeWASocket({
	auth: state,
	waWebSocketUrl: info.plainUrl,
	logger: pino({ level: argv.includes('--debug') ? 'debug' : 'silent' }, pino.destination(2)),
	getMessage: async key => (texts.has(key.id) ? { conversation: texts.get(key.id) } : undefined)
})
sock.ev.on('creds.update', saveCreds)
const receipts = new Set()
let retries = 0
let allReceipted = () => {}
sock.ws.on('CB:receipt', node => {
	if (node.attrs.type === 'retry') return retries++
	receipts.add(node.attrs.id)
	for (const child of Array.isArray(node.content) ? node.content : [])
		for (const item of child.tag === 'list' ? child.content : []) receipts.add(item.attrs.id)
	if (receipts.size >= count) allReceipted()
})
await new Promise((resolve, reject) => {
	setTimeout(() => reject(new Error('no login')), LIMIT_MS).unref()
	sock.ev.on('connection.update', update => {
		if (update.connection === 'open') resolve()
		if (update.connection === 'close') reject(update.lastDisconnect?.error)
	})
})
const receipted = new Promise(resolve => (allReceipted = resolve))
const sent = []
for (let n = 0; n < count; n++) {
	const text = `message ${n} ✓ ${'x'.repeat((n * 37) % 300)}`
	const { key } = await sock.sendMessage(option('--to'), { text })
	texts.set(key.id, text)
	sent.push([key.id, text])
}
await Promise.race([receipted, new Promise(resolve => setTimeout(resolve, patienceMs))])
console.log(JSON.stringify({ sent, receipts: [...receipts], retries }))
fs.rmSync(scratch, { recursive: true })
process.exit(0)
