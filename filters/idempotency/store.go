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
	Running              // it is under way, in a process that still works on it
	Done                 // there is a response
	Unknown              // it may have been carried out, and nobody will ever know the response
)

// Record is what is known of a key.
type Record struct {
	State    State     `json:"state"`
	Request  [32]byte  `json:"request"` // a digest of the request, to tell another one with the same key
	Response *Response `json:"response,omitempty"`
	Until    time.Time `json:"until"`           // when it is forgotten
	Owner    string    `json:"owner,omitempty"` // whose claim it is: a text that no other claim has
}

// Response is a response as it is given again. A nil Body with Large was too large to be kept.
type Response struct {
	Code   int         `json:"code"`
	Header [][2]string `json:"header"`
	Body   []byte      `json:"body"`
	Large  bool        `json:"large,omitempty"`
}

// abandoned is what a record says that is found in a store of one process, which asks for a key
// only if nothing is under way with it.
func abandoned(r Record) Record {
	if r.State == Running {
		r.State = Unknown
	}
	return r
}

// Store remembers keys. It may be used by many goroutines. Its errors are those of what it
// is made of; what then became of the key is not known.
type Store interface {
	// Claim returns what is known of a key. If that is nothing, it is Running from now on, by
	// the caller, who gets Fresh; so does one who asks again with the same Owner, not knowing
	// how it ended. r has the state Running. No process asks for a key while a request of its
	// own is under way with it: where nobody else could be, what is found Running is Unknown.
	// Who gets Running asks again, or gives up.
	Claim(ctx context.Context, k Key, r Record) (Record, error)
	// Settle makes r what is known of a key that the caller has claimed. When it returns, a
	// crash does not lose it.
	Settle(ctx context.Context, k Key, r Record) error
	// Forget takes back the claim of that owner: nothing was carried out.
	Forget(ctx context.Context, k Key, owner string) error
}

// errFull is the end of a request for whose key there is no room.
var errFull = errors.New("the store is full")
