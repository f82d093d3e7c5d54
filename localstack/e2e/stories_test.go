package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushcluster/localstack/stack"
	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/token"
)

// tokenOf returns a connection token of user, who may follow topics.
func tokenOf(t *testing.T, s *stack.Stack, user push.UserID, topics ...string) string {
	t.Helper()
	text, err := s.TokenFor(token.Grant{User: user, Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAMessageReachesItsUser(t *testing.T) {
	s := start(t)
	for name, protobuf := range map[string]bool{"JSON": false, "Protobuf": true} {
		t.Run(name, func(t *testing.T) {
			user := push.UserID("user of " + name)
			p := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, user), protobuf: protobuf}).connected()
			other := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "somebody else"), protobuf: protobuf}).connected()
			id := post(t, s, fmt.Sprintf(`{"to":{"users":[%q]},"event":"greeting","data":{"hello":"world"}}`, user))
			p.receives(`{"hello":"world"}`)
			if p.ids[0] != id {
				t.Errorf("the message came as %q, Collect called it %q", p.ids[0], id)
			}
			post(t, s, `{"to":{"users":["somebody else"]},"data":1}`)
			other.receives("1")
		})
	}
}

func TestTwoDevicesOnTwoNodes(t *testing.T) {
	s := start(t)
	phone := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42"), device: "phone"}).connected()
	desk := newPerson(t, s.Node(1).URL, come{token: tokenOf(t, s, "42"), device: "desk", protobuf: true}).connected()
	for i := range 3 {
		post(t, s, fmt.Sprintf(`{"to":{"users":["42"]},"data":%d}`, i))
	}
	phone.receives("0", "1", "2")
	desk.receives("0", "1", "2")
}

func TestATopicReachesWhoFollowsIt(t *testing.T) {
	s := start(t)
	reader := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42", "room:*")}).connected()
	far := newPerson(t, s.Node(1).URL, come{token: tokenOf(t, s, "43")}).connected()
	reader.follow("room:7")
	reader.follow("public:news")
	far.follow("public:news")
	post(t, s, `{"to":{"channels":["room:7"]},"data":"room"}`)
	reader.receives(`"room"`) // there is no order between channels
	post(t, s, `{"to":{"channels":["public:news"]},"data":"news"}`)
	reader.receives(`"room"`, `"news"`)
	far.receives(`"news"`)
}

func TestAllReachesEverybody(t *testing.T) {
	s := start(t)
	var everybody []*person
	for i := range 6 {
		user := push.UserID(fmt.Sprint(i))
		everybody = append(everybody, newPerson(t, s.Node(i%2).URL, come{token: tokenOf(t, s, user), protobuf: i%3 == 0}).connected())
	}
	post(t, s, `{"to":{"all":true},"data":"to all"}`)
	for _, p := range everybody {
		p.receives(`"to all"`)
	}
}

func TestABrokenLineLosesNothing(t *testing.T) {
	s := start(t)
	p := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42", "news")}).connected()
	p.follow("news")
	post(t, s, `{"to":{"users":["42"]},"data":1}`)
	p.receives("1")
	p.moveTo(s.Node(1).URL)
	p.drop()
	post(t, s, `{"to":{"users":["42"]},"data":2}`)
	p.await("message 2", func() bool { return len(p.received()) == 2 })
	post(t, s, `{"to":{"channels":["news"]},"data":3}`)
	p.await("message 3", func() bool { return len(p.received()) == 3 }) // there is no order between channels
	post(t, s, `{"to":{"users":["42"]},"data":4}`)
	p.receives("1", "2", "3", "4")
}

