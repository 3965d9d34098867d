package buffer

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"
)

// TestMain fails the run if a test kept a slab (with -tags invariants).
func TestMain(m *testing.M) {
	code := m.Run()
	if leaks := Leaks(); code == 0 && len(leaks) > 0 {
		fmt.Printf("%d slabs leaked, the first was taken at\n%s\n", len(leaks), leaks[0])
		code = 1
	}
	os.Exit(code)
}

// pieces returns a Buf of the given pieces, each in a slab of its own.
func pieces(parts ...string) *Buf {
	b := &Buf{}
	for _, p := range parts {
		var one Buf
		one.AppendString(p)
		b.MoveAll(&one)
	}
	return b
}

func TestPeek(t *testing.T) {
	for _, c := range []struct {
		parts []string
		n     int
		want  string
		ok    bool
	}{
		{nil, 0, "", true},
		{nil, 1, "", false},
		{[]string{"abc"}, 2, "ab", true},
		{[]string{"abc"}, 3, "abc", true},
		{[]string{"abc"}, 4, "", false},
		{[]string{"ab", "cd", "ef"}, 3, "abc", true},
		{[]string{"ab", "cd", "ef"}, 6, "abcdef", true},
	} {
		b := pieces(c.parts...)
		before := string(b.Bytes())
		got, ok := b.Peek(c.n)
		if string(got) != c.want || ok != c.ok {
			t.Errorf("%q.Peek(%d) = %q, %v", c.parts, c.n, got, ok)
		}
		if cap(got) != len(got) {
			t.Errorf("%q.Peek(%d) may be appended to", c.parts, c.n)
		}
		if after := string(b.Bytes()); after != before {
			t.Errorf("%q.Peek(%d) left %q", c.parts, c.n, after)
		}
		b.Release()
	}
}

// TestPeekThenMore: what is gathered for a large head has room for what comes next,
// so that a head that arrives in small pieces isn't copied again for each.
func TestPeekThenMore(t *testing.T) {
	b := pieces(string(make([]byte, SlabSize)), "x")
	defer b.Release()
	b.Peek(b.Len())
	room := b.Reserve(1)
	if b.Segments() != 1 || len(room) < SlabSize {
		t.Errorf("%d segments, room for %d bytes", b.Segments(), len(room))
	}
	b.Commit(0)
}

func TestReserve(t *testing.T) {
	var b Buf
	defer b.Release()
	room := b.Reserve(10)
	if len(room) != SlabSize {
		t.Errorf("room of %d bytes, want a slab", len(room))
	}
	b.Commit(copy(room, "abc"))
	if room = b.Reserve(10); len(room) != SlabSize-3 {
		t.Errorf("second room of %d bytes, want the rest of the slab", len(room))
	}
	b.Commit(copy(room, "def"))
	if string(b.Bytes()) != "abcdef" || b.Segments() != 1 {
		t.Errorf("%q in %d segments", b.Bytes(), b.Segments())
	}
	if room = b.Reserve(SlabSize); len(room) < SlabSize {
		t.Errorf("room of %d bytes, want %d", len(room), SlabSize)
	}
	b.Commit(0)
	if b.Segments() != 1 {
		t.Errorf("Commit(0) left %d segments", b.Segments())
	}
	if room = b.Reserve(LargeSlabSize + 1); len(room) < LargeSlabSize+1 {
		t.Errorf("room of %d bytes beyond a large slab", len(room))
	}
	b.Commit(1)
}

// TestReserveShared: bytes behind a view that somebody else sees, too, belong to nobody.
func TestReserveShared(t *testing.T) {
	a := pieces("abc")
	var b Buf
	a.Share(&b, 3)
	a.AppendString("x")
	b.AppendString("y")
	if string(a.Bytes()) != "abcx" || string(b.Bytes()) != "abcy" {
		t.Errorf("got %q and %q", a.Bytes(), b.Bytes())
	}
	a.Release()
	b.Release()
}

func TestMoveSplits(t *testing.T) {
	a := pieces("abcdef")
	var b Buf
	b.Move(a, 2)
	a.AppendString("ghi") // not over what b has
	b.AppendString("XYZ") // not over what a has
	if string(a.Bytes()) != "cdefghi" || string(b.Bytes()) != "abXYZ" {
		t.Errorf("got %q and %q", a.Bytes(), b.Bytes())
	}
	b.Move(a, 100)
	if a.Len() != 0 || string(b.Bytes()) != "abXYZcdefghi" {
		t.Errorf("got %q and %q", a.Bytes(), b.Bytes())
	}
	b.Release()
}

