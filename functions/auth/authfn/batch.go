package authfn

import (
	"errors"
	"net/http"
	"strconv"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/token"
)

// verifyBatch answers whose each of several tokens is, each judged as if it had
// come alone. A token for which something would have to be fetched first is left
// without an answer: it is to come alone, so that the others need not wait.
func (h *Handler) verifyBatch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	body, p := serve.Body(w, r, maxBatchBody)
	var tokens []string
	if p == nil {
		tokens, p = readTokens(body)
	}
	if p != nil {
		serve.Problem(w, r, p)
		return
	}
	answer := push.VerifyBatchAnswer{Results: make([]push.VerifyResult, len(tokens))}
	identities := make([]push.Identity, len(tokens))
	for i, text := range tokens {
		var err error
		identities[i], err = h.judgeNow(r.Context(), text)
		switch {
		case err == nil:
			answer.Results[i].Identity = &identities[i]
		case !errors.Is(err, token.ErrNotNow):
			answer.Results[i].Problem = problemOf(err)
		}
	}
	written := appendAnswer(make([]byte, 0, resultBytes*len(tokens)), &answer)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(written)))
	w.Write(written) // a node that left hears nothing, and needs nothing
}

// resultBytes is about what the result of a token takes in an answer.
const resultBytes = 256

// readTokens reads a [push.VerifyBatchRequest].
func readTokens(body []byte) ([]string, *push.Problem) {
	tokens, ok := plainTokens(body)
	if !ok {
		var req push.VerifyBatchRequest
		if p := serve.DecodeBytes(body, &req); p != nil {
			return nil, p
		}
		tokens = req.Tokens
	}
	if len(tokens) == 0 || len(tokens) > push.MaxTokens {
		return nil, push.NewProblem(push.CodeBadRequest, "%d tokens; one to %d go together", len(tokens), push.MaxTokens)
	}
	return tokens, nil
}
