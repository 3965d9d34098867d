package idempotency

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func stores(t *testing.T, test func(t *testing.T, s Store, again func() Store)) {
	t.Run("memory", func(t *testing.T) {
		m := newMemory(1<<20, func() {})
		test(t, m, func() Store { return m })
	})
	t.Run("disk", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		d, err := openDisk(path, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.close() })
		test(t, d, func() Store {
			d.close()
			if d, err = openDisk(path, 1<<30); err != nil {
				t.Fatal(err)
			}
			return d
		})
	})
	t.Run("redis", func(t *testing.T) {
		spec := startRedis(t).spec
		r := openRedis(spec, nil, func() {})
		t.Cleanup(func() { r.close() })
		test(t, r, func() Store {
			r.close()
			r = openRedis(spec, nil, func() {})
			return r
		})
	})
}

func newClaim(until time.Time) Record {
	return Record{State: Running, Owner: rand.Text(), Until: until}
}

func claim(t *testing.T, s Store, k Key, until time.Time) Record {
	t.Helper()
	r, err := s.Claim(t.Context(), k, newClaim(until))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestStore: what a store knows of a key, also when it was closed in between.
func TestStore(t *testing.T) {
	stores(t, func(t *testing.T, s Store, again func() Store) {
		soon, k := time.Now().Add(time.Hour), Key{1}
		mine := claim(t, s, k, soon)
		if mine.State != Fresh {
			t.Errorf("new: %+v", mine)
		}
		done := Record{State: Done, Owner: mine.Owner, Until: soon, Response: &Response{Code: 201, Header: [][2]string{{"a", "b"}}, Body: []byte{0, 1, 255}}}
		if err := s.Settle(t.Context(), k, done); err != nil {
			t.Fatal(err)
		}
		s = again()
		if r := claim(t, s, k, soon); r.State != Done || fmt.Sprint(*r.Response) != fmt.Sprint(*done.Response) {
			t.Errorf("done: %+v", r)
		}
		if err := s.Forget(t.Context(), k, mine.Owner); err != nil {
			t.Fatal(err)
		}
		if r := claim(t, s, k, time.Now()); r.State != Fresh {
			t.Errorf("forgotten: %+v", r)
		}
		eventually(t, "the end of a key", func() bool { return claim(t, s, k, soon).State == Fresh })
	})
}

// TestLeftBehind: in a store of one process, what is under way with nobody who works on it may
// have been carried out.
func TestLeftBehind(t *testing.T) {
	d, err := openDisk(filepath.Join(t.TempDir(), "x.db"), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for name, s := range map[string]Store{"memory": newMemory(1<<20, func() {}), "disk": d} {
		soon := time.Now().Add(time.Hour)
		claim(t, s, Key{1}, soon)
		if r := claim(t, s, Key{1}, soon); r.State != Unknown {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// eventually polls ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestOneClaims: of many that claim a key at once, one gets it.
func TestOneClaims(t *testing.T) {
	stores(t, func(t *testing.T, s Store, _ func() Store) {
		var wg sync.WaitGroup
		fresh := make(chan int, 100)
		for i := range 100 {
			wg.Go(func() {
				r, err := s.Claim(context.Background(), Key{byte(i % 5)}, newClaim(time.Now().Add(time.Hour)))
				if err != nil {
					t.Error(err)
				}
				if r.State == Fresh {
					fresh <- i
				}
			})
		}
		wg.Wait()
		if n := len(fresh); n != 5 {
			t.Errorf("%d claims of 5 keys", n)
		}
	})
}

// TestMemoryIsBounded: the oldest responses go first, what is under way stays, and where that
// leaves no room there is no claim.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		evicted := 0
		m := newMemory(10_000, func() { evicted++ })
		until := time.Now().Add(time.Hour)
		running := Key{255}
		claim(t, m, running, until)
		for i := range 20 {
			k := Key{byte(i)}
			claim(t, m, k, until)
			if err := m.Settle(t.Context(), k, Record{State: Done, Until: until, Response: &Response{Body: make([]byte, 1000)}}); err != nil {
				t.Fatal(err)
			}
		}
		if m.size > m.limit || evicted == 0 {
			t.Errorf("%d bytes, %d evicted", m.size, evicted)
		}
		if r := claim(t, m, running, until); r.State != Unknown {
			t.Errorf("under way: %+v", r)
		}
		if r := claim(t, m, Key{19}, until); r.State != Done {
			t.Errorf("the newest: %+v", r)
		}
		for i := range 100 {
			if _, err := m.Claim(t.Context(), Key{1, byte(i)}, Record{State: Running, Until: until}); err != nil {
				if err != errFull {
					t.Error(err)
				}
				break
			}
		}
		if m.size > m.limit {
			t.Errorf("%d bytes", m.size)
		}
		time.Sleep(2 * time.Hour) // of the bubble
		if r := claim(t, m, running, time.Now().Add(time.Hour)); r.State != Fresh || len(m.by) != 1 {
			t.Errorf("when all is over: %+v, %d keys", r, len(m.by))
		}
	})
}

// TestDiskSweeps: what is over leaves the file, and what is not stays.
func TestDiskSweeps(t *testing.T) {
	d, err := openDisk(filepath.Join(t.TempDir(), "x.db"), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	now := time.Now()
	claim(t, d, Key{1}, now.Add(time.Minute))
	claim(t, d, Key{2}, now.Add(time.Hour))
	if n := d.sweepSome(now.Add(2 * time.Minute)); n != 1 {
		t.Errorf("%d are over", n)
	}
	if r := claim(t, d, Key{1}, now.Add(time.Hour)); r.State != Fresh {
		t.Errorf("over: %+v", r)
	}
	if r := claim(t, d, Key{2}, now.Add(time.Hour)); r.State != Unknown {
		t.Errorf("not over: %+v", r)
	}
	if _, err := openDisk(d.db.Path(), 1<<30); err == nil {
		t.Error("a file was opened twice")
	}
}
