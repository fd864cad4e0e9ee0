// Writes auth directories with the real Baileys, for tests/vectors/baileys_auth. Test keys only.
//
//     node make_auth.mjs OUT
//
// The directories go through useMultiFileAuthState twice (written, read back, written again), as they do in a
// program that ran for a while: the second pass changes how Baileys encodes some of the values.

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { Curve, proto, useMultiFileAuthState } from 'baileys'

const out = process.argv[2]
if (!out) {
	console.error('usage: node make_auth.mjs OUT')
	process.exit(2)
}

const bytes = (n, fill) => Buffer.alloc(n, fill)

// What pairing adds to fresh credentials.
const pair = (creds, { user, device, lid, routing }) => {
	creds.me = { id: `${user}:${device}@s.whatsapp.net`, lid: `${lid}:${device}@lid`, name: `Shop ${user}` }
	creds.platform = 'android'
	creds.registered = true
	creds.nextPreKeyId = 4
	creds.firstUnuploadedPreKeyId = 4
	creds.account = proto.ADVSignedDeviceIdentity.fromObject({
		details: bytes(20, 0x11),
		accountSignatureKey: bytes(32, 0x22),
		accountSignature: bytes(64, 0x33),
		deviceSignature: bytes(64, 0x44)
	})
	if (routing) creds.routingInfo = Buffer.from('08020805', 'hex')
}

const signalKeys = user => ({
	'pre-key': Object.fromEntries([1, 2, 3].map(id => [id, Curve.generateKeyPair()])),
	session: { [`${user}_1.0`]: bytes(40, 0x55), [`${user}.12`]: bytes(41, 0x56) },
	'sender-key': { [`120363000000000001@g.us::${user}::0`]: bytes(30, 0x57) },
	'sender-key-memory': { '120363000000000001@g.us': { [`${user}:1@s.whatsapp.net`]: true } },
	'app-state-sync-key': {
		'AAAAAK/h': proto.Message.AppStateSyncKeyData.fromObject({ keyData: bytes(32, 0x58), timestamp: 1700000000000 })
	},
	'app-state-sync-version': { regular_low: { version: 7, hash: bytes(128, 0x59), indexValueMap: {} } },
	'lid-mapping': { [user]: `9${user}`, [`9${user}_reverse`]: user },
	'device-list': { [user]: ['0', '1', '12'] },
	tctoken: { [`${user}@s.whatsapp.net`]: { token: bytes(16, 0x5a), timestamp: '1700000000' } },
	'identity-key': { [`${user}.0`]: bytes(33, 0x05) },
	'future-type': { 'made/by:later': { anything: [1, 2, 3] } }
})

const make = async (name, details) => {
	const directory = join(out, name)
	rmSync(directory, { recursive: true, force: true })
	mkdirSync(directory, { recursive: true })
	const first = await useMultiFileAuthState(directory)
	if (details) {
		pair(first.state.creds, details)
		await first.state.keys.set(signalKeys(details.user))
	}
	await first.saveCreds()
	const second = await useMultiFileAuthState(directory)
	await second.saveCreds()
}

await make('one', { user: '15550001111', device: 3, lid: '100000000000001', routing: true })
await make('two', { user: '15550002222', device: 12, lid: '100000000000002', routing: false })
await make('unpaired', null)
