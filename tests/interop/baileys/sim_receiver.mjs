/*
 * sim_receiver.mjs - the simulator's whole fleet as real Baileys sessions in one process, which read what is written to them.
 *
 * Usage: node sim_receiver.mjs INFO_JSON
 *
 * Logs in as every device of the fleet, ten at a time, and prints { "open": N }. Each line on stdin is answered with { "texts": N }, how
 * many texts were decrypted and came out as `messages.upsert`. Keys are kept in memory, from the files on: the least that an
 * application can do with what changes, and less than one can that must not lose it. Ends with its stdin.
 */
import fs from 'node:fs'
import https from 'node:https'
import path from 'node:path'
import readline from 'node:readline'
import pino from 'pino'
import makeWASocket, { useMultiFileAuthState, WA_CERT_DETAILS } from 'baileys'

console.info = console.log = console.error // the Signal library's words
const info = JSON.parse(process.argv[2])
const tell = told => process.stdout.write(JSON.stringify(told) + '\n')
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(info.rootKeyHex, 'hex')
const agent = info.caFile ? new https.Agent({ ca: fs.readFileSync(info.caFile), rejectUnauthorized: true }) : undefined
const logger = pino({ level: 'silent' })
let texts = 0

/** what the files hold, read when it is first asked for; what changes stays here */
const inMemory = files => {
	const data = new Map()
	return {
		get: async (type, ids) => {
			const unread = ids.filter(id => !data.has(`${type} ${id}`))
			const read = unread.length ? await files.get(type, unread) : {}
			for (const id of unread) data.set(`${type} ${id}`, read[id])
			return Object.fromEntries(ids.map(id => [id, data.get(`${type} ${id}`)]).filter(([, value]) => value))
		},
		set: async update => {
			for (const [type, changed] of Object.entries(update)) for (const [id, value] of Object.entries(changed)) data.set(`${type} ${id}`, value)
		}
	}
}

const open = async name => {
	const { state } = await useMultiFileAuthState(path.join(info.credentials, name))
	const auth = { creds: state.creds, keys: inMemory(state.keys) }
	const sock = makeWASocket({ auth, logger, agent, waWebSocketUrl: info.url })
	sock.ev.on('creds.update', () => {}) // where an application would save them
	sock.ev.on('messages.upsert', ({ messages }) => (texts += messages.filter(({ message }) => message?.conversation).length))
	await new Promise((resolve, reject) => {
		setTimeout(() => reject(new Error(`${name}: no login`)), 60_000).unref()
		sock.ev.on('connection.update', ({ connection, lastDisconnect }) => {
			if (connection === 'open') resolve()
			if (connection === 'close') reject(lastDisconnect?.error)
		})
	})
}

const names = fs.readdirSync(info.credentials).sort()
for (let i = 0; i < names.length; i += 10) await Promise.all(names.slice(i, i + 10).map(open))
tell({ open: names.length })
for await (const _ of readline.createInterface({ input: process.stdin })) tell({ texts })
process.exit(0)
