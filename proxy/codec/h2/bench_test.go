package h2

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// BenchmarkExchange is one exchange of 1 KiB at a time: both sides, both sockets.
func BenchmarkExchange(b *testing.B) {
	benchmarkExchange(b, 1)
}

// BenchmarkExchange32 is 32 of them at a time on one connection.
func BenchmarkExchange32(b *testing.B) {
	benchmarkExchange(b, 32)
}

func benchmarkExchange(b *testing.B, streams int) {
	x, y := pair(b)
	serve(b, y, ServerOptions{}, answer)
	c := dial(b, x, ClientOptions{})
	q := get("user-agent", "bench", "accept", "*/*")
	b.ReportAllocs()
	b.SetParallelism(streams)
	b.RunParallel(func(p *testing.PB) {
		var m header.Map
		var body buffer.Buf
		for p.Next() {
			st, err := c.Open(noContext)
			if err != nil {
				b.Error(err)
				return
			}
			err = st.WriteHeaders(q, true)
			m.Reset()
			if err == nil {
				_, err = st.ReadHeaders(&m)
			}
			if err == nil {
				_, err = st.ReadData(&body)
				body.Release()
			}
			st.Release()
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}
