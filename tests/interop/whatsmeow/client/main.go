// Whole whatsmeow clients against our simulator: JSON lines on stdin and stdout, see tests/support/whatsmeow.py.
// Nothing of whatsmeow is changed: its certificate root is a variable, and its dialler an option.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// How long anything may take that a request waits for.
const patience = 60 * time.Second

var background = context.Background()

type request struct {
	Op, Device, Phone, To string
	Texts                 []string
	Count                 int
}

// A text that came.
type text struct {
	ID     string `json:"id"`
	Chat   string `json:"chat"`
	Sender string `json:"sender"`
	Text   string `json:"text"`
}

type client struct {
	*whatsmeow.Client
	lock       sync.Mutex
	changed    *sync.Cond
	codes      []string
	logins     int
	texts      []text
	unreadable int
	delivered  map[string]bool
	retries    int
}

// Warnings and errors go to stderr, which the test shows when it fails.
type stderr struct{ name string }

func (l stderr) Errorf(form string, args ...any) { l.say("error", form, args) }
func (l stderr) Warnf(form string, args ...any)  { l.say("warning", form, args) }
func (l stderr) Infof(string, ...any)            {}
func (l stderr) Debugf(string, ...any)           {}
func (l stderr) Sub(name string) waLog.Logger    { return stderr{l.name + "/" + name} }
func (l stderr) say(level, form string, args []any) {
	fmt.Fprintf(os.Stderr, "%s %s: %s\n", l.name, level, fmt.Sprintf(form, args...))
}

func newClient(name, address string) *client {
	memory := newMemory()
	identity := keys.NewKeyPair()
	device := &store.Device{
		Log: waLog.Noop, NoiseKey: keys.NewKeyPair(), IdentityKey: identity,
		SignedPreKey: identity.CreateSignedPreKey(1), RegistrationID: 4711, AdvSecretKey: keys.NewKeyPair().Priv[:],
		Identities: memory, Sessions: memory, PreKeys: memory, SenderKeys: memory, AppStateKeys: memory,
		AppState: memory, Contacts: memory, ChatSettings: memory, MsgSecrets: memory, PrivacyTokens: memory,
		EventBuffer: memory, LIDs: memory, Container: memory, Initialized: true,
	}
	c := &client{Client: whatsmeow.NewClient(device, stderr{name}), delivered: map[string]bool{}}
	c.changed = sync.NewCond(&c.lock)
	// It dials wss://web.whatsapp.com; the simulator speaks ws on loopback.
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	to := &http.Client{Transport: &http.Transport{DialContext: dial, DialTLSContext: dial}}
	c.SetWebsocketHTTPClient(to)
	c.SetPreLoginHTTPClient(to)
	c.PreRetryCallback = func(*events.Receipt, types.MessageID, int, *waE2E.Message) bool {
		c.note(func() { c.retries++ })
		return true
	}
	c.AddEventHandler(c.handle)
	return c
}

func (c *client) note(change func()) {
	c.lock.Lock()
	defer c.lock.Unlock()
	change()
	c.changed.Broadcast()
}

// Waits until a condition holds of what was noted, then reads it.
func (c *client) wait(what string, holds func() bool, read func()) {
	c.lock.Lock()
	defer c.lock.Unlock()
	deadline := time.Now().Add(patience)
	alarm := time.AfterFunc(patience, func() { c.note(func() {}) })
	defer alarm.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("no %s in %s", what, patience))
		}
		c.changed.Wait()
	}
	read()
}

func (c *client) handle(event any) {
	switch event := event.(type) {
	case *events.QR:
		c.note(func() { c.codes = event.Codes })
	case *events.Connected:
		c.note(func() { c.logins++ })
	case *events.Message:
		words := event.Message.GetConversation()
		if words == "" {
			words = event.Message.GetExtendedTextMessage().GetText()
		}
		if words == "" && event.Message.GetSenderKeyDistributionMessage() != nil {
			return // what comes before the first text of a group
		}
		c.note(func() {
			c.texts = append(c.texts, text{event.Info.ID, event.Info.Chat.String(), event.Info.Sender.String(), words})
		})
	case *events.UndecryptableMessage:
		c.note(func() { c.unreadable++ })
	case *events.Receipt:
		if event.Type == types.ReceiptTypeDelivered {
			c.note(func() {
				for _, id := range event.MessageIDs {
					c.delivered[id] = true
				}
			})
		}
	}
}

func (c *client) answer(r request) any {
	out := map[string]any{}
	switch r.Op {
	case "connect":
		logins := 0
		c.note(func() { c.codes, logins = nil, c.logins })
		if err := c.Connect(); err != nil {
			panic(err)
		}
		met := func() bool { return c.logins > logins || len(c.codes) > 0 }
		c.wait("login or QR code", met, func() { out["qr"] = c.codes })
	case "code":
		code, err := c.PairPhone(background, r.Phone, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
		if err != nil {
			panic(err)
		}
		out["code"] = code
	case "linked":
		c.wait("login as a linked device", func() bool { return c.logins > 0 }, func() {
			out["jid"], out["lid"] = c.Store.ID.String(), c.Store.LID.String()
		})
	case "disconnect":
		c.Disconnect()
	case "send":
		to, err := types.ParseJID(r.To)
		if err != nil {
			panic(err)
		}
		ids := []string{}
		for _, words := range r.Texts {
			sent, err := c.SendMessage(background, to, &waE2E.Message{Conversation: proto.String(words)})
			if err != nil {
				panic(err)
			}
			ids = append(ids, sent.ID)
		}
		out["ids"] = ids
	case "received":
		c.wait(fmt.Sprintf("%d texts", r.Count), func() bool { return len(c.texts) >= r.Count }, func() {
			out["texts"], out["unreadable"] = append([]text{}, c.texts...), c.unreadable
		})
	case "receipts":
		c.wait(fmt.Sprintf("%d receipts", r.Count), func() bool { return len(c.delivered) >= r.Count }, func() {
			out["ids"], out["retries"] = slices.Collect(maps.Keys(c.delivered)), c.retries
		})
	default:
		panic("unknown operation " + r.Op)
	}
	return out
}

func safely(c *client, r request) (out any) {
	defer func() {
		if caught := recover(); caught != nil {
			out = map[string]string{"error": fmt.Sprint(caught)}
		}
	}()
	return c.answer(r)
}

func main() {
	address, root := os.Args[1], os.Args[2]
	key, err := hex.DecodeString(root)
	if err != nil {
		panic(err)
	}
	whatsmeow.WACertPubKey = [32]byte(key)
	clients := map[string]*client{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	encoder := json.NewEncoder(os.Stdout)
	os.Stdout = os.Stderr // where the Signal library logs to
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			panic(err)
		}
		if clients[r.Device] == nil {
			clients[r.Device] = newClient(r.Device, address)
		}
		if err := encoder.Encode(safely(clients[r.Device], r)); err != nil {
			panic(err)
		}
	}
}
