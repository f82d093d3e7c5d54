package collectfn

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

// An event is one thing that a webhook tells: its sender's id of the delivery,
// and the body that rules see.
type event struct {
	id     string
	body   any
	halves bool // what came has half characters, which are U+FFFD in the body
	cloud  bool // it is a CloudEvent, whose id is of its id and source
}

// readEvents reads a verified webhook: one event, or a batch of CloudEvents. A
// body that says it is a form becomes its fields, one that is neither JSON nor a
// form a text.
func readEvents(h http.Header, body []byte, receiver *signature.Receiver) (events []event, isBatch bool, p *push.Problem) {
	events, isBatch, p = decodeEvents(h, body, receiver)
	if p != nil || !push.HasHalfCharacter(body) {
		return events, isBatch, p
	}
	for i := range events {
		events[i].halves = true
		if object, ok := events[i].body.(map[string]any); ok && events[i].cloud && (isLossy(object["id"]) || isLossy(object["source"])) {
			return nil, false, push.NewProblem(push.CodeBadRequest, "the id or source of the CloudEvent holds half a character, and could be that of another")
		}
	}
	return events, isBatch, nil
}

// isLossy reports whether a value may have been another before it was decoded.
func isLossy(value any) bool {
	text, ok := value.(string)
	return ok && push.HasReplacement(text)
}

// decodeEvents is readEvents, whatever half characters may hide.
func decodeEvents(h http.Header, body []byte, receiver *signature.Receiver) (events []event, isBatch bool, p *push.Problem) {
	kind := mediaType(h)
	switch {
	case kind == batchKind:
		events, p = readBatch(body)
		return events, true, p
	case kind == structuredKind:
		e, p := readStructured(body)
		return []event{e}, false, p
	case inBinaryMode(h):
		e, p := readBinary(h, kind, body)
		return []event{e}, false, p
	}
	value, p := readBody(kind, body)
	if p != nil {
		return nil, false, p
	}
	// Nobody signs a Content-Type: where the body is signed, what is an event, or a
	// batch, under one is the same under another, or a repeat could be made a second
	// delivery.
	if receiver.Scheme().Proves().Body {
		if object, ok := value.(map[string]any); ok && object["specversion"] == "1.0" {
			if e, p := cloudEvent(value); p == nil {
				return []event{e}, false, nil
			}
		}
		if list, ok := value.([]any); ok && len(list) > 0 {
			if events, p := readBatch(body); p == nil {
				return events, true, nil
			}
		}
	}
	return []event{{id: receiver.DeliveryID(h, body, value), body: value}}, false, nil
}

// mediaType returns what the Content-Type says, without its parameters.
func mediaType(h http.Header) string {
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return kind
}

// unreadable says what is wrong with the headers of a webhook, whatever its body
// is; nil: nothing.
func unreadable(h http.Header, receiver *signature.Receiver) *push.Problem {
	switch coding := h.Get("Content-Encoding"); strings.ToLower(coding) {
	case "", "identity", "utf-8", "utf8": // the last two: a charset in the wrong place, as some senders write it
	default:
		return push.NewProblem(push.CodeBadRequest, "the body is compressed (Content-Encoding: %s), which is not read here: have it sent as it is", push.Clip(coding, 40))
	}
	if inBinaryMode(h) && receiver.Scheme().Proves().Body {
		return push.NewProblem(push.CodeBadRequest, "the CloudEvent is in binary mode: its attributes are headers, "+
			"which the signature does not cover. Have it sent in structured mode, as %s", structuredKind)
	}
	return nil
}

func readBody(kind string, body []byte) (any, *push.Problem) {
	switch {
	case kind == "application/x-www-form-urlencoded" && !looksLikeJSON(body):
		fields, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, push.NewProblem(push.CodeBadRequest, "the body is not the form that its Content-Type says")
		}
		return formValue(fields), nil
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		return decodeJSON(body)
	}
	if value, p := decodeJSON(body); p == nil {
		return value, nil
	}
	return strings.ToValidUTF8(string(body), "\ufffd"), nil
}

// looksLikeJSON reports whether body is a JSON object or array: what curl -d
// sends says that it is a form.
func looksLikeJSON(body []byte) bool {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	return len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid(trimmed)
}

// formValue makes an object of a form. A field that occurs more than once is a
// list; one that holds JSON stays a text.
func formValue(fields url.Values) map[string]any {
	object := make(map[string]any, len(fields))
	for name, values := range fields {
		if len(values) == 1 {
			object[name] = values[0]
			continue
		}
		list := make([]any, len(values))
		for i, v := range values {
			list[i] = v
		}
		object[name] = list
	}
	return object
}

// decodeJSON reads exactly one JSON value, its numbers as they are written.
func decodeJSON(body []byte) (any, *push.Problem) {
	if !utf8.Valid(body) {
		return nil, push.NewProblem(push.CodeBadJSON, "the body is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, serve.DecodeBytes(body, new(any)) // which says where
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, push.NewProblem(push.CodeBadJSON, "something follows the JSON value")
	}
	return value, nil
}
