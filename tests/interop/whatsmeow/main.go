// Devices whose end-to-end encryption is the library of whatsmeow: JSON lines on stdin and stdout, see
// tests/support/signal_peers.py. The library is run, never read (docs/decisions/0013-signal-clean-room.md).
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/groups"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/util/keyhelper"
	"go.mau.fi/libsignal/util/optional"
)

var (
	background = context.Background()
	serializer = serialize.NewProtoBufSerializer()
	devices    = map[string]*device{}
)

type request struct {
	Op, Device, Peer, Group, Type, Plaintext, Bytes string
	OneTime                                         bool
	Bundle                                          bundle
}

type bundle struct {
	RegistrationID uint32  `json:"registrationId"`
	Identity       string  `json:"identity"`
	SignedPreKeyID uint32  `json:"signedPreKeyId"`
	SignedPreKey   string  `json:"signedPreKey"`
	Signature      string  `json:"signature"`
	PreKeyID       *uint32 `json:"preKeyId,omitempty"`
	PreKey         string  `json:"preKey,omitempty"`
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func unhex(text string) []byte { return must(hex.DecodeString(text)) }

func point(text string) ecc.ECPublicKeyable { return must(ecc.DecodePoint(unhex(text), 0)) }

func address(name string) *protocol.SignalAddress { return protocol.NewSignalAddress(name, 1) }

func create(name string) {
	pair := must(ecc.GenerateKeyPair())
	signed := must(ecc.GenerateKeyPair())
	signature := ecc.CalculateSignature(pair.PrivateKey(), signed.PublicKey().Serialize())
	devices[name] = &device{
		name:           name,
		identity:       identity.NewKeyPair(identity.NewKey(pair.PublicKey()), pair.PrivateKey()),
		registrationID: keyhelper.GenerateRegistrationID(),
		signed:         record.NewSignedPreKey(1, 0, signed, signature, serializer.SignedPreKeyRecord),
		nextPreKey:     1,
		preKeys:        map[uint32][]byte{},
		sessions:       map[string][]byte{},
		senderKeys:     map[string][]byte{},
	}
}

func (d *device) bundle(oneTime bool) bundle {
	signature := d.signed.Signature()
	out := bundle{
		RegistrationID: d.registrationID,
		Identity:       hex.EncodeToString(d.identity.PublicKey().Serialize()),
		SignedPreKeyID: d.signed.ID(),
		SignedPreKey:   hex.EncodeToString(d.signed.KeyPair().PublicKey().Serialize()),
		Signature:      hex.EncodeToString(signature[:]),
	}
	if oneTime {
		id := d.nextPreKey
		d.nextPreKey++
		pair := must(ecc.GenerateKeyPair())
		d.preKeys[id] = record.NewPreKey(id, pair, serializer.PreKeyRecord).Serialize()
		out.PreKeyID = &id
		out.PreKey = hex.EncodeToString(pair.PublicKey().Serialize())
	}
	return out
}

func (d *device) start(peer string, b bundle) {
	id := optional.NewEmptyUint32()
	var one ecc.ECPublicKeyable
	if b.PreKeyID != nil {
		id = optional.NewOptionalUint32(*b.PreKeyID)
		one = point(b.PreKey)
	}
	keys := prekey.NewBundle(b.RegistrationID, 1, id, b.SignedPreKeyID, one, point(b.SignedPreKey),
		[64]byte(unhex(b.Signature)), identity.NewKey(point(b.Identity)))
	if err := session.NewBuilderFromSignal(d, address(peer), serializer).ProcessBundle(background, keys); err != nil {
		panic(err)
	}
}

func (d *device) cipher(peer string) *session.Cipher {
	return session.NewCipher(session.NewBuilderFromSignal(d, address(peer), serializer), address(peer))
}

func (d *device) decrypt(peer, kind string, bytes []byte) []byte {
	if kind == "pkmsg" {
		message := must(protocol.NewPreKeySignalMessageFromBytes(bytes, serializer.PreKeySignalMessage, serializer.SignalMessage))
		return must(d.cipher(peer).DecryptMessage(background, message))
	}
	message := must(protocol.NewSignalMessageFromBytes(bytes, serializer.SignalMessage))
	return must(d.cipher(peer).Decrypt(background, message))
}

func (d *device) group(owner, group string) (*groups.SessionBuilder, *protocol.SenderKeyName) {
	return groups.NewGroupSessionBuilder(d, serializer), protocol.NewSenderKeyName(group, address(owner))
}

func answer(r request) (out any, err error) {
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("%v", caught)
		}
	}()
	if r.Op == "create" {
		create(r.Device)
		return struct{}{}, nil
	}
	d := devices[r.Device]
	text := map[string]string{}
	switch r.Op {
	case "bundle":
		return d.bundle(r.OneTime), nil
	case "start":
		d.start(r.Peer, r.Bundle)
	case "encrypt":
		message := must(d.cipher(r.Peer).Encrypt(background, unhex(r.Plaintext)))
		text["type"] = map[uint32]string{protocol.PREKEY_TYPE: "pkmsg", protocol.WHISPER_TYPE: "msg"}[message.Type()]
		text["bytes"] = hex.EncodeToString(message.Serialize())
	case "decrypt":
		text["plaintext"] = hex.EncodeToString(d.decrypt(r.Peer, r.Type, unhex(r.Bytes)))
	case "distribution":
		builder, name := d.group(d.name, r.Group)
		text["bytes"] = hex.EncodeToString(must(builder.Create(background, name)).Serialize())
	case "accept":
		builder, name := d.group(r.Peer, r.Group)
		message := must(protocol.NewSenderKeyDistributionMessageFromBytes(unhex(r.Bytes), serializer.SenderKeyDistributionMessage))
		if err := builder.Process(background, name, message); err != nil {
			panic(err)
		}
	case "groupEncrypt":
		builder, name := d.group(d.name, r.Group)
		message := must(groups.NewGroupCipher(builder, name, d).Encrypt(background, unhex(r.Plaintext)))
		text["bytes"] = hex.EncodeToString(message.SignedSerialize())
	case "groupDecrypt":
		builder, name := d.group(r.Peer, r.Group)
		message := must(protocol.NewSenderKeyMessageFromBytes(unhex(r.Bytes), serializer.SenderKeyMessage))
		text["plaintext"] = hex.EncodeToString(must(groups.NewGroupCipher(builder, name, d).Decrypt(background, message)))
	default:
		panic("unknown operation " + r.Op)
	}
	return text, nil
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	encoder := json.NewEncoder(os.Stdout)
	os.Stdout = os.Stderr // where the library logs to
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			panic(err)
		}
		out, err := answer(r)
		if err != nil {
			out = map[string]string{"error": err.Error()}
		}
		if err := encoder.Encode(out); err != nil {
			panic(err)
		}
	}
}
