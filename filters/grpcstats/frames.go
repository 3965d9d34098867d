package grpcstats

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// frames counts the messages of one direction: each is a byte of flags, four of length,
// and as many as that says
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message).
// A message counts with its first byte.
type frames struct {
	count  uint64
	head   int    // bytes of the prefix that were seen
	length uint32 // of the message, as far as it was seen
	left   uint32 // of the message, still to come
}

// see counts what begins in a piece of the body, which it does not change.
func (f *frames) see(b *buffer.Buf) (begun uint64) {
	for p := range b.Views() {
		for len(p) > 0 {
			if f.left > 0 {
				n := min(int(f.left), len(p))
				f.left -= uint32(n)
				p = p[n:]
				continue
			}
			if f.head == 0 {
				begun++
				f.length = 0
			} else {
				f.length = f.length<<8 | uint32(p[0])
			}
			p = p[1:]
			if f.head++; f.head == filter.GRPCPrefix {
				f.head, f.left = 0, f.length
			}
		}
	}
	f.count += begun
	return begun
}
