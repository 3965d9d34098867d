package call_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/call"
)

// open begins a call that ends with the test.
func (b *bench) open(ctx context.Context, limit int) *call.Stream {
	b.t.Helper()
	to := &call.GRPC{Cluster: "c", Authority: "svc", MaxMessage: limit}
	st, err := b.client.Open(call.Background(ctx), to, "/p.S/M", nil, soon())
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

// soon is when a test gives up.
func soon() time.Time { return time.Now().Add(patience) }

// received is what comes on a stream until it ends, and how it ends.
func received(st *call.Stream) (got []string, end error) {
	for {
		m, err := st.Receive(soon())
		if err != nil {
			return got, err
		}
		got = append(got, string(m))
	}
}

// TestStream: what a service sends, cut as it likes, and how it ends.
func TestStream(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for name, c := range map[string]struct {
		pieces []string
		reply  reply
		got    string
		end    string
	}{
		"nothing":        {reply: reply{code: 200, status: "0"}, end: "EOF"},
		"two at once":    {pieces: []string{framed("a") + framed("b")}, reply: reply{code: 200, status: "0"}, got: "a b", end: "EOF"},
		"in pieces":      {pieces: []string{"\x00\x00", "\x00\x00\x04po", "ng" + framed("")}, reply: reply{code: 200, status: "0"}, got: "pong ", end: "EOF"},
		"long":           {pieces: []string{framed(long)}, reply: reply{code: 200, status: "0"}, got: long, end: "EOF"},
		"status":         {reply: reply{code: 200, status: "7", text: "not%20you"}, end: "call: gRPC status 7: not you"},
		"late status":    {pieces: []string{framed("a")}, reply: reply{code: 200, status: "13"}, got: "a", end: "call: gRPC status 13: "},
		"trailers only":  {reply: reply{code: 200, early: true, status: "14", text: "later"}, end: "call: gRPC status 14: later"},
		"HTTP":           {reply: reply{code: 503}, end: "call: gRPC status 14: HTTP status 503"},
		"no status":      {pieces: []string{framed("a")}, reply: reply{code: 200}, got: "a", end: "call: gRPC status 2: the answer has no status"},
		"cut":            {pieces: []string{framed("pong")[:7]}, reply: reply{code: 200, status: "0"}, end: "call: the answer is no gRPC message"},
		"cut and failed": {pieces: []string{framed("pong")[:7]}, reply: reply{code: 200, status: "8"}, end: "call: gRPC status 8: "},
		"compressed":     {pieces: []string{"\x01" + framed("pong")[1:]}, reply: reply{code: 200, status: "0"}, end: "call: the answer is no gRPC message"},
		"an early hint":  {reply: reply{code: 103, status: "0"}, end: "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); string(body) != framed("one")+framed("two") {
					t.Errorf("asked %q", body)
				}
				if c.reply.code == 103 {
					w.WriteHeader(103)
					c.reply.code = 200
				}
				for _, p := range c.pieces {
					_, _ = io.WriteString(w, p)
					_ = http.NewResponseController(w).Flush()
				}
				if len(c.pieces) > 0 {
					set(w.Header(), http.TrailerPrefix, &c.reply)
					return
				}
				c.reply.write(w)
			})
			st := newBench(t, s.addr, 2).open(t.Context(), 0)
			defer st.Close()
			for _, m := range []string{"one", "two"} {
				if err := st.Send([]byte(m), soon()); err != nil {
					t.Fatal(err)
				}
			}
			if err := st.CloseSend(); err != nil {
				t.Fatal(err)
			}
			got, err := received(st)
			if strings.Join(got, " ") != c.got || err.Error() != c.end {
				t.Errorf("%q, %v", got, err)
			}
			if _, again := st.Receive(soon()); again != err { //nolint:errorlint // the same one
				t.Errorf("and then %v", again)
			}
		})
	}
}

// TestStreamLargeMessage: a message is bounded, and is not waited for if it is too large.
func TestStreamLargeMessage(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, framed(strings.Repeat("x", 1000))+framed(strings.Repeat("x", 1001))[:100])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-over:
		case <-r.Context().Done():
		}
	})
	b := newBench(t, s.addr, 2)
	st := b.open(t.Context(), 1000)
	if got, err := received(st); len(got) != 1 || len(got[0]) != 1000 || !errors.Is(err, call.ErrTooLarge) {
		t.Errorf("%d messages, %v", len(got), err)
	}
	st.Close()
	b.counted(map[string]uint64{"upstream_rq_tx_reset": 1, "upstream_rq_active": 0})
}

// TestStreamBothWays: one goroutine sends while another receives.
func TestStreamBothWays(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				break
			}
		}
		set(w.Header(), http.TrailerPrefix, &reply{status: "0"})
	})
	b := newBench(t, s.addr, 2)
	for range 2 {
		st := b.open(t.Context(), 0)
		sent := make(chan error, 1)
		go func() {
			for range 500 {
				if err := st.Send([]byte(strings.Repeat("m", 999)), soon()); err != nil {
					sent <- err
					return
				}
			}
			sent <- st.CloseSend()
		}()
		got, err := received(st)
		if sendErr := <-sent; sendErr != nil || len(got) != 500 || !errors.Is(err, io.EOF) {
			t.Errorf("%d of 500 came back: %v, %v", len(got), sendErr, err)
		}
		st.Close()
	}
	b.counted(map[string]uint64{"upstream_rq_200": 2, "upstream_rq_tx_reset": 0, "upstream_rq_active": 0, "upstream_cx_total": 1})
}

