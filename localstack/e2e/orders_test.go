package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushcluster/localstack/stack"
	"pushcluster/shared/push"
)

// order sends Collect a request, reads the answer into answer unless that is
// nil, and returns the status.
func order(t *testing.T, s *stack.Stack, method, path, body string, answer any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.Collect.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", s.APIKey())
	req.Close = true // leave no connection behind
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			t.Fatalf("%s %s is answered %s %s", method, path, resp.Status, raw)
		}
	}
	return resp.StatusCode
}

// A messageState is what GET /v1/messages/{id} tells.
type messageState struct {
	State      string
	Recipients []struct {
		Channel string
		Offset  push.Offset
		State   string
		Devices []struct{ User, Device, State string }
	}
}

// stateOf returns "MESSAGE DEVICE=STATE…" of a message with one recipient.
func stateOf(t *testing.T, s *stack.Stack, id string) string {
	t.Helper()
	var m messageState
	if status := order(t, s, "GET", "/v1/messages/"+id, "", &m); status != 200 || len(m.Recipients) != 1 {
		t.Fatalf("GET /v1/messages/%s = %d %+v", id, status, m)
	}
	told := m.State
	for _, d := range m.Recipients[0].Devices {
		told += fmt.Sprintf(" %s=%s", d.Device, d.State)
	}
	return told
}

// awaitState waits until stateOf is want.
func awaitState(t *testing.T, s *stack.Stack, id, want string) {
	t.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		got := stateOf(t, s, id)
		if got == want {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("message %s stays %q, want %q", id, got, want)
		case <-tick.C:
		}
	}
}

// The sender asks how far a message has come, from its mail to the
// application's word that it has dealt with it.
func TestTheSenderAsks(t *testing.T) {
	s := start(t)
	phone := newPerson(t, s.Nodes()[0].URL, come{token: tokenOf(t, s, "42"), device: "phone"}).connected()
	first := post(t, s, `{"to":{"users":["42"]},"data":1}`)
	awaitState(t, s, first, "received phone=received") // by a ping alone
	var m messageState
	order(t, s, "GET", "/v1/messages/"+first, "", &m)
	ack := fmt.Appendf(nil, `{"channel":"#42","offset":%d}`, m.Recipients[0].Offset)
	if _, err := phone.client.RPC(t.Context(), "ack", ack); err != nil {
		t.Fatal(err)
	}
	awaitState(t, s, first, "acknowledged phone=acknowledged")

	phone.client.Disconnect()
	second := post(t, s, `{"to":{"users":["42"]},"data":2}`)
	awaitState(t, s, second, "routed phone=routed")
	if err := phone.client.Connect(); err != nil {
		t.Fatal(err)
	}
	awaitState(t, s, second, "received phone=received")
}

// A scheduled message is taken back before it goes out, another goes out when it
// is due.
func TestScheduledAndTakenBack(t *testing.T) {
	s := start(t)
	var p *person
	var user push.UserID // another one each time
	var back, out string
	for wait := 1500 * time.Millisecond; p == nil; wait *= 2 {
		user = push.UserID(wait.String())
		p = newPerson(t, s.Nodes()[0].URL, come{token: tokenOf(t, s, user), device: "phone"}).connected()
		soon := time.Now().Add(wait).UTC()
		schedule := func(id string) string {
			return post(t, s, fmt.Sprintf(`{"id":"%s-%s","to":{"users":[%q]},"data":%q,"deliver_at":%q}`, id, user, user, id, soon.Format(time.RFC3339Nano)))
		}
		back, out = schedule("back"), schedule("out")
		got := stateOf(t, s, back)
		status := order(t, s, "DELETE", "/v1/messages/"+back, "", nil)
		switch late := time.Now().After(soon); {
		case late && (got != "scheduled" || status != 200):
			p = nil // the machine was so busy that it was due before
		case got != "scheduled" || status != 200:
			t.Fatalf("before it is due it is %q, and taking it back is answered %d; want scheduled and 200", got, status)
		}
	}
	p.receives(`"out"`)
	awaitState(t, s, out, "received phone=received")
	if status := order(t, s, "DELETE", "/v1/messages/"+out, "", nil); status != 409 {
		t.Errorf("taking back what has gone out is answered %d, want 409", status)
	}
	post(t, s, fmt.Sprintf(`{"to":{"users":[%q]},"data":"last"}`, user))
	p.receives(`"out"`, `"last"`)
	if got := stateOf(t, s, back); got != "cancelled" {
		t.Errorf("what was taken back is %q, want cancelled", got)
	}
}

// A user is looked up, kicked from one device, and then shut out.
func TestKickedAndRevoked(t *testing.T) {
	s := start(t)
	token := tokenOf(t, s, "42")
	phone := newPerson(t, s.Nodes()[0].URL, come{token: token, device: "phone"}).connected()
	tablet := newPerson(t, s.Nodes()[1].URL, come{token: token, device: "tablet", protobuf: true}).connected()
	other := newPerson(t, s.Nodes()[1].URL, come{token: tokenOf(t, s, "43")}).connected()

	var user push.InfoAnswer
	if status := order(t, s, "GET", "/v1/users/42", "", &user); status != 200 || len(user.Connections) != 2 || user.Connections[0].Node == user.Connections[1].Node {
		t.Errorf("the user is %d %+v, want connections on two nodes", status, user)
	}
	var closed push.DisconnectAnswer
	if status := order(t, s, "DELETE", "/v1/users/42/connections?device=phone", "", &closed); status != 200 || closed.Closed != 1 {
		t.Errorf("the kick is answered %d %+v, want one closed", status, closed)
	}
	phone.hears("disconnected 3503")
	if status := order(t, s, "POST", "/v1/revocations", `{"user":"42"}`, &closed); status != 200 || closed.Closed != 1 {
		t.Errorf("the revocation is answered %d %+v, want one closed", status, closed)
	}
	tablet.hears("disconnected 3500")
	for _, n := range s.Nodes() {
		newPerson(t, n.URL, come{token: token}).hears("disconnected 3500")
	}
	newPerson(t, s.Nodes()[0].URL, come{token: tokenOf(t, s, "42")}).connected() // a new token counts at once
	post(t, s, `{"to":{"users":["43"]},"data":1}`)
	other.receives("1")
}
