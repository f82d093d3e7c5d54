package target

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"pushcluster/bench/post"
	"pushcluster/bench/swarm"
	"pushcluster/shared/signature"
)

// A Publisher brings payloads to a target's clients. Each payload says that it
// was sent at the time given. Calls return when the server has answered, and may
// come from several goroutines.
type Publisher interface {
	One(ctx context.Context, at time.Time, user int) error
	Many(ctx context.Context, at time.Time, users []int) error
	All(ctx context.Context, at time.Time) error
}

// ErrNotOffered means that a kind of server cannot publish in that way.
var ErrNotOffered = errors.New("not offered")

// Connections is how many requests a publisher has under way at most.
const Connections = 64

// appendRequest appends a POST of body.
func appendRequest(dst []byte, addr, path, headers string, body []byte) []byte {
	dst = append(append(append(dst, "POST "...), path...), " HTTP/1.1\r\nHost: "...)
	dst = append(append(append(dst, addr...), "\r\n"...), headers...)
	dst = strconv.AppendInt(append(dst, "Content-Length: "...), int64(len(body)), 10)
	return append(append(dst, "\r\n\r\n"...), body...)
}

// A binaryAPI is the publish API of the floors, which the peers' servers have
// too: POST /publish?u=USER, /batch and /broadcast.
type binaryAPI struct {
	addr   string
	client *post.Client
}

func (p *binaryAPI) One(ctx context.Context, at time.Time, user int) error {
	b := appendRequest(make([]byte, 0, 512), p.addr, "/publish?u="+strconv.Itoa(user), "", swarm.AppendPayload(nil, at))
	return p.client.Do(ctx, b, 1, nil)
}

func (p *binaryAPI) Many(ctx context.Context, at time.Time, users []int) error {
	payload := swarm.AppendPayload(nil, at)
	body := make([]byte, 0, len(users)*(6+len(payload)))
	for _, u := range users {
		body = binary.BigEndian.AppendUint32(body, uint32(u))
		body = binary.BigEndian.AppendUint16(body, uint16(len(payload)))
		body = append(body, payload...)
	}
	return p.client.Do(ctx, appendRequest(nil, p.addr, "/batch", "", body), 1, nil)
}

func (p *binaryAPI) All(ctx context.Context, at time.Time) error {
	return p.client.Do(ctx, appendRequest(nil, p.addr, "/broadcast", "", swarm.AppendPayload(nil, at)), 1, nil)
}

// A pathAPI publishes by POST to a path for each user and one for all: nchan. A
// batch is a pipeline of requests, which is what it has instead.
type pathAPI struct {
	addr   string
	client *post.Client
}

func (p *pathAPI) One(ctx context.Context, at time.Time, user int) error {
	return p.client.Do(ctx, appendRequest(nil, p.addr, "/pub/"+strconv.Itoa(user), "", swarm.AppendPayload(nil, at)), 1, nil)
}

func (p *pathAPI) Many(ctx context.Context, at time.Time, users []int) error {
	var b []byte
	payload := swarm.AppendPayload(nil, at)
	for _, u := range users {
		b = appendRequest(b, p.addr, "/pub/"+strconv.Itoa(u), "", payload)
	}
	return p.client.Do(ctx, b, len(users), nil)
}

func (p *pathAPI) All(ctx context.Context, at time.Time) error {
	return p.client.Do(ctx, appendRequest(nil, p.addr, "/pub/all", "", swarm.AppendPayload(nil, at)), 1, nil)
}

// messageLife is how long a message of the benchmark may be delivered.
const messageLife = time.Hour

// A dispatchAPI hands messages to Dispatch, as Collect does: POST /v1/dispatch,
// signed.
type dispatchAPI struct {
	addr   string
	client *post.Client
	signer *signature.Signer
	ids    ids
}

func (p *dispatchAPI) One(ctx context.Context, at time.Time, user int) error {
	return p.send(ctx, at, []int{user})
}

func (p *dispatchAPI) Many(ctx context.Context, at time.Time, users []int) error {
	return p.send(ctx, at, users)
}

func (p *dispatchAPI) All(ctx context.Context, at time.Time) error { return p.send(ctx, at, nil) }

// send sends one message to each of users, or to all if there are none.
func (p *dispatchAPI) send(ctx context.Context, at time.Time, users []int) error {
	created := at.UTC().Format(`,"created_at":"2006-01-02T15:04:05.000Z"`)
	rest := created + at.Add(messageLife).UTC().Format(`,"expires_at":"2006-01-02T15:04:05.000Z"}`)
	payload := swarm.AppendPayload(nil, at)
	body := append(make([]byte, 0, 64+len(users)*400+400), `{"messages":[`...)
	for i := range max(1, len(users)) {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(p.ids.append(append(body, `{"id":"`...)), '"')
		if users == nil {
			body = append(body, `,"to":{"all":true},"data":`...)
		} else {
			body = strconv.AppendInt(append(body, `,"to":{"users":["`...), int64(users[i]), 10)
			body = append(body, `"]},"data":`...)
		}
		body = append(append(body, payload...), rest...)
	}
	body = append(body, `]}`...)
	headers, err := p.sign(body)
	if err != nil {
		return err
	}
	return p.client.Do(ctx, appendRequest(nil, p.addr, "/v1/dispatch", headers, body), 1, noProblem)
}

func (p *dispatchAPI) sign(body []byte) (string, error) {
	h := make(map[string][]string, 3)
	if err := p.signer.Sign(h, "req_"+string(p.ids.append(nil)), time.Now(), body); err != nil {
		return "", err
	}
	headers := "Content-Type: application/json\r\n"
	for name, values := range h {
		headers += name + ": " + values[0] + "\r\n"
	}
	return headers, nil
}

// A collectAPI posts messages to Collect, as business systems do: POST
// /v1/messages.
type collectAPI struct {
	addr   string
	client *post.Client
	apiKey string
}

func (p *collectAPI) One(ctx context.Context, at time.Time, user int) error {
	return p.post(ctx, fmt.Appendf(nil, `{"to":{"users":["%d"]},"data":%s}`, user, swarm.AppendPayload(nil, at)))
}

func (p *collectAPI) Many(ctx context.Context, at time.Time, users []int) error {
	payload := swarm.AppendPayload(nil, at)
	body := []byte{'['}
	for i, u := range users {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendInt(append(body, `{"to":{"users":["`...), int64(u), 10)
		body = append(append(append(body, `"]},"data":`...), payload...), '}')
	}
	return p.post(ctx, append(body, ']'))
}

func (p *collectAPI) All(ctx context.Context, at time.Time) error {
	return p.post(ctx, fmt.Appendf(nil, `{"to":{"all":true},"data":%s}`, swarm.AppendPayload(nil, at)))
}

func (p *collectAPI) post(ctx context.Context, body []byte) error {
	headers := "Content-Type: application/json\r\nX-API-Key: " + p.apiKey + "\r\n"
	return p.client.Do(ctx, appendRequest(nil, p.addr, "/v1/messages", headers, body), 1, noProblem)
}

// ids makes ids that never come twice in one run.
type ids struct {
	prefix string
	next   atomic.Int64
}

func (i *ids) append(dst []byte) []byte {
	return strconv.AppendInt(append(dst, i.prefix...), i.next.Add(1), 36)
}