// TestStreamEndsEarly: a service that has answered keeps nobody who still sends, however much
// that is, and what it said is heard.
func TestStreamEndsEarly(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		c := reply{code: 200, early: true, status: "7", text: "enough"}
		c.write(w)
	})
	b := newBench(t, s.addr, 2)
	st := b.open(t.Context(), 0)
	if err := st.Send(make([]byte, 8<<20), soon()); errors.Is(err, call.ErrTimeout) || call.Ended(err) != nil {
		t.Errorf("sending ended with %v", err)
	}
	var status *call.Status
	if _, err := st.Receive(soon()); !errors.As(err, &status) || status.Code != 7 {
		t.Errorf("the service said %v", err)
	}
	st.Close()
	b.counted(map[string]uint64{"upstream_rq_timeout": 0, "upstream_rq_active": 0})
}

// TestStreamIsLost: the connection goes in the middle of a message.
func TestStreamIsLost(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, framed("a")+framed("pong")[:6])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	b := newBench(t, s.addr, 2)
	st := b.open(t.Context(), 0)
	if m, err := st.Receive(soon()); string(m) != "a" || err != nil {
		t.Fatalf("%q, %v", m, err)
	}
	s.cut()
	var status *call.Status
	_, err := st.Receive(soon())
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, call.ErrTimeout) || errors.As(err, &status) || call.Ended(err) != nil {
		t.Errorf("%v", err)
	}
	st.Close()
	b.counted(map[string]uint64{"upstream_rq_active": 0})
}

// TestStreamDeadline: what has not come yet may be asked for again.
func TestStreamDeadline(t *testing.T) {
	say := make(chan string)
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for m := range say {
			_, _ = io.WriteString(w, m)
			_ = http.NewResponseController(w).Flush()
		}
		set(w.Header(), http.TrailerPrefix, &reply{status: "0"})
	})
	st := newBench(t, s.addr, 2).open(t.Context(), 0)
	defer st.Close()
	for _, m := range []string{framed("one"), framed("two")} {
		if _, err := st.Receive(time.Now()); !errors.Is(err, call.ErrTimeout) {
			t.Errorf("too early: %v", err)
		}
		say <- m
		if got, err := st.Receive(soon()); framed(string(got)) != m || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	close(say)
	if _, err := st.Receive(soon()); !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
}

// TestStreamDeafHost: a host that reads nothing has the call reset in time.
func TestStreamDeafHost(t *testing.T) {
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	b := newBench(t, s.addr, 2)
	st := b.open(t.Context(), 0)
	if err := st.Send(make([]byte, 64<<20), time.Now().Add(100*time.Millisecond)); !errors.Is(err, call.ErrTimeout) {
		t.Errorf("%v", err)
	}
	if err := st.Send(nil, soon()); !errors.Is(err, call.ErrTimeout) {
		t.Errorf("and then %v", err)
	}
	st.Close()
	b.counted(map[string]uint64{"upstream_rq_timeout": 1, "upstream_rq_active": 0})
}

// TestStreamWaiterGoes: whoever waits for a stream, to send or to receive, goes with it.
func TestStreamWaiterGoes(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	b := newBench(t, s.addr, 2)
	for name, wait := range map[string]func(st *call.Stream) error{
		"receive": func(st *call.Stream) error { _, err := st.Receive(soon()); return err },
		"send":    func(st *call.Stream) error { return st.Send(make([]byte, 64<<20), soon()) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		st := b.open(ctx, 0)
		time.AfterFunc(time.Millisecond, cancel) // before or while it waits
		if err := wait(st); !errors.Is(call.Ended(err), context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		st.Close()
	}
	b.counted(map[string]uint64{"upstream_rq_tx_reset": 2, "upstream_rq_timeout": 0, "upstream_rq_active": 0})
}

// TestStreamsAreBounded: a stream has a place of the circuit breakers until it is closed.
func TestStreamsAreBounded(t *testing.T) {
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	b := newBench(t, s.addr, 2)
	var open []*call.Stream
	for range 4 { // max_requests
		open = append(open, b.open(t.Context(), 0))
	}
	to := &call.GRPC{Cluster: "c", Authority: "svc"}
	if st, err := b.client.Open(call.Background(t.Context()), to, "/p.S/M", nil, soon()); err == nil {
		st.Close()
		t.Error("a fifth call began")
	}
	open[0].Close()
	open[0] = b.open(t.Context(), 0)
	for _, st := range open {
		st.Close()
	}
}

// TestStreamNobodyToAsk: a call that cannot begin holds nothing.
func TestStreamNobodyToAsk(t *testing.T) {
	b := newBench(t, script(t, func(c net.Conn) { _ = c.Close() }), 2)
	to := &call.GRPC{Cluster: "none", Authority: "svc"}
	if _, err := b.client.Open(call.Background(t.Context()), to, "/p.S/M", nil, soon()); !errors.Is(err, call.ErrNoCluster) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	to.Cluster = "c"
	if st, err := b.client.Open(call.Background(ctx), to, "/p.S/M", nil, soon()); err == nil {
		if _, err := st.Receive(soon()); err == nil {
			t.Error("a call of nobody has an answer")
		}
		st.Close()
	} else if call.Ended(err) == nil {
		t.Errorf("%v", err)
	}
	b.counted(map[string]uint64{"upstream_rq_active": 0})
}
