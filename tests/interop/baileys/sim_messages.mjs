/*
 * sim_messages.mjs - real Baileys writes to another client of the simulator.
 *
 * Usage: node sim_messages.mjs INFO_JSON --index N --to JID[,JID…] --count N [--patience MS] [--one-by-one] [--debug]
 *
 * Logs in as device N of the simulator's fleet (from a copy of its credentials), sends COUNT texts to the JIDs in turn, waits for
 * a delivery receipt of each, and prints one JSON line: { sent: [[id, text]], receipts: [id], retries: n }.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pino from 'pino'
import makeWASocket, { generateMessageIDV2, useMultiFileAuthState, WA_CERT_DETAILS } from 'baileys'

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
let onReceipt = () => {}
sock.ws.on('CB:receipt', node => {
	if (node.attrs.type === 'retry') return retries++
	receipts.add(node.attrs.id)
	for (const child of Array.isArray(node.content) ? node.content : [])
		for (const item of child.tag === 'list' ? child.content : []) receipts.add(item.attrs.id)
	onReceipt()
})
await new Promise((resolve, reject) => {
	setTimeout(() => reject(new Error('no login')), LIMIT_MS).unref()
	sock.ev.on('connection.update', update => {
		if (update.connection === 'open') resolve()
		if (update.connection === 'close') reject(update.lastDisconnect?.error)
	})
})
const receipted = condition => new Promise(resolve => (onReceipt = () => condition() && resolve()))
const sent = []
const to = option('--to').split(',')
for (let n = 0; n < count; n++) {
	const text = `message ${n} ✓ ${'x'.repeat((n * 37) % 300)}`
	// Kept first: it may be asked for before sendMessage returns.
	const messageId = generateMessageIDV2(sock.user.id)
	texts.set(messageId, text)
	await sock.sendMessage(to[n % to.length], { text }, { messageId })
	sent.push([messageId, text])
	if (argv.includes('--one-by-one') && !receipts.has(messageId)) await receipted(() => receipts.has(messageId))
}
const all = receipts.size >= count ? undefined : receipted(() => receipts.size >= count)
await Promise.race([all, new Promise(resolve => setTimeout(resolve, patienceMs))])
fs.rmSync(scratch, { recursive: true })
// A pipe takes 64 KiB at once; exiting would drop the rest.
process.stdout.write(JSON.stringify({ sent, receipts: [...receipts], retries }) + '\n', () => process.exit(0))
