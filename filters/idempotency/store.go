package idempotency

import (
	"context"
	"errors"
	"time"
)

// Key is what an idempotency key stands for: a digest of the key, of what it was sent to and of
// who has sent it.
type Key [32]byte

// State is how far the request of a key has come.
type State uint8

// The states.
const (
	Fresh   State = iota // nobody has sent it before: it is the caller's to send
	Running              // it is under way
	Done                 // there is a response
	Unknown              // it may have been carried out, and nobody will ever know the response
)

// Record is what is known of a key.
type Record struct {
	State    State     `json:"state"`
	Request  [32]byte  `json:"request"` // a digest of the request, to tell another one with the same key
	Response *Response `json:"response,omitempty"`
	Until    time.Time `json:"until"`           // when it is forgotten
	Owner    string    `json:"owner,omitempty"` // which process claimed it
}

// Response is a response as it is given again. A nil Body with Large was too large to be kept.
type Response struct {
	Code   int         `json:"code"`
	Header [][2]string `json:"header"`
	Body   []byte      `json:"body"`
	Large  bool        `json:"large,omitempty"`
}

// Store remembers keys. It may be used by many goroutines. Its errors are those of what it
// is made of; what then became of the key is not known.
type Store interface {
	// Claim returns what is known of a key. If that is nothing, it is Running from now on, by
	// the caller, who gets Fresh. r has the state Running.
	Claim(ctx context.Context, k Key, r Record) (Record, error)
	// Settle makes r what is known of a key that the caller has claimed. When it returns, a
	// crash does not lose it.
	Settle(ctx context.Context, k Key, r Record) error
	// Forget takes back a claim: nothing was carried out.
	Forget(ctx context.Context, k Key) error
}

// errFull is the end of a request for whose key there is no room.
var errFull = errors.New("the store is full")
