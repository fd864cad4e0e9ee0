package main

import (
	"context"

	grouprecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/state/record"
)

// A device's store, in memory. Sessions and sender keys are kept as bytes, as whatsmeow keeps them.
type device struct {
	name           string
	identity       *identity.KeyPair
	registrationID uint32
	signed         *record.SignedPreKey
	nextPreKey     uint32
	preKeys        map[uint32][]byte
	sessions       map[string][]byte
	senderKeys     map[string][]byte
}

func (d *device) GetIdentityKeyPair() *identity.KeyPair { return d.identity }
func (d *device) GetLocalRegistrationID() uint32        { return d.registrationID }

func (d *device) SaveIdentity(context.Context, *protocol.SignalAddress, *identity.Key) error {
	return nil
}

func (d *device) IsTrustedIdentity(context.Context, *protocol.SignalAddress, *identity.Key) (bool, error) {
	return true, nil
}

func (d *device) LoadPreKey(_ context.Context, id uint32) (*record.PreKey, error) {
	if bytes, found := d.preKeys[id]; found {
		return record.NewPreKeyFromBytes(bytes, serializer.PreKeyRecord)
	}
	return nil, nil
}

func (d *device) StorePreKey(_ context.Context, id uint32, key *record.PreKey) error {
	d.preKeys[id] = key.Serialize()
	return nil
}

func (d *device) ContainsPreKey(_ context.Context, id uint32) (bool, error) {
	_, found := d.preKeys[id]
	return found, nil
}

func (d *device) RemovePreKey(_ context.Context, id uint32) error {
	delete(d.preKeys, id)
	return nil
}

func (d *device) LoadSession(_ context.Context, peer *protocol.SignalAddress) (*record.Session, error) {
	if bytes, found := d.sessions[peer.String()]; found {
		return record.NewSessionFromBytes(bytes, serializer.Session, serializer.State)
	}
	return record.NewSession(serializer.Session, serializer.State), nil
}

func (d *device) GetSubDeviceSessions(context.Context, string) ([]uint32, error) { return nil, nil }

func (d *device) StoreSession(_ context.Context, peer *protocol.SignalAddress, session *record.Session) error {
	d.sessions[peer.String()] = session.Serialize()
	return nil
}

func (d *device) ContainsSession(_ context.Context, peer *protocol.SignalAddress) (bool, error) {
	_, found := d.sessions[peer.String()]
	return found, nil
}

func (d *device) DeleteSession(_ context.Context, peer *protocol.SignalAddress) error {
	delete(d.sessions, peer.String())
	return nil
}

func (d *device) DeleteAllSessions(context.Context) error {
	clear(d.sessions)
	return nil
}

func (d *device) LoadSignedPreKey(_ context.Context, id uint32) (*record.SignedPreKey, error) {
	if id == d.signed.ID() {
		return d.signed, nil
	}
	return nil, nil
}

func (d *device) LoadSignedPreKeys(context.Context) ([]*record.SignedPreKey, error) {
	return []*record.SignedPreKey{d.signed}, nil
}

func (d *device) StoreSignedPreKey(context.Context, uint32, *record.SignedPreKey) error { return nil }

func (d *device) ContainsSignedPreKey(_ context.Context, id uint32) (bool, error) {
	return id == d.signed.ID(), nil
}

func (d *device) RemoveSignedPreKey(context.Context, uint32) error { return nil }

func senderKeyName(name *protocol.SenderKeyName) string {
	return name.GroupID() + "::" + name.Sender().String()
}

func (d *device) StoreSenderKey(_ context.Context, name *protocol.SenderKeyName, key *grouprecord.SenderKey) error {
	d.senderKeys[senderKeyName(name)] = key.Serialize()
	return nil
}

func (d *device) LoadSenderKey(_ context.Context, name *protocol.SenderKeyName) (*grouprecord.SenderKey, error) {
	if bytes, found := d.senderKeys[senderKeyName(name)]; found {
		return grouprecord.NewSenderKeyFromBytes(bytes, serializer.SenderKeyRecord, serializer.SenderKeyState)
	}
	return grouprecord.NewSenderKey(serializer.SenderKeyRecord, serializer.SenderKeyState), nil
}
