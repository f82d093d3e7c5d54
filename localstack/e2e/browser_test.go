//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// browserPatience is how long anything in the browser may take.
const browserPatience = time.Minute

// A browser is one tab of a headless Chromium of its own, driven by the DevTools
// protocol over a pipe: JSON messages that end in NUL.
type browser struct {
	t       *testing.T
	in      *os.File
	session string

	mu      sync.Mutex // guards what follows
	next    int
	answers map[int]chan devtools
	loads   chan struct{} // one value for each page that has loaded
	faults  []string      // what pages complained about
	ended   chan struct{} // closed when the browser is gone
}

// A devtools is a message of the protocol, in either direction.
type devtools struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startBrowser starts a browser with one empty tab. It ends with t.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	program := need(t, "chromium", "chromium-browser", "google-chrome")
	toBrowser, in := pipe(t)
	out, fromBrowser := pipe(t)
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--no-first-run", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser} // its descriptors 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	toBrowser.Close()
	fromBrowser.Close()
	b := &browser{t: t, in: in, answers: make(map[int]chan devtools), loads: make(chan struct{}, 100), ended: make(chan struct{})}
	go b.read(out)
	t.Cleanup(func() {
		in.Close()
		// The whole group: a browser is many processes, and all write below TempDir.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait() // its error is our signal
		<-b.ended
		out.Close()
	})
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// read takes what the browser says until it ends.
func (b *browser) read(out *os.File) {
	defer close(b.ended)
	messages := bufio.NewScanner(out)
	messages.Buffer(nil, 16<<20)
	messages.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		for i, c := range data {
			if c == 0 {
				return i + 1, data[:i], nil
			}
		}
		return 0, nil, nil
	})
	for messages.Scan() {
		var m devtools
		if err := json.Unmarshal(messages.Bytes(), &m); err != nil {
			continue
		}
		b.mu.Lock()
		switch m.Method {
		case "":
			if answer, ok := b.answers[m.ID]; ok {
				answer <- m
				delete(b.answers, m.ID)
			}
		case "Page.loadEventFired":
			b.loads <- struct{}{}
		case "Runtime.exceptionThrown", "Log.entryAdded":
			b.faults = append(b.faults, messages.Text())
		}
		b.mu.Unlock()
	}
}

// call runs one command of the protocol; its result goes into result, which may
// be nil.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatalf("browser: %s: %v", method, err)
	}
}

func (b *browser) try(method string, params, result any) error {
	answer := make(chan devtools, 1)
	b.mu.Lock()
	b.next++
	id := b.next
	b.answers[id] = answer
	b.mu.Unlock()
	command, err := json.Marshal(devtools{ID: id, Session: b.session, Method: method, Params: params})
	if err != nil {
		return err
	}
	if _, err := b.in.Write(append(command, 0)); err != nil {
		return err
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return errors.New(m.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-b.ended:
		return errors.New("the browser has ended")
	case <-time.After(browserPatience):
		return errors.New("no answer")
	}
}

// open loads a page and returns when it has loaded.
func (b *browser) open(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	b.awaitLoad()
}

func (b *browser) awaitLoad() {
	b.t.Helper()
	select {
	case <-b.loads:
	case <-time.After(browserPatience):
		b.t.Fatal("browser: the page does not load")
	}
}

// eval runs JavaScript in the page and returns its value as text. A promise is
// waited for.
func (b *browser) eval(script string) string {
	b.t.Helper()
	var answer struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		ExceptionDetails *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &answer)
	if e := answer.ExceptionDetails; e != nil {
		b.t.Fatalf("browser: %s: %s %s", script, e.Text, e.Exception.Description)
	}
	return fmt.Sprint(answer.Result.Value)
}

// keys are those that tests press, with their codes.
var keys = map[string]int{"Enter": 13, "Tab": 9, "PageUp": 33, "PageDown": 34}

// press presses a key, which what has the focus hears.
func (b *browser) press(name string) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		key := map[string]any{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": keys[name]}
		if kind == "keyDown" && name == "Enter" {
			key["text"] = "\r"
		}
		b.call("Input.dispatchKeyEvent", key, nil)
	}
}

// await returns when condition, a JavaScript expression, is true. It is looked
// at whenever the page changes.
func (b *browser) await(condition string) {
	b.t.Helper()
	got := b.eval(fmt.Sprintf(`new Promise((done) => {
		const look = () => { if (%s) { watch.disconnect(); clearTimeout(timer); done('seen'); } };
		const watch = new MutationObserver(look);
		const timer = setTimeout(() => { watch.disconnect(); done(document.body.innerText); }, %d);
		watch.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
		look();
	})`, condition, (browserPatience / 2).Milliseconds()))
	if got != "seen" {
		b.t.Fatalf("browser: waited in vain for %s; the page reads:\n%s", condition, got)
	}
}

// complaints returns what pages have put on the console as errors so far.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.faults...)
}
