//go:build linux

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// secret signs the tokens of the benchmark, HS256. sub is a number.
const secret = "bench-secret-0123456789abcdef0123456789"

// auth returns the user that tok is of.
func auth(tok string) (uint32, error) {
	i := strings.LastIndexByte(tok, '.')
	if i < 0 {
		return 0, errors.New("token")
	}
	m := hmac.New(sha256.New, []byte(secret))
	io.WriteString(m, tok[:i])
	var sum [32]byte
	sig, err := base64.RawURLEncoding.DecodeString(tok[i+1:])
	if err != nil || !hmac.Equal(sig, m.Sum(sum[:0])) {
		return 0, errors.New("signature")
	}
	_, pl, _ := strings.Cut(tok[:i], ".")
	b, err := base64.RawURLEncoding.DecodeString(pl)
	if err != nil {
		return 0, err
	}
	var cl struct {
		Sub string `json:"sub"`
	}
	if err := json.Unmarshal(b, &cl); err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(cl.Sub)
	return uint32(n), err
}

func query(r *http.Request) (u uint32, since string, err error) {
	q := r.URL.Query()
	u, err = auth(q.Get("token"))
	return u, q.Get("since"), err
}