func TestOfflineThenBack(t *testing.T) {
	s := start(t)
	post(t, s, `{"to":{"users":["42"]},"data":"before the first visit"}`)
	p := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42"), device: "phone"}).connected()
	p.receives(`"before the first visit"`)
	// A pong proves what the phone received; it is asked for within a second.
	p.await("its cursor", func() bool {
		cursors, err := s.Store.LoadCursors(t.Context(), []store.UserDevice{{User: "42", Device: "phone"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cursors {
			if c.Channel == "#42" && c.Received > 0 {
				return true
			}
		}
		return false
	})
	p.client.Close()
	post(t, s, `{"to":{"users":["42"]},"data":"while away"}`)
	post(t, s, `{"to":{"users":["42"]},"data":"score 1","collapse_key":"score"}`)
	post(t, s, `{"to":{"users":["42"]},"data":"score 2","collapse_key":"score"}`)
	post(t, s, `{"to":{"all":true},"data":"to all while away"}`)
	again := newPerson(t, s.Node(1).URL, come{token: tokenOf(t, s, "42"), device: "phone"}).connected()
	again.await("what came meanwhile", func() bool { return len(again.received()) == 3 })
	got := strings.Join(again.received(), " ")
	for _, want := range []string{`"while away"`, `"score 2"`, `"to all while away"`} {
		if !strings.Contains(got, want) {
			t.Errorf("received %s, which lacks %s", got, want)
		}
	}
}

func TestARepeatIsOneMessage(t *testing.T) {
	s := start(t)
	p := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42")}).connected()
	first := post(t, s, `{"id":"order-1","to":{"users":["42"]},"data":1}`)
	if again := post(t, s, `{"id":"order-1","to":{"users":["42"]},"data":1}`); again != first {
		t.Errorf("the repeat is answered %q, the first was %q", again, first)
	}
	post(t, s, `{"to":{"users":["42"]},"data":2}`)
	p.receives("1", "2")
}

func TestABadTokenStaysOut(t *testing.T) {
	s := start(t)
	p := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42") + "x"})
	p.hears("disconnected 3500")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Node(0).URL+"/connection/websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer nonsense")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a bad token in the handshake is answered %s, want 401", resp.Status)
	}
}

func TestASlowClientIsClosedAndLosesNothing(t *testing.T) {
	s := start(t, func(cfg *stack.Config) {
		cfg.Node = node.Config{QueueBytes: 128 << 10, WriteTimeout: 300 * time.Millisecond, CloseTimeout: 2 * time.Minute}
	})
	slow := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42")}).connected()
	quick := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "43")}).connected()
	resume := slow.halt()
	defer resume()
	big := strings.Repeat("x", 60<<10)
	const count = 100 // 6 MB: more than the kernel holds for it
	for i := 0; i < count; i += 10 {
		var batch []string
		for n := i; n < i+10; n++ {
			batch = append(batch, fmt.Sprintf(`{"to":{"users":["42","43"]},"data":"%d %s"}`, n, big))
		}
		postAll(t, s, batch)
	}
	quick.await("all of them", func() bool { return len(quick.received()) == count })
	resume()
	slow.hears("connecting 3008")
	slow.await("all of them", func() bool { return len(slow.received()) >= count })
	for i, got := range slow.received() {
		if want := fmt.Sprintf(`"%d %s"`, i, big); got != want {
			t.Fatalf("message %d is %.10s…, want %.10s…", i, got, want)
		}
	}
}

func TestANodeIsKilled(t *testing.T) {
	s := start(t)
	p := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42", "news")}).connected()
	p.follow("news")
	post(t, s, `{"to":{"users":["42"]},"data":1}`)
	p.receives("1")
	p.moveTo(s.Node(1).URL)
	s.Node(0).Kill()
	post(t, s, `{"to":{"users":["42"]},"data":2}`) // the route still leads to the dead node
	p.await("message 2", func() bool { return len(p.received()) == 2 })
	post(t, s, `{"to":{"channels":["news"]},"data":3}`)
	p.receives("1", "2", "3")
	if err := s.Node(0).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	newcomer := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "43")}).connected()
	post(t, s, `{"to":{"users":["43","42"]},"data":4}`)
	newcomer.receives("4")
	p.receives("1", "2", "3", "4")
}

func TestRedisIsFlushed(t *testing.T) {
	s := start(t, func(cfg *stack.Config) { cfg.Node.RenewEvery = 300 * time.Millisecond })
	p := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "42")}).connected()
	far := newPerson(t, s.Node(1).URL, come{token: tokenOf(t, s, "43")}).connected()
	post(t, s, `{"to":{"users":["42"],"all":true},"data":1}`)
	p.await("message 1 twice", func() bool { return len(p.received()) == 2 })
	if err := s.FlushRedis(t.Context()); err != nil {
		t.Fatal(err)
	}
	post(t, s, `{"to":{"users":["42"]},"data":2}`)
	post(t, s, `{"to":{"users":["43"]},"data":3}`)
	p.receives("1", "1", "2")
	far.receives("1", "3")
	p.mu.Lock()
	defer p.mu.Unlock()
	if told := strings.Join(p.told, ", "); told != "connecting 0, connected" {
		t.Errorf("the client was told %s: it should not have had to come back", told)
	}
}
