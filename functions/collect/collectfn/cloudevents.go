package collectfn

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"pushcluster/shared/push"
)

// CloudEvents 1.0 over HTTP. Whichever way an event comes, rules see it as in
// structured mode: its attributes are fields of the body, and data is one.

// How an event says its mode: by its Content-Type, or, in binary mode, by headers.
const (
	structuredKind = "application/cloudevents+json"
	batchKind      = "application/cloudevents-batch+json"
)

// inBinaryMode reports whether h hold the attributes of an event.
func inBinaryMode(h http.Header) bool {
	kind := mediaType(h)
	return kind != structuredKind && kind != batchKind && h.Get("ce-specversion") != "" && h.Get("ce-id") != ""
}

// readStructured reads an event that is a JSON object.
func readStructured(body []byte) (event, *push.Problem) {
	value, p := decodeJSON(body)
	if p != nil {
		return event{}, p
	}
	return cloudEvent(value)
}

// readBatch reads an array of events, at most MaxBatch.
func readBatch(body []byte) ([]event, *push.Problem) {
	value, p := decodeJSON(body)
	if p != nil {
		return nil, p
	}
	list, ok := value.([]any)
	if !ok {
		return nil, push.NewProblem(push.CodeBadJSON, "a batch of CloudEvents must be an array")
	}
	if len(list) > MaxBatch {
		return nil, push.NewProblem(push.CodeBodyTooLarge, "the batch holds %d events, more than %d", len(list), MaxBatch)
	}
	events := make([]event, len(list))
	for i, one := range list {
		if events[i], p = cloudEvent(one); p != nil {
			return nil, push.NewProblem(p.Code, "event %d: %s", i, p.Detail)
		}
	}
	return events, nil
}

// readBinary reads an event whose attributes are headers. Those that may carry a
// secret are left out, as rules see no such header.
func readBinary(h http.Header, kind string, body []byte) (event, *push.Problem) {
	object := make(map[string]any)
	for name, values := range h {
		attribute, ok := strings.CutPrefix(name, "Ce-")
		if !ok || attribute == "" || secretName(strings.ToLower(name)) {
			continue
		}
		value := strings.Join(values, ", ")
		if decoded, err := url.PathUnescape(value); err == nil {
			value = decoded
		}
		object[strings.ToLower(attribute)] = strings.ToValidUTF8(value, "\ufffd")
	}
	if kind != "" {
		object["datacontenttype"] = h.Get("Content-Type")
	}
	switch {
	case len(body) == 0:
	case kind == "" || kind == "application/json" || strings.HasSuffix(kind, "+json"):
		data, p := decodeJSON(body)
		if p != nil {
			return event{}, p
		}
		object["data"] = data
	case utf8.Valid(body):
		object["data"] = string(body)
	default:
		object["data_base64"] = base64.StdEncoding.EncodeToString(body)
	}
	return cloudEvent(object)
}

// cloudEvent checks an event in structured form. Its delivery is told from
// others by its source and id together, as its specification says.
func cloudEvent(value any) (event, *push.Problem) {
	object, ok := value.(map[string]any)
	if !ok {
		return event{}, push.NewProblem(push.CodeBadJSON, "a CloudEvent must be an object")
	}
	if object["specversion"] != "1.0" {
		return event{}, push.NewProblem(push.CodeBadRequest, "specversion of the CloudEvent is not 1.0")
	}
	for _, name := range []string{"id", "source", "type"} {
		if text, ok := object[name].(string); !ok || text == "" {
			return event{}, push.NewProblem(push.CodeBadRequest, "the CloudEvent has no %s", name)
		}
	}
	sum := sha256.Sum256([]byte(object["source"].(string) + "\x00" + object["id"].(string)))
	return event{id: "ce-" + hex.EncodeToString(sum[:16]), body: object, cloud: true}, nil
}
