package main

import (
	"context"
	"strings"
	"sync"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// What a client must remember to read and write messages, in memory; what it may forget is left to the no-op store.
type memory struct {
	store.NoopStore
	lock       sync.Mutex
	sessions   map[string][]byte
	identities map[string][32]byte
	preKeys    map[uint32]*keys.PreKey
	uploaded   map[uint32]bool
	nextPreKey uint32
	senderKeys map[string][]byte
	lids       map[string]string
	pns        map[string]string
}

func newMemory() *memory {
	return &memory{
		sessions: map[string][]byte{}, identities: map[string][32]byte{}, preKeys: map[uint32]*keys.PreKey{},
		uploaded: map[uint32]bool{}, nextPreKey: 1, senderKeys: map[string][]byte{},
		lids: map[string]string{}, pns: map[string]string{},
	}
}

func (m *memory) locked() func() {
	m.lock.Lock()
	return m.lock.Unlock
}

func (m *memory) PutIdentity(_ context.Context, address string, key [32]byte) error {
	defer m.locked()()
	m.identities[address] = key
	return nil
}

func (m *memory) IsTrustedIdentity(_ context.Context, address string, key [32]byte) (bool, error) {
	defer m.locked()()
	known, found := m.identities[address]
	return !found || known == key, nil
}

func (m *memory) DeleteIdentity(_ context.Context, address string) error {
	defer m.locked()()
	delete(m.identities, address)
	return nil
}

func (m *memory) GetSession(_ context.Context, address string) ([]byte, error) {
	defer m.locked()()
	return m.sessions[address], nil
}

func (m *memory) HasSession(_ context.Context, address string) (bool, error) {
	defer m.locked()()
	_, found := m.sessions[address]
	return found, nil
}

func (m *memory) GetManySessions(_ context.Context, addresses []string) (map[string][]byte, error) {
	defer m.locked()()
	found := map[string][]byte{}
	for _, address := range addresses {
		found[address] = m.sessions[address]
	}
	return found, nil
}

func (m *memory) PutSession(_ context.Context, address string, session []byte) error {
	defer m.locked()()
	m.sessions[address] = session
	return nil
}

func (m *memory) PutManySessions(_ context.Context, sessions map[string][]byte) error {
	defer m.locked()()
	for address, session := range sessions {
		m.sessions[address] = session
	}
	return nil
}

func (m *memory) DeleteSession(_ context.Context, address string) error {
	defer m.locked()()
	delete(m.sessions, address)
	return nil
}

func (m *memory) MigratePNToLID(_ context.Context, pn, lid types.JID) error {
	defer m.locked()()
	from, to := pn.SignalAddressUser()+":", lid.SignalAddressUser()+":"
	move(m.sessions, from, to)
	move(m.identities, from, to)
	return nil
}

func move[T any](records map[string]T, from, to string) {
	for address, record := range records {
		if device, found := strings.CutPrefix(address, from); found {
			records[to+device] = record
			delete(records, address)
		}
	}
}

func (m *memory) newPreKey() *keys.PreKey {
	key := keys.NewPreKey(m.nextPreKey)
	m.preKeys[key.KeyID] = key
	m.nextPreKey++
	return key
}

func (m *memory) GetOrGenPreKeys(_ context.Context, count uint32) ([]*keys.PreKey, error) {
	defer m.locked()()
	made := []*keys.PreKey{}
	for range count {
		made = append(made, m.newPreKey())
	}
	return made, nil
}

func (m *memory) GenOnePreKey(context.Context) (*keys.PreKey, error) {
	defer m.locked()()
	m.uploaded[m.nextPreKey] = true
	return m.newPreKey(), nil
}

func (m *memory) GetPreKey(_ context.Context, id uint32) (*keys.PreKey, error) {
	defer m.locked()()
	return m.preKeys[id], nil
}

func (m *memory) RemovePreKey(_ context.Context, id uint32) error {
	defer m.locked()()
	delete(m.preKeys, id)
	delete(m.uploaded, id)
	return nil
}

func (m *memory) MarkPreKeysAsUploaded(_ context.Context, upTo uint32) error {
	defer m.locked()()
	for id := range m.preKeys {
		if id <= upTo {
			m.uploaded[id] = true
		}
	}
	return nil
}

func (m *memory) UploadedPreKeyCount(context.Context) (int, error) {
	defer m.locked()()
	return len(m.uploaded), nil
}

func (m *memory) PutSenderKey(_ context.Context, group, user string, key []byte) error {
	defer m.locked()()
	m.senderKeys[group+" "+user] = key
	return nil
}

func (m *memory) GetSenderKey(_ context.Context, group, user string) ([]byte, error) {
	defer m.locked()()
	return m.senderKeys[group+" "+user], nil
}

func (m *memory) PutLIDMapping(_ context.Context, lid, pn types.JID) error {
	defer m.locked()()
	m.lids[pn.User], m.pns[lid.User] = lid.User, pn.User
	return nil
}

func (m *memory) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	for _, mapping := range mappings {
		_ = m.PutLIDMapping(ctx, mapping.LID, mapping.PN)
	}
	return nil
}

func (m *memory) GetLIDForPN(_ context.Context, pn types.JID) (types.JID, error) {
	defer m.locked()()
	return other(m.lids, pn, types.HiddenUserServer), nil
}

func (m *memory) GetPNForLID(_ context.Context, lid types.JID) (types.JID, error) {
	defer m.locked()()
	return other(m.pns, lid, types.DefaultUserServer), nil
}

func (m *memory) GetManyLIDsForPNs(_ context.Context, pns []types.JID) (map[types.JID]types.JID, error) {
	defer m.locked()()
	found := map[types.JID]types.JID{}
	for _, pn := range pns {
		if lid := other(m.lids, pn, types.HiddenUserServer); !lid.IsEmpty() {
			found[pn] = lid
		}
	}
	return found, nil
}

func other(users map[string]string, jid types.JID, server string) types.JID {
	user, found := users[jid.User]
	if !found {
		return types.EmptyJID
	}
	return types.JID{User: user, Device: jid.Device, Server: server}
}