// TestManyViews: a large body moves as a whole, and nobody keeps the list of its
// views afterwards.
func TestManyViews(t *testing.T) {
	const n = 1000
	var a, b Buf
	for range n {
		var one Buf
		one.AppendString("x")
		a.MoveAll(&one)
	}
	b.MoveAll(&a)
	if b.Len() != n || b.Segments() != n || a.Len() != 0 {
		t.Errorf("%d bytes in %d segments, %d left", b.Len(), b.Segments(), a.Len())
	}
	b.Discard(n - 1)
	if b.Len() != 1 || string(b.First()) != "x" {
		t.Errorf("%d bytes left", b.Len())
	}
	b.Release()
	if cap(a.views) > keepViews || cap(b.views) > keepViews {
		t.Errorf("room for %d and %d views is kept", cap(a.views), cap(b.views))
	}
}

func TestReleaseTwicePanics(t *testing.T) {
	b := pieces("a")
	s := b.views[0].s
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("a slab can be released twice")
		}
		s.refs.Store(0)
	}()
	s.unref()
}

// TestPoison: with -tags invariants a view kept too long reads garbage.
func TestPoison(t *testing.T) {
	if !Invariants {
		t.Skip("needs -tags invariants")
	}
	b := pieces("secret")
	kept := b.First()
	if len(Leaks()) == 0 {
		t.Error("a slab in use is not listed")
	}
	b.Release()
	if bytes.Contains(kept, []byte("s")) {
		t.Errorf("released slab still reads %q", kept)
	}
}

// TestConcurrent: two Bufs that share slabs live in two goroutines.
func TestConcurrent(t *testing.T) {
	var both sync.WaitGroup
	for range 8 {
		a := pieces("abcdef", "ghi")
		b := &Buf{}
		a.Share(b, 8)
		for _, x := range []*Buf{a, b} {
			both.Go(func() {
				for range 100 {
					x.AppendString("z")
					x.Discard(1)
				}
				x.Release()
			})
		}
	}
	both.Wait()
}

func TestAllocs(t *testing.T) {
	if raceEnabled || Invariants {
		t.Skip("instrumented build")
	}
	var a, b Buf
	if n := testing.AllocsPerRun(1000, func() {
		a.AppendString("some words")
		b.Move(&a, 4)
		b.MoveAll(&a)
		b.Peek(10)
		b.Share(&a, 3)
		b.Release()
		a.Release()
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// FuzzBuf runs a program of operations on three Bufs and on plain byte slices.
func FuzzBuf(f *testing.F) {
	f.Add([]byte{0x00, 40, 0x10, 20, 0x21, 10, 0x30, 5, 0x42, 3, 0x51, 9, 0x60, 200, 0x71, 0})
	f.Add(bytes.Repeat([]byte{0x00, 255, 0x11, 100, 0x20, 50, 0x62, 250}, 20))
	f.Fuzz(func(t *testing.T, program []byte) {
		var bufs [3]Buf
		var model [3][]byte
		fill := byte(0)
		for ; len(program) >= 2; program = program[2:] {
			i := int(program[0]&0xf) % 3
			j := (i + 1) % 3
			n := int(program[1])
			b, m := &bufs[i], &model[i]
			k := min(n, len(*m))
			switch program[0] >> 4 {
			case 0:
				n *= 97
				p := bytes.Repeat([]byte{fill}, n)
				fill++
				b.Append(p)
				*m = append(*m, p...)
			case 1:
				bufs[j].Move(b, n)
				model[j] = append(model[j], (*m)[:k]...)
				*m = (*m)[k:]
			case 2:
				b.Share(&bufs[j], n)
				model[j] = append(model[j], (*m)[:k]...)
			case 3:
				b.Discard(n)
				*m = (*m)[k:]
			case 4:
				b.Truncate(n)
				*m = (*m)[:k]
			case 5:
				p, ok := b.Peek(n)
				if ok != (n <= len(*m)) || ok && !bytes.Equal(p, (*m)[:n]) {
					t.Fatalf("Peek(%d) = %q, %v; have %d", n, p, ok, len(*m))
				}
			case 6:
				room := b.Reserve(n)
				if len(room) < n {
					t.Fatalf("Reserve(%d) gave %d", n, len(room))
				}
				c := copy(room, bytes.Repeat([]byte{fill}, n/2))
				b.Commit(c)
				*m = append((*m)[:len(*m):len(*m)], room[:c]...)
			case 7:
				b.Release()
				*m = nil
			case 8:
				bufs[j].MoveAll(b)
				model[j] = append(model[j], *m...)
				*m = nil
			}
			for x := range bufs {
				check(t, &bufs[x], model[x])
			}
		}
		for x := range bufs {
			bufs[x].Release()
		}
	})
}

func check(t *testing.T, b *Buf, want []byte) {
	t.Helper()
	n := 0
	for p := range b.Views() {
		if len(p) == 0 {
			t.Fatal("an empty view")
		}
		n += len(p)
	}
	if n != b.Len() || !bytes.Equal(b.Bytes(), want) {
		t.Fatalf("has %d bytes in views, Len %d, want %d", n, b.Len(), len(want))
	}
}

func BenchmarkMove(b *testing.B) {
	var x, y Buf
	x.AppendString("some words")
	b.ReportAllocs()
	for b.Loop() {
		y.MoveAll(&x)
		x.MoveAll(&y)
	}
	x.Release()
}
