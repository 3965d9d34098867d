package why

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

const ms = time.Millisecond

func exchange(j *Journal, id string, m meta.Stream, decisions ...Decision) {
	var r Record
	r.Begin([]string{"auth", "router"})
	for _, d := range decisions {
		r.Note(d)
	}
	j.Keep(Request{ID: id, Method: "GET", Host: "shop", Path: "/cart?token=secret"}, &m, &meta.Conn{Listener: "in", FilterChain: "web"}, meta.Addr{}, &r)
}

// TestJournalForgetsTheOldest: the ring holds the newest ones, and those that went wrong
// outlive later ones that went well.
func TestJournalForgetsTheOldest(t *testing.T) {
	j := NewJournal(4)
	exchange(j, "denied", meta.Stream{Code: 403, Details: "rbac_access_denied"})
	exchange(j, "application's", meta.Stream{Code: 404, Details: "via_upstream"})
	for i := range 10 {
		exchange(j, fmt.Sprint("fine", i), meta.Stream{Code: 200, Details: "via_upstream", Attempts: 1})
	}
	var ids []string
	for _, e := range j.Newest(100, false) {
		ids = append(ids, e.ID)
	}
	if got := strings.Join(ids, " "); got != "fine9 fine8 fine7 fine6" {
		t.Errorf("newest: %s", got)
	}
	if e := j.Find("denied"); e == nil || e.Code != 403 {
		t.Errorf("what was denied is forgotten: %+v", e)
	}
	for _, id := range []string{"application's", "fine5", "never", ""} {
		if e := j.Find(id); e != nil {
			t.Errorf("found %q", id)
		}
	}
	if w := j.Newest(100, true); len(w) != 1 || w[0].ID != "denied" {
		t.Errorf("went wrong: %v", w)
	}
}

// TestNewestOfAnID: an ID that came twice is the later exchange's.
func TestNewestOfAnID(t *testing.T) {
	j := NewJournal(4)
	now := time.Now()
	exchange(j, "x", meta.Stream{Code: 503, Start: now})
	exchange(j, "x", meta.Stream{Code: 200, Details: "via_upstream", Start: now.Add(ms)})
	if e := j.Find("x"); e.Code != 200 {
		t.Errorf("code %d", e.Code)
	}
}

// TestLentTextsAreCopied: what a request's memory is used for later does not change what is
// remembered.
func TestLentTextsAreCopied(t *testing.T) {
	j := NewJournal(1)
	id := []byte("abc")
	var r Record
	r.Note(Decision{By: Route, What: "takes", Of: string(id), Place: 1})
	m := meta.Stream{Code: 200, Cluster: "c", RouteName: "r"}
	j.Keep(Request{ID: string(id), Path: "/a?b"}, &m, &meta.Conn{}, meta.Addr{}, &r)
	r.Reset()
	e := j.Find("abc")
	if e == nil || e.Path != "/a" || e.Cluster != "c" || e.RouteName != "r" || len(e.Decisions) != 1 || e.Decisions[0].Sentence() != `takes "abc" route[0]` {
		t.Errorf("%+v", e)
	}
	if len(r.Decisions()) != 0 {
		t.Error("the record still has decisions")
	}
}

// TestRecordIsBounded: there is room for some, and the rest is counted.
func TestRecordIsBounded(t *testing.T) {
	j := NewJournal(1)
	exchange(j, "x", meta.Stream{}, make([]Decision, most+3)...)
	if e := j.Find("x"); len(e.Decisions) != most || e.Lost != 3 {
		t.Errorf("%d decisions, %d lost", len(e.Decisions), e.Lost)
	}
	long := strings.Repeat("x", 10_000)
	exchange(j, long, meta.Stream{}, Decision{Of: long})
	if e := j.Newest(1, false)[0]; len(e.ID) != mostText || len(e.Decisions[0].Of) != mostText {
		t.Errorf("%d and %d bytes are kept", len(e.ID), len(e.Decisions[0].Of))
	}
}

