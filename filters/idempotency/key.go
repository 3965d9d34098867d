package idempotency

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// keyOf is what a key stands for. It is its client's alone: who guesses another one's key does
// not get that one's response.
func keyOf(s *filter.Stream, key string, identity []string) (k Key) {
	h := sha256.New()
	write(h, key)
	write(h, s.Request.Value(header.Authority))
	for _, name := range identity {
		for v := range s.Request.Values(name) {
			write(h, name)
			write(h, v)
		}
	}
	if t := s.Accepted().TLS; t != nil && len(t.Peer) > 0 {
		c := t.Peer[0] // a new certificate of the same workload is the same client
		write(h, string(c.RawSubject))
		for _, u := range c.URIs {
			write(h, u.String())
		}
	}
	h.Sum(k[:0])
	return k
}

// digestOf tells one request from another.
func digestOf(s *filter.Stream, body *buffer.Buf) (d [32]byte) {
	h := sha256.New()
	write(h, s.Request.Value(header.Method))
	write(h, s.Request.Value(header.Path))
	write(h, s.Request.Value(header.ContentType))
	for p := range body.Views() {
		_, _ = h.Write(p) // a hash takes everything
	}
	h.Sum(d[:0])
	return d
}

// write adds a text with its length, so that no two lists of texts are alike.
func write(h hash.Hash, text string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(text)))
	_, _ = h.Write(n[:]) // a hash takes everything
	_, _ = io.WriteString(h, text)
}
