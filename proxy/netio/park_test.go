package netio

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

func newParker(t testing.TB) *Parker {
	p := NewParker()
	t.Cleanup(p.Close)
	return p
}

// wokenBy parks c and returns how it was woken.
func wokenBy(t *testing.T, p *Parker, c *Conn, deadline time.Time, do func()) bool {
	t.Helper()
	woken := make(chan bool, 2)
	if !p.Park(c, deadline, func(readable bool) { woken <- readable }) {
		t.Fatal("cannot park")
	}
	do()
	select {
	case r := <-woken:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("was not woken")
		return false
	}
}

func TestPark(t *testing.T) {
	p := newParker(t)
	a, b := pair(t, "tcp")
	for range 3 { // the same connection again and again
		if !wokenBy(t, p, b, time.Time{}, func() { a.Write([]byte("x")) }) {
			t.Error("data: not readable")
		}
		var buf buffer.Buf
		if n, err := b.ReadBuf(&buf); n != 1 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		buf.Release()
	}
	a.Write([]byte("y"))
	if !wokenBy(t, p, b, time.Time{}, func() {}) { // readable already
		t.Error("data that was there: not readable")
	}
	var buf buffer.Buf
	b.ReadBuf(&buf)
	b.Unread(&buf)
	if !wokenBy(t, p, b, time.Time{}, func() {}) {
		t.Error("unread bytes: not readable")
	}
	b.ReadBuf(&buf)
	buf.Release()

	begin := time.Now()
	if wokenBy(t, p, b, begin.Add(30*time.Millisecond), func() {}) {
		t.Error("deadline: readable")
	}
	if d := time.Since(begin); d < 25*time.Millisecond {
		t.Errorf("the deadline passed after %v", d)
	}
	if wokenBy(t, p, b, time.Now().Add(time.Hour), b.Interrupt) {
		t.Error("interrupt: readable")
	}
	if wokenBy(t, p, b, time.Time{}, func() {}) {
		t.Error("interrupted before: readable")
	}
	b.Resume()
	if !wokenBy(t, p, b, time.Now().Add(time.Hour), func() { a.CloseWrite() }) {
		t.Error("end of the stream: not readable")
	}
	if wokenBy(t, p, a, time.Now().Add(time.Hour), func() { a.Close() }) {
		t.Error("closed here: readable")
	}
	if p.Parked() != 0 {
		t.Errorf("%d are still parked", p.Parked())
	}
	x, y := net.Pipe()
	defer x.Close()
	defer y.Close()
	if p.Park(NewConn(x), time.Time{}, nil) {
		t.Error("parked what has no descriptor")
	}
}

func TestParkDeadlines(t *testing.T) {
	p := newParker(t)
	var wg sync.WaitGroup
	begin := time.Now()
	for _, i := range []int{3, 1, 4, 0, 2} {
		_, b := pair(t, "tcp")
		wg.Add(1)
		due := begin.Add(time.Duration(i+1) * 2 * time.Duration(dueGrain))
		p.Park(b, due, func(readable bool) {
			defer wg.Done()
			// What is late is woken together, in any order; nobody is woken with those before.
			if early := time.Until(due); early > time.Duration(dueGrain) || readable {
				t.Errorf("%d was woken %v before its deadline, readable %t", i, early, readable)
			}
		})
	}
	wg.Wait()
}

// TestParkStress parks many connections, each woken by whichever of data, deadline,
// interrupt and close comes first: every Park resumes exactly once.
func TestParkStress(t *testing.T) {
	conns, rounds := 64, 200
	if testing.Short() {
		conns, rounds = 16, 50
	}
	p := newParker(t)
	var parks, resumes atomic.Int64
	var wg sync.WaitGroup
	for i := range conns {
		a, b := pair(t, "tcp")
		wg.Go(func() {
			woken := make(chan bool)
			for r := range rounds {
				var deadline time.Time
				if (i+r)%3 == 0 {
					deadline = time.Now().Add(time.Duration(r%5) * time.Millisecond)
				}
				parks.Add(1)
				if !p.Park(b, deadline, func(readable bool) {
					resumes.Add(1)
					woken <- readable
				}) {
					t.Error("cannot park")
					return
				}
				switch (i + r) % 4 {
				case 0, 1:
					a.Write([]byte("x"))
				default:
					b.Interrupt()
				}
				<-woken
				b.Resume()
				var buf buffer.Buf
				b.TryReadBuf(&buf)
				buf.Release()
			}
		})
	}
	wg.Wait()
	if parks.Load() != resumes.Load() {
		t.Errorf("%d parks, %d resumes", parks.Load(), resumes.Load())
	}
}

func TestParkerClose(t *testing.T) {
	p := NewParker()
	var woken sync.WaitGroup
	for range 5 {
		_, b := pair(t, "tcp")
		woken.Add(1)
		p.Park(b, time.Now().Add(time.Hour), func(readable bool) {
			if readable {
				t.Error("readable")
			}
			woken.Done()
		})
	}
	p.Close()
	woken.Wait()
	_, b := pair(t, "tcp")
	if p.Park(b, time.Time{}, nil) {
		t.Error("parked after Close")
	}
	NewParker().Close() // never used
}

func TestParkAllocs(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("the race detector drops pooled memory, the invariants record stacks")
	}
	p := newParker(t)
	_, b := pair(t, "tcp")
	woken := make(chan bool, 1)
	resume := func(readable bool) { woken <- readable }
	once := func() {
		p.Park(b, time.Now().Add(time.Hour), resume)
		b.Interrupt()
		<-woken
		b.Resume()
	}
	once()
	if n := testing.AllocsPerRun(200, once); n > 1 { // `go resume(...)` makes a closure
		t.Errorf("%v allocations", n)
	}
}
