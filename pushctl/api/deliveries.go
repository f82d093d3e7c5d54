package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"pushcluster/shared/push"
)

// A DeliveryPage is one page of a source's deliveries, the newest first.
type DeliveryPage struct {
	Deliveries []Item[Delivery] `json:"deliveries"`
	Next       string           `json:"next"` // asks for the page behind it
}

// A Delivery is one webhook as it is kept. Rules and what follows are told where
// one is asked for, not in lists.
type Delivery struct {
	ID         string         `json:"id"`
	Outcome    string         `json:"outcome"`
	ReceivedAt time.Time      `json:"received_at"`
	Receipts   int            `json:"receipts"`
	LastAt     time.Time      `json:"last_at"`
	Replays    int            `json:"replays"`
	ReplayedAt time.Time      `json:"replayed_at"`
	ExpiresAt  time.Time      `json:"expires_at"`
	Remote     string         `json:"remote_addr"`
	Size       int            `json:"body_size"`
	Replayable bool           `json:"replayable"`
	Messages   []MessageRef   `json:"messages"`
	Failed     []RuleResult   `json:"failed"`
	Refusal    *push.Problem  `json:"refusal"` // of which Code and Detail are told
	Rules      []RuleResult   `json:"rules"`
	Headers    map[string]any `json:"headers"`

	Body       json.RawMessage `json:"body"`
	BodyText   string          `json:"body_text"`
	BodyBase64 string          `json:"body_base64"`
}

// A MessageRef names a message. Repeat is true for one that was sent before.
type MessageRef struct {
	ID     push.MessageID `json:"id"`
	Repeat bool           `json:"repeat"`
}

// A RuleResult is what one rule made of a delivery, or why not.
type RuleResult struct {
	Rule    string         `json:"rule"`
	Result  string         `json:"result"` // made, no_match, nobody or failed
	Message push.MessageID `json:"message"`
	Field   string         `json:"field"`
	Reason  string         `json:"reason"`
}

// A DeliveriesQuery says which deliveries of a source to list. Empty fields do
// not count.
type DeliveriesQuery struct {
	Source  string
	Outcome string
	Before  string // a time, or the Next of a page
	Limit   int
}

// Deliveries lists what came of a source, a page of it.
func (c *Client) Deliveries(ctx context.Context, q DeliveriesQuery) (Answer[DeliveryPage], error) {
	limit := ""
	if q.Limit > 0 {
		limit = strconv.Itoa(q.Limit)
	}
	path := sourcePath(q.Source) + "/deliveries" + query("outcome", q.Outcome, "before", q.Before, "limit", limit)
	return do[DeliveryPage](ctx, c, call{to: c.collect(), method: "GET", path: path, has: []string{"deliveries"}})
}

// Delivery asks for all that is kept of one delivery.
func (c *Client) Delivery(ctx context.Context, source, id string) (Answer[Delivery], error) {
	return do[Delivery](ctx, c, call{to: c.collect(), method: "GET", path: deliveryPath(source, id), has: []string{"id"}})
}

// A Replayed is what a replay made of one delivery.
type Replayed struct {
	Delivery string       `json:"delivery"`
	Was      string       `json:"was"`
	Outcome  string       `json:"outcome"`
	Messages []MessageRef `json:"messages"`
	Failed   []RuleResult `json:"failed"`
	Reason   string       `json:"reason"` // why it was skipped
}

// ReplayDelivery has one delivery go through the rules of now. With again, what
// was sent before is sent once more.
func (c *Client) ReplayDelivery(ctx context.Context, source, id string, again bool) (Answer[Replayed], error) {
	body := encode(struct {
		Again bool `json:"again"`
	}{again})
	return do[Replayed](ctx, c, call{to: c.collect(), method: "POST", path: deliveryPath(source, id) + "/replay", has: []string{"delivery"}, body: body})
}

// A Range is which deliveries an order is about, the oldest first, and for a dry
// run by which rules. Empty fields do not count.
type Range struct {
	From    string          `json:"from,omitempty"`
	To      string          `json:"to,omitempty"`
	Outcome string          `json:"outcome,omitempty"`
	Limit   int             `json:"limit,omitempty"`
	Next    string          `json:"next,omitempty"`
	Again   bool            `json:"again,omitempty"` // of a replay
	Rules   json.RawMessage `json:"rules,omitempty"` // of a dry run
}

