package push

// A CloseCode ends a WebSocket. Clients return after 3000 to 3499 and stay away
// after 3500 to 3999 (Centrifugo client protocol v2). The reason must not parse
// as JSON: older SDKs would read it as such.
type CloseCode struct {
	Code   int
	Reason string
}

// The close codes a node uses.
var (
	CloseNormal        = CloseCode{3000, "connection closed"}
	CloseShutdown      = CloseCode{3001, "shutdown"}              // the node drains, or has lost its data: come back elsewhere
	CloseInternal      = CloseCode{3004, "internal server error"} // our mistake: come back
	CloseExpired       = CloseCode{3005, "connection expired"}    // the token ended and was not refreshed
	CloseSlow          = CloseCode{3008, "slow"}                  // more was waiting than a connection may hold: come back and recover
	CloseWriteError    = CloseCode{3009, "write error"}
	CloseInsufficient  = CloseCode{3010, "insufficient state"} // its order could not be kept: come back and recover
	CloseNoPong        = CloseCode{3012, "no pong"}
	CloseInvalidToken  = CloseCode{3500, "invalid token"}
	CloseBadRequest    = CloseCode{3501, "bad request"}
	CloseStale         = CloseCode{3502, "stale"}            // did not connect in time
	CloseForced        = CloseCode{3503, "force disconnect"} // kicked by order
	CloseTooMany       = CloseCode{3504, "connection limit"}
	CloseTooManySubs   = CloseCode{3505, "channel limit"}
	CloseNotAvailable  = CloseCode{3508, "not available"}
	CloseTooManyErrors = CloseCode{3509, "too many errors"}
)
