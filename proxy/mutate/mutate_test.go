package mutate

import (
	"errors"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// source describes a request and nothing else.
type source struct{ e accesslog.Entry }

func (s *source) LogEntry() *accesslog.Entry { return &s.e }

func request(fields ...string) (*header.Map, *source) {
	m := &header.Map{}
	m.AddID(header.Path, "/p")
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		m.Add(k, v)
	}
	return m, &source{accesslog.Entry{Request: m}}
}

func dump(m *header.Map) string {
	var out []string
	for k, v := range m.All() {
		out = append(out, k+"="+v)
	}
	return strings.Join(out, " ")
}

// TestValuesAreMadeFirst: no value of a level sees what the level changes.
func TestValuesAreMadeFirst(t *testing.T) {
	h := NewHeaders(Request)
	for _, err := range []error{
		h.Remove("gone"), h.Add("a", "new", OverwriteOrAdd, false), h.Add("b", "%REQ(a)%", OverwriteOrAdd, false),
		h.Add("c", "%REQ(gone)%", AppendOrAdd, false), h.Add("d", "%REQ(gone)%", AppendOrAdd, true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m, s := request("a=old", "gone=1")
	h.Apply(m, s)
	if got, want := dump(m), ":path=/p a=new b=old d="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestListIsInOrder: each change of a list sees the ones before.
func TestListIsInOrder(t *testing.T) {
	l := NewList(Request)
	for _, err := range []error{
		l.Add("a", "new", OverwriteOrAdd, false), l.Add("b", "%REQ(a)%", OverwriteOrAdd, false), l.Remove("A"), l.Add("c", "%REQ(a)%", AppendOrAdd, false),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l.RemoveMatching(func(name string) bool { return strings.HasPrefix(name, "x-") })
	m, s := request("a=old", "x-1=1", "x-1=2", "y=3")
	l.Apply(m, s)
	if got, want := dump(m), ":path=/p y=3 b=new"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAppendJoins: what a message has only once gets longer, in the message it is for.
func TestAppendJoins(t *testing.T) {
	for _, c := range []struct {
		of         Message
		name, want string
	}{
		{Request, "User-Agent", "user-agent=1,2"}, {Request, "cookie", "cookie=1 cookie=2"}, {Request, "x", "x=1 x=2"},
		{Request, "etag", "etag=1 etag=2"}, {Response, "etag", "etag=1,2"}, {Response, "user-agent", "user-agent=1 user-agent=2"},
		{Response, "set-cookie", "set-cookie=1 set-cookie=2"},
	} {
		h := NewHeaders(c.of)
		if err := h.Add(c.name, "2", AppendOrAdd, false); err != nil {
			t.Fatal(err)
		}
		m, s := request(strings.ToLower(c.name) + "=1")
		h.Apply(m, s)
		if got := dump(m); got != ":path=/p "+c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestLineEndsStayOut: a value made of what a client or upstream sent cannot begin
// another field.
func TestLineEndsStayOut(t *testing.T) {
	h := NewHeaders(Request)
	if err := h.Add("a", "%REQ(x)%", AppendOrAdd, false); err != nil {
		t.Fatal(err)
	}
	m, s := request("x=1\r\nevil: 2\x00")
	h.Apply(m, s)
	if got := m.Get("a"); got != "1  evil: 2 " {
		t.Errorf("got %q", got)
	}
	if err := h.Add("a", "1\r\nb: c", AppendOrAdd, false); err == nil {
		t.Error("a line end in the configuration is accepted")
	}
}

func TestReservedNames(t *testing.T) {
	h, l := NewHeaders(Request), NewList(Request)
	for _, name := range []string{":path", ":x", "Host", "host"} {
		for _, err := range []error{h.Add(name, "v", AppendOrAdd, false), h.Remove(name), l.Add(name, "v", AppendOrAdd, false), l.Remove(name)} {
			if !errors.Is(err, ErrReserved) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, name := range []string{"", "a b", "a\n"} {
		if err := h.Add(name, "v", AppendOrAdd, false); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

// TestAllocs: changes with formatted values cost no memory.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector")
	}
	h, l := NewHeaders(Request), NewList(Request)
	for _, err := range []error{
		h.Remove("gone"), h.Add("x", "%REQ(:PATH)%-%REQ(a?b)%", AppendOrAdd, false), h.Add("user-agent", "me", AppendOrAdd, false),
		h.Add("y", "v", AddIfAbsent, false), h.Add("z", "v", OverwriteOrAdd, false),
		l.Add("w", "%REQ(x)%", AppendOrAdd, false), l.Remove("x"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l.RemoveMatching(func(name string) bool { return name == "never" })
	m, s := request()
	if n := testing.AllocsPerRun(200, func() {
		m.Reset()
		m.AddID(header.Path, "/p")
		m.Add("gone", "1")
		m.AddID(header.UserAgent, "you")
		h.Apply(m, s)
		l.Apply(m, s)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if got, want := dump(m), ":path=/p user-agent=you,me y=v z=v w=/p-"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
