package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/shared/store"
)

// hang is how long a look-up takes that gets no answer.
const hang = 5 * time.Second

// hung counts what is asked, and answers after a time, or when ctx ends.
type hung struct{ asked atomic.Int32 }

func (h *hung) wait(ctx context.Context) error {
	h.asked.Add(1)
	select {
	case <-time.After(hang):
		return errors.New("no answer")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hung) resolve(ctx context.Context, value string) (string, error) { return "", h.wait(ctx) }

func (h *hung) ListSources(ctx context.Context) ([]store.SourceRecord, error) {
	return nil, h.wait(ctx)
}

// TestManyWaitForOneReading: who waits for a source's first reading, or for the
// first look at the store, takes what came of it, and leaves when its time is
// over.
func TestManyWaitForOneReading(t *testing.T) {
	compiler, err := rule.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	shop := &shelf{records: shopIs("verify: gitlab\nsecrets: 'arn:token'\nrules: { to: { all: 'true' } }\n")}
	tests := map[string]struct {
		live func(*hung) *Live
		gone string // what who left is told
		want string // what who stayed is told
	}{
		"a secret": {func(h *hung) *Live {
			return NewLive(nil, shop, compiler, h.resolve, nil, slog.New(slog.DiscardHandler))
		}, "away", "away"},
		"the store": {func(h *hung) *Live {
			return NewLive(nil, h, compiler, h.resolve, nil, slog.New(slog.DiscardHandler))
		}, "unread", "unread"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hung{}
				l := tt.live(h)
				begun := time.Now()
				ask := func(ctx context.Context) <-chan string {
					answer := make(chan string, 1)
					go func() {
						told := told(l.Set(ctx).Source(ctx, "shop"))
						answer <- fmt.Sprint(told, " after ", time.Since(begun))
					}()
					return answer
				}
				first := ask(t.Context())
				synctest.Wait() // it has begun to look
				soon, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				gone := ask(soon)
				var waiting []<-chan string
				for range 20 {
					waiting = append(waiting, ask(t.Context()))
				}
				if got, want := <-gone, tt.gone+" after 1s"; got != want {
					t.Errorf("who gave up was told %q, want %q", got, want)
				}
				for _, one := range append(waiting, first) {
					if got, want := <-one, tt.want+" after 5s"; got != want {
						t.Errorf("who waited was told %q, want %q", got, want)
					}
				}
				if n := h.asked.Load(); n != 1 {
					t.Errorf("for 22 at once were %d looks, want 1", n)
				}
			})
		})
	}
}

// TestReadingIsShort: a reading that gets no answers is over before a Lambda is,
// which would take the last good version with it.
func TestReadingIsShort(t *testing.T) {
	const most = 10 * time.Second
	compiler, err := rule.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	st := &shelf{records: shopIs("verify: gitlab\nsecrets: ['arn:1', 'arn:2', 'arn:3']\nrules: { to: { all: 'true' } }\n")}
	for name, hasGood := range map[string]bool{"at first use": false, "with a good version": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, answers := &hung{}, hasGood
				resolve := func(ctx context.Context, value string) (string, error) {
					if answers {
						return "the word of " + value, nil
					}
					return h.resolve(ctx, value)
				}
				l := NewLive(nil, st, compiler, resolve, nil, slog.New(slog.DiscardHandler))
				want := "away"
				if hasGood {
					if got := told(l.Set(t.Context()).Source(t.Context(), "shop")); got != "" {
						t.Fatalf("of shop is told %q before", got)
					}
					answers, want = false, "but away"
					time.Sleep(time.Minute) // the secrets are due, by the bubble's clock
				}
				begun := time.Now()
				got := told(l.Set(t.Context()).Source(t.Context(), "shop"))
				if took := time.Since(begun); got != want || took > most {
					t.Errorf("of shop is told %q after %s, want %q after %s at most", got, took, want, most)
				}
			})
		})
	}
}
