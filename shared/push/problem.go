package push

import "fmt"

// A Code is the stable name of an error that a client of our HTTP interfaces
// may act on. docs/protocol.md lists them with their meaning.
type Code string

// The codes, by the HTTP status they come with.
const (
	CodeBadJSON      Code = "bad_json"      // 400 not JSON, or not an object where one is due
	CodeUnknownField Code = "unknown_field" // 400 a field that does not exist; the detail names it
	CodeBadRequest   Code = "bad_request"   // 400 anything else wrong with the request's form

	CodeUnauthorized     Code = "unauthorized"      // 401 API key missing or wrong
	CodeTokenInvalid     Code = "token_invalid"     // 401 connection token not acceptable
	CodeTokenExpired     Code = "token_expired"     // 401 connection token was good once
	CodeSignatureMissing Code = "signature_missing" // 401 webhook not signed, or not in the form its source is set up for
	CodeSignatureInvalid Code = "signature_invalid" // 401 webhook signed wrongly; request between services not signed, or wrongly
	CodeSignatureRetired Code = "signature_retired" // 401 webhook signed with a secret that counts no more
	CodeSignatureStale   Code = "signature_stale"   // 401 signed too long ago, or used before
	CodeSignatureEarly   Code = "signature_early"   // 401 webhook signed too far in the future

	CodeForbiddenOrigin  Code = "forbidden_origin"   // 403 a page from elsewhere
	CodeAddressForbidden Code = "address_forbidden"  // 403 a webhook from where its source does not post from
	CodeNotFound         Code = "not_found"          // 404
	CodeMethodNotAllowed Code = "method_not_allowed" // 405

	CodeConflict  Code = "conflict"   // 409 the thing is in a state that does not allow this
	CodeOtherNode Code = "other_node" // 409 another incarnation lives at this address

	CodeBodyTooLarge Code = "body_too_large" // 413 the request's body is over its limit
	CodeDataTooLarge Code = "data_too_large" // 413 a message's data is over MaxData

	CodeInvalidMessage Code = "invalid_message" // 422 understood, but not a message that can be sent
	CodeIDReused       Code = "id_reused"       // 422 the id belongs to a message that reads otherwise
	CodeInvalidValue   Code = "invalid_value"   // 422 understood, but a value is not one that can be
	CodeRuleFailed     Code = "rule_failed"     // 422 a rule of a source could not be evaluated for a webhook

	CodeTooManyRequests Code = "too_many_requests" // 429 with Retry-After
	CodeInternal        Code = "internal"          // 500 our mistake
	CodeSourceUnusable  Code = "source_unusable"   // 500 what is stored of a webhook's source cannot be used until somebody mends it
	CodeUnavailable     Code = "unavailable"       // 503 with Retry-After: something we need is away
)

// A Problem is the body of every error answer (RFC 9457,
// application/problem+json). It is also an error. Detail is for people, and
// holds nothing secret.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Code     Code   `json:"code"`
	Instance string `json:"instance,omitempty"`
}

var problemTitles = map[Code]struct {
	status int
	title  string
}{
	CodeBadJSON:          {400, "The body is not the JSON that is due here"},
	CodeUnknownField:     {400, "The body has a field that does not exist"},
	CodeBadRequest:       {400, "The request is malformed"},
	CodeUnauthorized:     {401, "The API key is missing or wrong"},
	CodeTokenInvalid:     {401, "The token is not valid"},
	CodeTokenExpired:     {401, "The token has expired"},
	CodeSignatureMissing: {401, "The webhook is not signed"},
	CodeSignatureInvalid: {401, "The request's signature is missing or wrong"},
	CodeSignatureRetired: {401, "The webhook is signed with a retired secret"},
	CodeSignatureStale:   {401, "The request was signed outside the time window"},
	CodeSignatureEarly:   {401, "The webhook was signed too far in the future"},
	CodeForbiddenOrigin:  {403, "The page's origin is not allowed"},
	CodeAddressForbidden: {403, "The address is not allowed"},
	CodeNotFound:         {404, "There is no such thing"},
	CodeMethodNotAllowed: {405, "The method is not allowed here"},
	CodeConflict:         {409, "The present state does not allow this"},
	CodeOtherNode:        {409, "Another node lives at this address"},
	CodeBodyTooLarge:     {413, "The body is too large"},
	CodeDataTooLarge:     {413, "The message's data is too large"},
	CodeInvalidMessage:   {422, "The message cannot be sent"},
	CodeIDReused:         {422, "The id belongs to a different message"},
	CodeInvalidValue:     {422, "A value is not acceptable"},
	CodeRuleFailed:       {422, "A rule cannot be evaluated for this webhook"},
	CodeTooManyRequests:  {429, "Too many requests"},
	CodeInternal:         {500, "Something went wrong here"},
	CodeSourceUnusable:   {500, "The webhook's source cannot be used"},
	CodeUnavailable:      {503, "A part that is needed is away"},
}

// NewProblem returns the problem of code, with its status and title, and a
// detail for this occurrence (format as in fmt.Sprintf). An unknown code
// counts as [CodeInternal].
func NewProblem(code Code, format string, args ...any) *Problem {
	t, ok := problemTitles[code]
	if !ok {
		code, t = CodeInternal, problemTitles[CodeInternal]
	}
	return &Problem{
		Type: "urn:pushcluster:problem:" + string(code), Title: t.title, Status: t.status,
		Detail: fmt.Sprintf(format, args...), Code: code,
	}
}

// Codes returns every code with its status, for the documentation's test.
func Codes() map[Code]int {
	codes := make(map[Code]int, len(problemTitles))
	for c, t := range problemTitles {
		codes[c] = t.status
	}
	return codes
}

// Error returns the code and the detail.
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }
