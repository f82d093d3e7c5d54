package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/localstack/stack"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// How pages write a token of user 42, and one that was good once.
const (
	tokenGood    = "eyJ…"
	tokenExpired = "eyJ…expired"
)

// frames plays a block of frames, line by line; a line that begins with space
// goes on with the one before:
//
//	GET PATH             opens a WebSocket at node 1, and closes the one before
//	>> JSON              is sent
//	<< JSON              must be the next packet that comes
//	<< close CODE REASON must be how the WebSocket is closed
//	POST JSON            is sent to Collect as a message
//	ASK PATH             asks Collect; << is its answer then, at once or soon
//
// Other lines are for people. A ping that the block does not speak of is
// answered.
type frames struct {
	t      *testing.T
	stage  *stage
	known  recall
	where  string
	tokens *strings.Replacer

	ws      *websocket.Conn
	packets []string    // of the last frame, not looked at yet
	asked   string      // a path whose answer is due; empty: none
	device  push.Device // of the connection; empty: none
	given   push.Offset // the last offset that the connection was given of the user's channel
}

func (f *frames) play(text string) {
	f.t.Helper()
	defer f.hangUp()
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, " ") && len(lines) > 0 {
			lines[len(lines)-1] += strings.TrimLeft(line, " ")
			continue
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		if err := f.step(line); err != nil {
			f.t.Fatalf("%s: %s\n%v", f.where, line, err)
		}
	}
}

// step plays one line.
func (f *frames) step(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "GET":
		return f.dial(rest)
	case "POST":
		post(f.t, f.stage.Stack, rest)
		return nil
	case "ASK":
		f.asked = rest
		return nil
	case ">>":
		err := f.ws.WriteMessage(websocket.TextMessage, []byte(f.tokens.Replace(f.known.replace(rest))))
		if err == nil && rest == "{}" && f.device != "" {
			err = f.awaitCursor()
		}
		return err
	case "<<":
		if want, ok := strings.CutPrefix(rest, "close "); ok {
			return f.expectClose(want)
		}
		return f.expect(rest)
	}
	return nil
}

func (f *frames) hangUp() {
	if f.ws != nil {
		f.ws.Close()
	}
	f.ws, f.packets = nil, nil
}

func (f *frames) dial(path string) error {
	f.hangUp()
	url := strings.TrimSuffix(stack.WebSocketURL(f.stage.facts.Nodes[0].Public), "/connection/websocket") + f.tokens.Replace(path)
	ws, resp, err := websocket.DefaultDialer.DialContext(f.t.Context(), url, http.Header{})
	if err != nil {
		return err
	}
	resp.Body.Close()
	_, query, _ := strings.Cut(path, "device=")
	f.ws, f.device, f.given = ws, push.Device(query), 0
	return ws.SetReadDeadline(time.Now().Add(time.Minute))
}

// next returns the next packet. A ping is answered and passed over, unless
// wanted is one.
func (f *frames) next(wanted string) (string, error) {
	for {
		for len(f.packets) > 0 {
			packet := f.packets[0]
			f.packets = f.packets[1:]
			if packet != "{}" || wanted == "{}" {
				f.note(packet)
				return packet, nil
			}
			if err := f.ws.WriteMessage(websocket.TextMessage, []byte("{}")); err != nil {
				return "", err
			}
		}
		_, frame, err := f.ws.ReadMessage()
		if err != nil {
			return "", err
		}
		f.packets = strings.Split(string(frame), "\n")
	}
}

// note takes down how far the packet brings the connection.
func (f *frames) note(packet string) {
	type publication struct{ Offset push.Offset }
	var p struct {
		Push struct {
			Channel push.Channel
			Pub     publication
		}
		Connect struct {
			Subs map[push.Channel]struct{ Publications []publication }
		}
	}
	if json.Unmarshal([]byte(packet), &p) != nil {
		return
	}
	own := push.Personal(stack.DemoUser)
	list := p.Connect.Subs[own].Publications
	if p.Push.Channel == own {
		list = append(list, p.Push.Pub)
	}
	for _, pub := range list {
		f.given = max(f.given, pub.Offset)
	}
}

// awaitCursor waits until a pong has moved the device's cursor, which is written
// a moment after the pong came.
func (f *frames) awaitCursor() error {
	end := time.After(time.Minute)
	for {
		cursors, err := f.stage.Store.LoadCursors(f.t.Context(), []store.UserDevice{{User: stack.DemoUser, Device: f.device}})
		if err != nil {
			return err
		}
		for _, c := range cursors {
			if c.Channel == push.Personal(stack.DemoUser) && c.Received >= f.given {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			return fmt.Errorf("no pong has moved the cursor to %d: %+v", f.given, cursors)
		}
	}
}

func (f *frames) expect(want string) error {
	if path := f.asked; path != "" {
		f.asked = ""
		return f.expectAnswer(path, f.stage.here(want))
	}
	got, err := f.next(want)
	if err != nil {
		return err
	}
	if err := f.known.match(want, got); err != nil {
		return fmt.Errorf("%w\ngot: %s", err, got)
	}
	return nil
}

// expectAnswer asks Collect until it answers what is wanted: cursors are written
// a moment after a device has moved them.
func (f *frames) expectAnswer(path, want string) error {
	end := time.After(time.Minute)
	for {
		got, err := f.ask(path)
		if err != nil {
			return err
		}
		if err = f.known.match(want, got); err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			return fmt.Errorf("%w\ngot: %s", err, got)
		}
	}
}

// ask returns what Collect answers to a GET of path.
func (f *frames) ask(path string) (string, error) {
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.stage.Collect.URL+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-API-Key", f.stage.APIKey())
	req.Close = true // leave no connection behind
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

func (f *frames) expectClose(want string) error {
	got, err := f.next("")
	if err == nil {
		return fmt.Errorf("a packet came instead: %s", got)
	}
	closed, ok := errors.AsType[*websocket.CloseError](err)
	if !ok {
		return err
	}
	if told := fmt.Sprintf("%d %s", closed.Code, closed.Text); told != want {
		return fmt.Errorf("it was closed with %s", told)
	}
	return nil
}
