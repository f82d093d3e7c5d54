package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"pushcluster/pushctl/follow"
)

// Whoever follows a user with pushctl comes back after the node died, misses
// nothing, and leaves nothing behind. It acknowledges nothing: a command that the
// SDK sends while its connection ends is a data race of centrifuge-go up to 0.12.1
// (its pull request 144).
func TestFollowComesBack(t *testing.T) {
	s := start(t)
	token := tokenOf(t, s, "42")
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events, got := make(chan string, 100), make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- follow.Run(ctx, follow.Config{
			Node: s.Node(0).URL, Device: "laptop",
			Token: func(context.Context) (string, error) { return token, nil },
		}, func(m follow.Message) error {
			got <- string(m.Data)
			if string(m.Data) == "2" {
				return enough
			}
			return nil
		}, func(what string) {
			select {
			case events <- what:
			default: // nobody reads so many
			}
		})
	}()
	await := func(from chan string, want string) {
		t.Helper()
		var one string
		select {
		case one = <-from:
		case err := <-ended:
			ended <- err // the end of this test asks for it
			select {
			case one = <-from: // came before the end
			default:
				t.Fatalf("it ended: %v", err)
			}
		case <-ctx.Done():
			t.Fatalf("nothing comes, want %q", want)
		}
		if want != "" && one != want {
			t.Fatalf("%q comes, want %q", one, want)
		}
	}
	await(events, "connected to "+s.Node(0).URL)
	post(t, s, `{"to":{"users":["42"]},"data":1}`)
	await(got, "1")
	s.Node(0).Kill()
	post(t, s, `{"to":{"users":["42"]},"data":2}`)
	if err := s.Node(0).Start(ctx); err != nil {
		t.Fatal(err)
	}
	await(events, "") // that the connection ended
	await(got, "2")
	select {
	case err := <-ended:
		if !errors.Is(err, enough) {
			t.Errorf("Run = %v, want what take said", err)
		}
	case <-ctx.Done():
		t.Error("Run does not end")
	}
}

func TestFollowAcknowledges(t *testing.T) {
	s := start(t)
	token := tokenOf(t, s, "42")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- follow.Run(ctx, follow.Config{
			Node: s.Node(0).URL, Device: "laptop", Ack: true,
			Token: func(context.Context) (string, error) { return token, nil },
		}, func(follow.Message) error { return nil }, func(string) {})
	}()
	id := post(t, s, `{"to":{"users":["42"]},"data":1}`)
	awaitState(t, s, id, "acknowledged laptop=acknowledged")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil at the end of its context", err)
	}
}