// A Summary is the last line of the answer about a range.
type Summary struct {
	Deliveries int            `json:"deliveries"`
	Results    map[string]int `json:"results"`
	More       bool           `json:"more"`
	Next       string         `json:"next"`
	Problem    *push.Problem  `json:"problem"` // why it ended early
}

// A DryRun is what the rules in force and the candidates make of one delivery.
type DryRun struct {
	Delivery   string    `json:"delivery"`
	ReceivedAt time.Time `json:"received_at"`
	Was        string    `json:"was"`
	Result     string    `json:"result"`
	Now        WouldBe   `json:"now"`
	Candidate  WouldBe   `json:"candidate"`
	Reason     string    `json:"reason"` // why it was skipped
}

// A WouldBe is what one set of rules makes of a delivery, as far as the other
// does not make the same.
type WouldBe struct {
	Outcome  string         `json:"outcome"`
	Messages []WouldMessage `json:"messages"`
	Further  int            `json:"further_messages"`
	Failed   []RuleResult   `json:"failed"`
}

// A WouldMessage is a message that would be sent.
type WouldMessage struct {
	ID    push.MessageID  `json:"id"`
	To    push.Recipients `json:"to"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
	TTL   string          `json:"ttl"`
}

// Replay replays the deliveries of a range and gives take a line for each as it
// comes. What is left over, More of the summary tells.
func (c *Client) Replay(ctx context.Context, source string, r Range, take func(Item[Replayed]) error) (Summary, error) {
	return lines(ctx, c, call{to: c.collect(), method: "POST", path: sourcePath(source) + "/replay", body: encode(r), patient: true}, take)
}

// DryRun tells what candidate rules would make of the deliveries of a range, as
// [Client.Replay] does.
func (c *Client) DryRun(ctx context.Context, source string, r Range, take func(Item[DryRun]) error) (Summary, error) {
	return lines(ctx, c, call{to: c.collect(), method: "POST", path: sourcePath(source) + "/dry-run", body: encode(r), patient: true}, take)
}

// deliveryPath returns the path of one delivery; its id may hold slashes.
func deliveryPath(source, id string) string {
	return sourcePath(source) + "/deliveries/" + segment(id)
}

// maxLine bounds one line of an answer, in bytes.
const maxLine = 4 << 20

// lines reads an answer of one JSON value a line, whose last is a summary.
func lines[T any](ctx context.Context, c *Client, k call, take func(Item[T]) error) (Summary, error) {
	res, err := c.send(ctx, k)
	if err != nil {
		return Summary{}, err
	}
	defer res.Body.Close()
	fault := &Error{Service: k.to.name, URL: k.to.base, Status: res.StatusCode}
	if res.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(res.Body, maxLine)) // half a problem is none
		fault.Problem, fault.Retry = decodeProblem(raw), retryAfter(res.Header)
		return Summary{}, fault
	}
	scanner := bufio.NewScanner(res.Body)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		line := bytes.TrimSpace(scanner.Bytes())
		if len(line) == 0 {
			continue
		}
		item, sum, err := decodeLine[T](line)
		switch {
		case err != nil:
			return Summary{}, fault
		case sum != nil:
			return *sum, nil
		}
		if err := take(item); err != nil {
			return Summary{}, err
		}
	}
	if ctx.Err() != nil {
		return Summary{}, ctx.Err()
	}
	fault.Status, fault.Err = 0, late(scanner.Err(), c.patience(k))
	if fault.Err == nil {
		fault.Err = errors.New("the answer ended before its summary")
	}
	return Summary{}, fault
}

// decodeLine reads one line: an item, or the summary.
func decodeLine[T any](line []byte) (item Item[T], sum *Summary, err error) {
	var last struct {
		Summary *Summary `json:"summary"`
	}
	if err := json.Unmarshal(line, &last); err != nil {
		return item, nil, fmt.Errorf("read a line: %w", err)
	}
	if last.Summary != nil {
		return item, last.Summary, nil
	}
	if !has(line, "delivery") {
		return item, nil, errors.New("the line is about no delivery")
	}
	return item, nil, json.Unmarshal(line, &item)
}
