package chaos

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"time"

	"pushcluster/shared/push"
)

// sameCloses returns an error if connections ended since before was taken.
func (w *world) sameCloses(before string) error {
	if now := w.closes.String(); now != before {
		return fmt.Errorf("connections ended:%s; nobody should have had to reconnect", now)
	}
	return nil
}

// killDispatch kills Dispatch in the middle of batches, at three chosen points,
// and then leaves it away.
func killDispatch(ctx context.Context, w *world) error {
	points := []struct {
		name string
		arm  func(hit func()) (disarm func())
	}{
		{"when Redis has appended and the inbox is not written", w.afterAppend},
		{"when it pushes to a node", w.onDelivery},
		{"at some moment", w.atRandom},
	}
	rng := w.random(8)
	for _, point := range points {
		w.say("Dispatch is killed %s", point.name)
		end := w.ledger.fault("kill of dispatch " + point.name)
		hit := make(chan struct{}, 1)
		disarm := point.arm(func() {
			select {
			case hit <- struct{}{}:
			default:
			}
		})
		batch := make([]draft, 200)
		for i := range batch {
			batch[i] = w.write(push.Recipients{Users: []push.UserID{w.users[rng.IntN(len(w.users))]}}, padding, 0, "")
		}
		w.loading.Go(func() { w.post(ctx, batch...) })
		select {
		case <-hit:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("dispatch was not to be met %s", point.name)
		}
		w.cluster.dispatch.kill()
		disarm()
		if err := w.rest(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		if err := w.cluster.dispatch.start(ctx); err != nil {
			return err
		}
		end()
		if err := w.rest(ctx, w.long(5*time.Second)); err != nil {
			return err
		}
	}
	w.say("Dispatch is away")
	end := w.ledger.fault("absence of dispatch")
	w.cluster.dispatch.kill()
	if err := w.rest(ctx, w.long(30*time.Second)); err != nil {
		return err
	}
	if err := w.cluster.dispatch.start(ctx); err != nil {
		return err
	}
	end()
	w.say("Dispatch is back")
	return w.rest(ctx, w.long(6*time.Second))
}

// afterAppend calls hit when Redis has run an append whose answer Dispatch does
// not get.
func (w *world) afterAppend(hit func()) (disarm func()) {
	p := w.cluster.appends
	placed := regexp.MustCompile(`\r\n:1\r\n:[0-9]{15,}\r\n`) // it is new, at this offset
	p.inspect(func(toTarget bool, b []byte) verdict {
		if !toTarget && placed.Match(b) {
			hit()
			return cut
		}
		return pass
	})
	return func() { p.inspect(nil) }
}

// onDelivery calls hit when Dispatch sends something to a node, which does not
// get it.
func (w *world) onDelivery(hit func()) (disarm func()) {
	for _, n := range w.cluster.nodes {
		n.delivery.inspect(func(toTarget bool, b []byte) verdict {
			if toTarget && delivers(b) {
				hit()
				return cut
			}
			return pass
		})
	}
	return func() {
		for _, n := range w.cluster.nodes {
			n.delivery.inspect(nil)
		}
	}
}

// delivers reports whether b, which goes to a node, begins a request that brings
// entries, or a frame of a stream, over which nothing else goes: a whole binary
// frame with a mask (RFC 6455 section 5.2).
func delivers(b []byte) bool {
	return bytes.Contains(b, []byte("/v1/node/deliver")) || len(b) > 1 && b[0] == 0x82 && b[1]&0x80 != 0
}

// atRandom calls hit within 40 ms.
func (w *world) atRandom(hit func()) (disarm func()) {
	timer := time.AfterFunc(time.Duration(w.random(9).IntN(40))*time.Millisecond, hit)
	return func() { timer.Stop() }
}
