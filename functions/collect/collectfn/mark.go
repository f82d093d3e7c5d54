package collectfn

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"pushcluster/shared/push"
)

// A pageMark is where a page of a message's state begins: with the devices
// behind one of a channel, or with the first ones.
type pageMark struct {
	Channel push.Channel `json:"c"`
	User    push.UserID  `json:"u,omitempty"`
	Device  push.Device  `json:"d,omitempty"`
}

// A parkedMark is behind which parked message a page begins.
type parkedMark struct {
	At      time.Time      `json:"t"`
	Message push.MessageID `json:"m"`
}

// errMark means that a page was asked for by something that no answer held.
var errMark = errors.New("next is not one that an answer held")

// maxMark is the size of the largest mark, in bytes: all its text escaped.
const maxMark = 8 << 10

// encodeMark returns a mark as senders get it: text for a URL, of which they
// need not know more.
func encodeMark(mark any) string {
	raw, err := json.Marshal(mark)
	if err != nil {
		return "" // not reached: a mark is text and a time
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// decodeMark reads what encodeMark returned. Its error is errMark.
func decodeMark[M any](text string) (mark M, err error) {
	if len(text) > maxMark {
		return mark, errMark
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(raw, &mark) != nil {
		return *new(M), errMark
	}
	return mark, nil
}

// markOf returns where the page that r asks for begins: its "next", which an
// earlier page gave, or the beginning. r may ask for nothing else.
func markOf[M any](r *http.Request) (from M, p *push.Problem) {
	query, p := queryOf(r, "next")
	if p != nil || query["next"] == "" {
		return from, p
	}
	from, err := decodeMark[M](query["next"])
	if err != nil {
		return from, push.NewProblem(push.CodeBadRequest, "%v", err)
	}
	return from, nil
}

// A deliveryMark is a delivery's place among those of its source.
type deliveryMark struct {
	At time.Time `json:"t"`
	ID string    `json:"d"`
}
