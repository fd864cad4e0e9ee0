/*
 * sim_conversation.mjs - two real Baileys write to each other through the simulator; one of them is then taken over.
 *
 * Usage: node sim_conversation.mjs INFO_JSON --rounds N --count N [--back]
 *
 * Devices 0 and 1 of the simulator's fleet write ROUNDS texts to each other, in turns. Then device 0 ends, and a line
 * { directory, read } says where its auth state is. After a line on stdin device 1 writes COUNT more texts, waits for
 * their delivery receipts, and a line { sent, receipts, retries } is printed. With --back a second line on stdin names the
 * directory that device 0 goes on with: both write COUNT texts in turns, and { read, heard, retries } says what arrived.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import readline from 'node:readline'
import pino from 'pino'
import makeWASocket, { useMultiFileAuthState, WA_CERT_DETAILS } from 'baileys'

const argv = process.argv.slice(2)
const option = name => Number(argv[argv.indexOf(name) + 1])
const info = JSON.parse(argv[0])
const LIMIT_MS = 60_000
const limited = (promise, what) =>
	Promise.race([promise, new Promise((_, reject) => setTimeout(() => reject(new Error(what)), LIMIT_MS).unref())])

WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(info.rootKeyHex, 'hex')
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'sim-conversation-'))

class Device {
	constructor(index) {
		this.name = fs.readdirSync(info.credentials).sort()[index]
		this.directory = path.join(scratch, this.name)
		fs.cpSync(path.join(info.credentials, this.name), this.directory, { recursive: true })
		this.read = []
		this.receipts = new Set()
		this.retries = 0
		this.changed = () => {}
	}
	async open() {
		const { state, saveCreds } = await useMultiFileAuthState(this.directory)
		this.jid = state.creds.me.id.replace(/:\d+@/, '@')
		this.sock = makeWASocket({ auth: state, waWebSocketUrl: info.plainUrl, logger: pino({ level: 'silent' }) })
		this.sock.ev.on('creds.update', saveCreds)
		this.sock.ev.on('messages.upsert', ({ messages }) => {
			for (const { key, message: m } of messages)
				if (!key.fromMe) this.read.push(m?.conversation ?? m?.extendedTextMessage?.text)
			this.changed()
		})
		this.sock.ws.on('CB:receipt', node => {
			node.attrs.type === 'retry' ? this.retries++ : this.receipts.add(node.attrs.id)
			this.changed()
		})
		await limited(new Promise((resolve, reject) => this.sock.ev.on('connection.update', update => {
			if (update.connection === 'open') resolve()
			if (update.connection === 'close') reject(update.lastDisconnect?.error)
		})), 'no login')
	}
	until = condition => limited(new Promise(resolve => {
		this.changed = () => condition() && resolve()
		this.changed()
	}), `not in time: ${this.name} has read ${this.read.length} and ${this.receipts.size} receipts`)
	async write(to, text) {
		const { key } = await this.sock.sendMessage(to.jid, { text })
		return [key.id, text]
	}
}

const [taken, other] = [new Device(0), new Device(1)]
await taken.open()
await other.open()
for (let n = 0; n < option('--rounds'); n++) {
	await other.write(taken, `to ${n}`)
	await taken.until(() => taken.read.length > n)
	await taken.write(other, `fro ${n}`)
	await other.until(() => other.read.length > n)
}
taken.sock.end(undefined)
await new Promise(resolve => setTimeout(resolve, 500)) // its files are written behind its events
console.log(JSON.stringify({ directory: taken.directory, read: taken.read }))
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
await lines.next()
const sent = []
for (let n = 0; n < option('--count'); n++) sent.push(await other.write(taken, `after ${n}`))
await other.until(() => sent.every(([id]) => other.receipts.has(id)))
console.log(JSON.stringify({ sent, receipts: [...other.receipts], retries: other.retries }))
if (argv.includes('--back')) {
	taken.directory = (await lines.next()).value
	const [before, heard] = [taken.read.length, other.read.length]
	await taken.open()
	for (let n = 0; n < option('--count'); n++) {
		await other.write(taken, `back ${n}`)
		await taken.until(() => taken.read.length > before + n)
		await taken.write(other, `home ${n}`)
		await other.until(() => other.read.length > heard + n)
	}
	const retries = other.retries + taken.retries
	console.log(JSON.stringify({ read: taken.read.slice(before), heard: other.read.slice(heard), retries }))
	taken.sock.end(undefined)
}
fs.rmSync(scratch, { recursive: true })
process.exit(0)