// TestPhasesAddUp: whatever was measured, the parts are none below zero and the whole is
// the duration.
func TestPhasesAddUp(t *testing.T) {
	for name, m := range map[string]meta.Stream{
		"plain":       {UpstreamStart: 3 * ms, UpstreamEnd: 4 * ms, ResponseStart: 8 * ms, End: 10 * ms},
		"local reply": {DownstreamStart: 2 * ms, End: 2500 * time.Microsecond},
		"overlap":     {UpstreamStart: 1 * ms, UpstreamEnd: 9 * ms, ResponseStart: 2 * ms, End: 4 * ms},
		"nothing":     {End: ms},
		"no time":     {},
	} {
		var r Record
		r.Begin([]string{"auth", "router"})
		r.Head, r.Asked[0], r.Answered[0] = ms/2, ms, ms/4
		r.Pool = Pool{Queue: ms / 10, Connect: ms / 5, TLS: ms / 3, BackOff: ms / 7}
		sum := time.Duration(0)
		for _, p := range r.AppendPhases(nil, &m) {
			if p.Took <= 0 {
				t.Errorf("%s: %s took %v", name, p.Name, p.Took)
			}
			sum += p.Took
		}
		if sum != m.End {
			t.Errorf("%s: the parts add up to %v, the whole is %v", name, sum, m.End)
		}
	}
}

// TestTextSteersNoTerminal: what a peer has sent does not reach the terminal as control
// characters.
func TestTextSteersNoTerminal(t *testing.T) {
	j := NewJournal(1)
	exchange(j, "\x1b[2Jx\u202e", meta.Stream{Code: 200}, Decision{By: Route, What: "takes route", Of: "a\tb\x07"})
	e := j.Newest(1, false)[0]
	var text strings.Builder
	e.WriteText(&text)
	e.WriteLine(&text)
	if strings.ContainsAny(text.String(), "\x1b\x07\t\u202e") {
		t.Errorf("%q", text.String())
	}
	raw, err := json.Marshal(e)
	if err != nil || !json.Valid(raw) {
		t.Errorf("JSON: %v", err)
	}
}

// TestKeepAllocatesNothing once its places have been used.
func TestKeepAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	j := NewJournal(2)
	m := meta.Stream{Code: 503, Cluster: "c", Details: "d", End: ms}
	var r Record
	r.Begin([]string{"router"})
	c, q := &meta.Conn{}, Request{ID: "0123456789", Method: "GET", Host: "shop", Path: "/a?b"}
	keep := func() {
		r.Note(Decision{By: Balancer, What: "picks", Of: "host"})
		j.Keep(q, &m, c, meta.Addr{}, &r)
		r.Reset()
	}
	for range 4 {
		keep()
	}
	if n := testing.AllocsPerRun(100, keep); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestManyAtOnce: writers and readers do not disturb each other.
func TestManyAtOnce(t *testing.T) {
	j := NewJournal(3)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				exchange(j, fmt.Sprint(w, "-", i), meta.Stream{Code: 500 + w}, Decision{Of: fmt.Sprint(w)})
				for _, e := range j.Newest(3, true) {
					if want := fmt.Sprint(e.Code - 500); !strings.HasPrefix(e.ID, want+"-") || e.Decisions[0].Of != want {
						t.Errorf("%s has the code %d and %q", e.ID, e.Code, e.Decisions[0].Of)
					}
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkKeep(b *testing.B) {
	j := NewJournal(256)
	m := meta.Stream{Code: 200, Cluster: "c", Details: "via_upstream", End: ms}
	var r Record
	r.Begin([]string{"router"})
	c, q := &meta.Conn{}, Request{ID: "3f8f2f2e-0000-4000-8000-000000000000", Method: "GET", Host: "shop.example", Path: "/a/b/c?d"}
	b.ReportAllocs()
	for b.Loop() {
		for range 6 {
			r.Note(Decision{By: Balancer, What: "picks", Of: "host"})
		}
		j.Keep(q, &m, c, meta.Addr{}, &r)
		r.Reset()
	}
}
