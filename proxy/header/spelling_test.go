package header

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestSpelling(t *testing.T) {
	var m Map
	if m.Spelling() != nil {
		t.Error("a map remembers names without being told to")
	}
	s := m.Spell(true)
	for _, name := range []string{"X-uPPER", "x-Upper", "HOST", "x_y", "a-[b"} {
		s.Note([]byte(name))
	}
	s.SetReason([]byte("Fine"))
	var kept Map
	m.CopyTo(&kept, true)
	m.Reset()
	if m.Spelling() != nil {
		t.Error("names outlive Reset")
	}
	if s := m.Spell(false); s.Reason() != nil || string(s.Append(nil, "host")) != "host" {
		t.Error("a message has names of the one before")
	}
	s = kept.Spelling()
	if string(s.Reason()) != "Fine" {
		t.Errorf("reason %q", s.Reason())
	}
	for name, want := range map[string]string{
		"x-upper": "X-uPPER", "host": "HOST", "x_y": "x_y", "x-other": "X-Other", "a-{b": "A-{b", "": "",
	} {
		if got := string(s.Append([]byte(">"), name)); got != ">"+want {
			t.Errorf("%s is written %s", name, got)
		}
	}
}

// TestManySpellings: however many names there are, each is found, and the search for one is
// not one through all.
func TestManySpellings(t *testing.T) {
	const many = 50_000
	var m, kept Map
	s := m.Spell(false)
	begun := time.Now()
	for i := range many {
		s.Note(fmt.Appendf(nil, "X-Name-%05d", i))
		s.Note(fmt.Appendf(nil, "x-nAME-%05d", i)) // the first one counts
	}
	m.CopyTo(&kept, true)
	for _, s := range []*Spelling{s, kept.Spelling()} {
		for i := range many {
			if got := s.Append(nil, fmt.Sprintf("x-name-%05d", i)); string(got) != fmt.Sprintf("X-Name-%05d", i) {
				t.Fatalf("%d: %s", i, got)
			}
		}
		if got := string(s.Append(nil, "x-name")); got != "x-name" {
			t.Error(got)
		}
	}
	if took := time.Since(begun); took > 5*time.Second { // one through all takes minutes
		t.Errorf("%v", took)
	}
	m.Reset()
	if got := string(m.Spell(false).Append(nil, "x-name-00001")); got != "x-name-00001" {
		t.Errorf("%s outlives Reset", got)
	}
}

func TestSpellingAllocs(t *testing.T) {
	var m Map
	name, lower := []byte(strings.Repeat("Long-", 20)), strings.Repeat("long-", 20)
	out := make([]byte, 0, 1000)
	if n := testing.AllocsPerRun(100, func() {
		m.Spell(false).Note(name)
		out = m.Spelling().Append(out[:0], lower)
		m.Reset()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
