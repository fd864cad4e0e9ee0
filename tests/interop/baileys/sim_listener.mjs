/*
 * sim_listener.mjs - real Baileys reads what another client of the simulator writes to it.
 *
 * Usage: node sim_listener.mjs INFO_JSON --index N|--directory DIR [--debug]
 *
 * Logs in as device N of the simulator's fleet (from a copy of its credentials), or as the device whose files are in DIR (which it
 * goes on with), and prints { "jid" }. Then a JSON line for each message that it has read: { id, from, by, text, quoted, quotedText,
 * enc }, `by` being who wrote it in a group, `enc` how it was encrypted. Lines on stdin: `say JID TEXT` writes ({ said: id }), `lose`
 * throws its sessions and the sender keys of others away, so that it must ask for what comes next ({ lost: n }). Ends with its
 * stdin, once its files are written.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import readline from 'node:readline'
import pino from 'pino'
import makeWASocket, { useMultiFileAuthState, WA_CERT_DETAILS } from 'baileys'

console.info = console.log = console.error // the Signal library's words
const argv = process.argv.slice(2)
const info = JSON.parse(argv[0])
const tell = told => process.stdout.write(JSON.stringify(told) + '\n')

WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(info.rootKeyHex, 'hex')
const option = name => argv[argv.indexOf(name) + 1]
const isCopy = !argv.includes('--directory')
const directory = isCopy ? fs.mkdtempSync(path.join(os.tmpdir(), 'sim-listener-')) : option('--directory')
if (isCopy) {
	const name = fs.readdirSync(info.credentials).sort()[Number(option('--index'))]
	fs.cpSync(path.join(info.credentials, name), directory, { recursive: true })
}

const { state, saveCreds } = await useMultiFileAuthState(directory)
const sock = makeWASocket({
	auth: state,
	waWebSocketUrl: info.plainUrl,
	logger: pino({ level: argv.includes('--debug') ? 'debug' : 'silent' }, pino.destination(2))
})
sock.ev.on('creds.update', saveCreds)
const encs = new Map()
sock.ws.on('CB:message', ({ attrs, content }) => {
	const types = (Array.isArray(content) ? content : []).filter(child => child.tag === 'enc').map(child => child.attrs.type)
	encs.set(attrs.id, types.join())
})
sock.ev.on('messages.upsert', ({ messages }) => {
	for (const { key, message } of messages) {
		const text = message?.conversation ?? message?.extendedTextMessage?.text
		if (key.fromMe || text === undefined || text === null) continue
		const context = message?.extendedTextMessage?.contextInfo
		tell({
			id: key.id,
			from: key.remoteJid,
			by: key.participant ?? null,
			text,
			quoted: context?.stanzaId ?? null,
			quotedText: context?.quotedMessage?.conversation ?? null,
			enc: encs.get(key.id) ?? null
		})
	}
})
await new Promise((resolve, reject) => {
	setTimeout(() => reject(new Error('no login')), 60_000).unref()
	sock.ev.on('connection.update', update => {
		if (update.connection === 'open') resolve()
		if (update.connection === 'close') reject(update.lastDisconnect?.error)
	})
})
tell({ jid: state.creds.me.id.replace(/:\d+@/, '@') })
for await (const line of readline.createInterface({ input: process.stdin })) {
	const [verb, jid, ...words] = line.split(' ')
	if (verb === 'say') {
		const { key } = await sock.sendMessage(jid, { text: words.join(' ') })
		tell({ said: key.id })
	} else if (verb === 'lose') {
		let lost = 0
		for (const kind of ['session', 'sender-key']) {
			const files = fs.readdirSync(directory).filter(file => file.startsWith(`${kind}-`) && !file.startsWith('sender-key-memory'))
			const ids = files.map(file => file.slice(kind.length + 1, -'.json'.length).replaceAll('--', '::'))
			await state.keys.set({ [kind]: Object.fromEntries(ids.map(id => [id, null])) })
			lost += ids.length
		}
		tell({ lost })
	}
}
sock.end(undefined)
await new Promise(resolve => setTimeout(resolve, 500)) // its files are written behind its events
if (isCopy) fs.rmSync(directory, { recursive: true })
process.exit(0)
