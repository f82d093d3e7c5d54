// Package token reads and mints connection tokens: JSON Web Tokens that say
// whose connection it is, until when, and what it may hear.
//
// A token is signed by a key that TOKEN_KEYS lists ([ParseKeys]) or that the
// JWKS at JWKS_URL holds. Its header's kid names the key exactly: a token
// without kid is checked against the keys without kid and no others. The key,
// not the token, decides the algorithm: a header that says otherwise (or
// "none", or that has critical extensions) is refused before any signature is
// computed. HMAC keys come from TOKEN_KEYS only, never from a JWKS.
//
// The claims, those of Centrifugo:
//
//	sub       the user, a JSON string; a number is refused, because 1e3 and
//	          1000 would be one user and two names
//	exp       when the token ends; no leeway, because the node closes the
//	          connection at that second and clients refresh ahead of it.
//	          Without it the token never ends
//	nbf, iat  when it begins and was issued; refused if they lie ahead of our
//	          clock by more than the leeway
//	jti       the token's own id
//	iss, aud  must be what is configured, where something is configured;
//	          aud may be a list that holds it
//	info      any JSON about the user; b64info holds the same in base64
//	channels  what the server subscribes the connection to: topics. "all" and
//	          the user's own "#user" are there anyway and are left out
//	subs      the same as the keys of an object, whose values are ignored
//	topics    what the client itself may subscribe to: names, or prefixes
//	          ending in '*' ("*" alone: every topic)
//
// Other claims are ignored. null counts as absent.
//
// Errors are one of three: [ErrExpired] (was good once: the client fetches a
// new one), [ErrInvalid] (never will be good) and [ErrUnavailable] (nobody can
// tell now: the client tries again).
package token
