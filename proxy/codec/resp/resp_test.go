package resp_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

func TestCommand(t *testing.T) {
	for _, x := range []struct {
		name, in string
		args     []string
		n        int // 0: not complete
		bad      bool
	}{
		{"array", "*2\r\n$3\r\nGET\r\n$1\r\na\r\nrest", []string{"GET", "a"}, 20, false},
		{"empty bulk", "*2\r\n$3\r\nGET\r\n$0\r\n\r\n", []string{"GET", ""}, 19, false},
		{"binary", "*1\r\n$3\r\na\r\n\r\n", []string{"a\r\n"}, 13, false},
		{"cut", "*2\r\n$3\r\nGET\r\n$1\r\na\r", nil, 0, false},
		{"cut in a header", "*2\r\n$3\r\nGET\r\n$1", nil, 0, false},
		{"no element", "*0\r\n", nil, 4, false},
		{"null", "*-1\r\n", nil, 5, false},
		{"null bulk", "*2\r\n$3\r\nGET\r\n$-1\r\n", nil, 18, false},
		{"integer inside", "*1\r\n:4\r\n", nil, 8, false},
		{"array inside", "*1\r\n*1\r\n$1\r\na\r\n", nil, 15, false},
		{"simple string", "+PING\r\n", nil, 7, false},
		{"inline", "SET a  b\r\nx", []string{"SET", "a", "b"}, 10, false},
		{"inline without CR", "PING\n", []string{"PING"}, 5, false},
		{"blank line", "\r\n", nil, 2, false},
		{"inline cut", "SET a", nil, 0, false},
		{"control characters", "\x00\x01", nil, 0, true},
		{"no number", "*x\r\n", nil, 0, true},
		{"no length", "*1\r\n$x\r\n", nil, 0, true},
		{"negative", "*-2\r\n", nil, 0, true},
		{"too many", "*2000000000\r\n", nil, 0, true},
		{"too long", "*1\r\n$2000000000\r\n", nil, 0, true},
		{"wrong end", "*1\r\n$4\r\nPINGxx", nil, 0, true},
		{"endless header", "*" + strings.Repeat("0", 40), nil, 0, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			args, n, err := resp.Command([]byte(x.in), nil)
			if (err != nil) != x.bad || err != nil && !errors.Is(err, resp.ErrSyntax) {
				t.Fatalf("error %v", err)
			}
			var got []string
			for _, a := range args {
				got = append(got, string(a))
			}
			if n != x.n || !slices.Equal(got, x.args) {
				t.Errorf("got %q, %d bytes, want %q, %d", got, n, x.args, x.n)
			}
		})
	}
}

func TestHead(t *testing.T) {
	args, count, ok := resp.Head([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10000\r\nxxx"), nil, 2)
	if !ok || count != 3 || len(args) != 2 || string(args[1]) != "a" {
		t.Errorf("got %q, %d, %v", args, count, ok)
	}
	if _, _, ok := resp.Head([]byte("*3\r\n$3\r\nSET\r\n$100\r\na"), nil, 2); ok {
		t.Error("an argument that is not there was found")
	}
}

// values are whole values of each kind.
var values = []string{
	"+OK\r\n", "-ERR no\r\n", ":42\r\n", ":-42\r\n", "$3\r\na\r\n\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123456789012345678901234567890\r\n",
	"=7\r\ntxt:abc\r\n", "!3\r\nERR\r\n", "*2\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n", "%1\r\n+a\r\n:1\r\n", "~2\r\n:1\r\n:2\r\n", ">2\r\n+message\r\n:1\r\n",
	"|1\r\n+ttl\r\n:5\r\n$1\r\na\r\n", "*2\r\n|1\r\n+x\r\n+y\r\n:1\r\n:2\r\n", "+" + strings.Repeat("long ", 100) + "\r\n",
	"|0\r\n:1\r\n",
}

// TestScannerFindsTheEnd: of any value, wherever the pieces are cut.
func TestScannerFindsTheEnd(t *testing.T) {
	for _, v := range values {
		for cut := range len(v) {
			var s resp.Scanner
			n, done, err := s.Scan([]byte(v[:cut]))
			if err != nil || done || n != cut {
				t.Fatalf("%q up to %d: %d, %v, %v", v, cut, n, done, err)
			}
			n, done, err = s.Scan([]byte(v[cut:] + "+next\r\n"))
			if err != nil || !done || cut+n != len(v) {
				t.Fatalf("%q from %d: %d, %v, %v", v, cut, n, done, err)
			}
			first, _, _ := strings.Cut(v, "\r\n")
			if got := string(s.Line()); got != first[:min(len(first), 256)] {
				t.Fatalf("%q cut at %d: the first line is %q", v, cut, got)
			}
		}
	}
}

func TestScannerRefuses(t *testing.T) {
	for _, in := range []string{
		"x\r\n", "$x\r\n", "$-2\r\n", "*-2\r\n", "+OK\n", "$3\r\nabcxx", "$600000000\r\n", "\r\n", ">-1\r\n",
		strings.Repeat("*1\r\n", 33), "+" + strings.Repeat("x", 70<<10), "$1" + strings.Repeat("0", 80) + "\r\n",
	} {
		var s resp.Scanner
		if _, done, err := s.Scan([]byte(in)); err == nil {
			t.Errorf("%.40q: no error, done %v", in, done)
		}
	}
}

func TestScannerLimitsElements(t *testing.T) {
	s := resp.Scanner{MostElements: 10}
	if _, _, err := s.Scan([]byte("*11\r\n")); err == nil {
		t.Error("11 elements are not too many")
	}
}

func TestAppend(t *testing.T) {
	var b buffer.Buf
	defer b.Release()
	resp.AppendCommand(&b, "GET", "a")
	resp.AppendLine(&b, resp.Error, "ERR two\r\nlines")
	resp.AppendInteger(&b, -7)
	const want = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n-ERR two  lines\r\n:-7\r\n"
	if got := string(b.Bytes()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzScanner: pieces change nothing, and a command ends where its value does.
func FuzzScanner(f *testing.F) {
	for _, v := range values {
		f.Add([]byte(v), 3)
	}
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"), 5)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		var whole, parts resp.Scanner
		n, done, err := whole.Scan(in)
		if n > len(in) || done && err != nil {
			t.Fatalf("%d of %d, %v, %v", n, len(in), done, err)
		}
		cut = min(max(cut, 0), len(in))
		a, over, bad := parts.Scan(in[:cut])
		if !over && bad == nil {
			var b int
			b, over, bad = parts.Scan(in[cut:])
			a += b
		}
		if over != done || (bad == nil) != (err == nil) || done && a != n || !bytes.Equal(whole.Line(), parts.Line()) {
			t.Fatalf("whole %d, %v, %v; in parts %d, %v, %v", n, done, err, a, over, bad)
		}
		args, size, err := resp.Command(in, nil)
		if err == nil && size > 0 && in[0] == '*' && len(args) > 0 && (!done || size != n) {
			t.Fatalf("a command of %d bytes, a value of %d (%v)", size, n, done)
		}
	})
}
