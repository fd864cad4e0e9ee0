// Devices whose end-to-end encryption is the real Baileys': JSON lines on stdin and stdout, see tests/support/signal_peers.py.
//
//     node signal_peer.mjs DIRECTORY
//
// Each device is an auth directory of useMultiFileAuthState below it, as a program's is; one that is there goes on.

import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { addTransactionCapability, Curve, DEFAULT_CONNECTION_CONFIG, useMultiFileAuthState } from 'baileys'
import pino from 'pino'

const directory = process.argv[2]
const logger = pino({ level: 'silent' })
// The library prints its failures, with stacks; they are expected here, and stdout is ours.
for (const name of ['log', 'info', 'warn', 'error']) console[name] = () => {}

const devices = new Map()
const hex = bytes => Buffer.from(bytes).toString('hex')
const unhex = text => Buffer.from(text, 'hex')
const typed = key => (key.length === 33 ? Buffer.from(key) : Buffer.concat([Buffer.from([5]), key]))
const jid = name => `${name}:1@s.whatsapp.net`

const open = async name => {
	const { state, saveCreds: save } = await useMultiFileAuthState(join(directory, name))
	const { creds, keys } = state
	creds.me ||= { id: jid(name), name }
	creds.registered = true
	await save()
	const store = addTransactionCapability(keys, logger, { maxCommitRetries: 1, delayBetweenTriesMs: 1 })
	const device = { name, creds, store, save, repository: DEFAULT_CONNECTION_CONFIG.makeSignalRepository({ creds, keys: store }, logger) }
	devices.set(name, device)
	return device
}

const operations = {
	async create({ device }) {
		await open(device)
		return {}
	},
	async bundle({ device, oneTime }) {
		const { creds, store, save } = devices.get(device)
		const { keyId, keyPair, signature } = creds.signedPreKey
		const out = {
			registrationId: creds.registrationId,
			identity: hex(typed(creds.signedIdentityKey.public)),
			signedPreKeyId: keyId,
			signedPreKey: hex(typed(keyPair.public)),
			signature: hex(signature)
		}
		if (oneTime) {
			const pair = Curve.generateKeyPair()
			out.preKeyId = creds.nextPreKeyId++
			out.preKey = hex(typed(pair.public))
			await store.set({ 'pre-key': { [out.preKeyId]: pair } })
			await save()
		}
		return out
	},
	async start({ device, peer, bundle }) {
		const session = {
			registrationId: bundle.registrationId,
			identityKey: unhex(bundle.identity),
			signedPreKey: { keyId: bundle.signedPreKeyId, publicKey: unhex(bundle.signedPreKey), signature: unhex(bundle.signature) }
		}
		if (bundle.preKeyId !== undefined) session.preKey = { keyId: bundle.preKeyId, publicKey: unhex(bundle.preKey) }
		await devices.get(device).repository.injectE2ESession({ jid: jid(peer), session })
		return {}
	},
	async encrypt({ device, peer, plaintext }) {
		const out = await devices.get(device).repository.encryptMessage({ jid: jid(peer), data: unhex(plaintext) })
		return { type: out.type, bytes: hex(out.ciphertext) }
	},
	async decrypt({ device, peer, type, bytes }) {
		const out = await devices.get(device).repository.decryptMessage({ jid: jid(peer), type, ciphertext: unhex(bytes) })
		return { plaintext: hex(out) }
	},
	async distribution({ device, group }) {
		const own = devices.get(device)
		const bytes = await own.repository.getSenderKeyDistributionMessage({ group, meId: own.creds.me.id })
		return { bytes: hex(bytes) }
	},
	async accept({ device, peer, group, bytes }) {
		await devices.get(device).repository.processSenderKeyDistributionMessage({
			item: { groupId: group, axolotlSenderKeyDistributionMessage: unhex(bytes) },
			authorJid: jid(peer)
		})
		return {}
	},
	async groupEncrypt({ device, group, plaintext }) {
		const own = devices.get(device)
		const out = await own.repository.encryptGroupMessage({ group, meId: own.creds.me.id, data: unhex(plaintext) })
		return { bytes: hex(out.ciphertext) }
	},
	async groupDecrypt({ device, peer, group, bytes }) {
		const out = await devices.get(device).repository.decryptGroupMessage({ group, authorJid: jid(peer), msg: unhex(bytes) })
		return { plaintext: hex(out) }
	}
}

for await (const line of createInterface({ input: process.stdin })) {
	const { op, ...request } = JSON.parse(line)
	let answer
	try {
		answer = await operations[op](request)
	} catch (error) {
		answer = { error: `${error.name}: ${error.message}` }
	}
	process.stdout.write(JSON.stringify(answer) + '\n')
}
