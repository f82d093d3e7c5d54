package chaos

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// killCollect kills Collect, again and again, when it has stored a message and
// is about to hand it off. The senders try again.
func killCollect(ctx context.Context, w *world) error {
	for range 5 {
		w.say("Collect is killed between store and hand-off")
		end := w.ledger.fault("kill of collect")
		hit := make(chan struct{}, 1)
		w.cluster.handoff.inspect(func(toTarget bool, b []byte) verdict {
			if !toTarget || !bytes.Contains(b, []byte("/v1/dispatch")) {
				return pass
			}
			select {
			case hit <- struct{}{}:
			default:
			}
			return cut
		})
		select {
		case <-hit:
		case <-time.After(10 * time.Second):
			return errors.New("collect hands nothing off")
		}
		w.cluster.collect.kill()
		w.cluster.handoff.inspect(nil)
		if err := w.rest(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		if err := w.cluster.collect.start(ctx); err != nil {
			return err
		}
		end()
		if err := w.rest(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// doubleAll sends every post and every hand-off twice, at once.
func doubleAll(ctx context.Context, w *world) error {
	w.say("everything is sent twice")
	end := w.ledger.fault("everything twice")
	w.twice.Store(true)
	defer w.twice.Store(false)
	err := w.rest(ctx, 20*time.Second)
	end()
	return err
}

// A doubler stands before a server and brings it every request twice, at once.
// The first to be answered counts.
type doubler struct {
	addr   string
	target string
	server *http.Server
	client *http.Client
	wg     sync.WaitGroup
}

// newDoubler starts a doubler before the server at target. The caller closes it.
func newDoubler(target string) (*doubler, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &doubler{addr: l.Addr().String(), target: target,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: 5 * time.Second}
	d.wg.Go(func() { _ = d.server.Serve(l) }) // ends with close
	return d, nil
}

func (d *doubler) close() {
	_ = d.server.Close()
	d.wg.Wait()
	d.client.CloseIdleConnections()
}

// ServeHTTP passes r on twice.
func (d *doubler) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		rw.WriteHeader(http.StatusBadGateway)
		return
	}
	type answer struct {
		status int
		body   []byte
	}
	answers := make(chan answer, 2)
	for range 2 {
		d.wg.Go(func() {
			var a answer
			defer func() { answers <- a }()
			req, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, "http://"+d.target+r.URL.Path, bytes.NewReader(body))
			if err != nil {
				return
			}
			req.Header = r.Header.Clone()
			res, err := d.client.Do(req)
			if err != nil {
				return
			}
			defer res.Body.Close()
			if got, err := io.ReadAll(res.Body); err == nil {
				a = answer{res.StatusCode, got}
			}
		})
	}
	a := <-answers
	if a.status == 0 {
		a = <-answers
	}
	if a.status == 0 {
		a.status = http.StatusBadGateway
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(a.status)
	_, _ = rw.Write(a.body)
}
