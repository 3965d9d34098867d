package l7

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// These are decisions with more cases than a conversation is worth. What users see of
// the engine is in the dialogues of filters/hcm and filters/router.

func TestLastTrusted(t *testing.T) {
	for _, c := range []struct {
		list   string
		hops   uint32
		want   string
		single bool
	}{
		{"", 0, "", false},
		{"1.1.1.1", 0, "1.1.1.1", true},
		{"1.1.1.1", 1, "", false},
		{"1.1.1.1,2.2.2.2", 0, "2.2.2.2", false},
		{"1.1.1.1 , 2.2.2.2", 1, "1.1.1.1", false},
		{"1.1.1.1,2.2.2.2", 2, "", false},
		{"1.1.1.1,", 0, "", false},
		{"unknown", 0, "", false},
		{"::1", 0, "::1", true},
		{"1.1.1.1:80", 0, "", false},
	} {
		addr, single := lastTrusted(c.list, c.hops)
		if want, _ := netip.ParseAddr(c.want); addr != want || single != c.single {
			t.Errorf("%d from the right of %q: %v, %v; want %q, %v", c.hops, c.list, addr, single, c.want, c.single)
		}
	}
}

func TestStripPort(t *testing.T) {
	for _, c := range []struct {
		host string
		only uint16
		want string
	}{
		{"a", 0, "a"}, {"a:80", 0, "a"}, {"a:80", 80, "a"}, {"a:81", 80, "a:81"}, {"[::1]", 0, "[::1]"},
		{"[::1]:80", 0, "[::1]"}, {"[::1]:80", 81, "[::1]:80"}, {"a:", 0, "a:"}, {"a:b", 0, "a:b"}, {"a:65536", 0, "a:65536"},
		{"a:99999999999999999999", 0, "a:99999999999999999999"}, {"", 0, ""},
	} {
		if got := stripPort(c.host, c.only); got != c.want {
			t.Errorf("%q without port %d is %q, want %q", c.host, c.only, got, c.want)
		}
	}
}

func TestStripDot(t *testing.T) {
	for host, want := range map[string]string{
		"a.": "a", "a": "a", "a.:80": "a:80", "a:80": "a:80", "[::1]": "[::1]", "[::1]:80": "[::1]:80", ".": "", "": "",
	} {
		var m header.Map
		if got := stripDot(&m, host); got != want {
			t.Errorf("%q without its dot is %q, want %q", host, got, want)
		}
	}
}

func TestHasToken(t *testing.T) {
	for list, want := range map[string]bool{
		"upgrade": true, "keep-alive, Upgrade": true, "upgraded": false, "": false, ",,upgrade ,": true, "up grade": false,
	} {
		if got := hasToken(list, "upgrade"); got != want {
			t.Errorf("%q has the token: %v", list, got)
		}
	}
}

func TestGRPCReply(t *testing.T) {
	for code, want := range map[int]int{200: 2, 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 500: 2, 503: 14, 504: 14} {
		if got := filter.GRPCStatus(code); got != want {
			t.Errorf("%d is the status %d, want %d", code, got, want)
		}
	}
	if got := string(filter.AppendGRPCMessage(nil, "a b%\n~\xff")); got != "a b%25%0A%7E%FF" {
		t.Errorf("message %q", got)
	}
}

func TestUUID(t *testing.T) {
	form := regexp.MustCompile("^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
	seen := map[string]bool{}
	for range 1000 {
		id := string(appendUUID(nil))
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("ID %q", id)
		}
		seen[id] = true
	}
}

// FuzzPath: whatever a client sends, the path that policies and upstream see has one
// meaning: to normalise it again changes nothing.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"/a/../b", "/%2e%2E/", "/a//b/", "/%", "/\\..\\x", "/a/%2F", "/%%333", "/%%30%30", "/%4%31/..%%32f"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") {
			return
		}
		once := normalize(path)
		if once == "" {
			return
		}
		if once[0] != '/' {
			t.Errorf("%q becomes %q", path, once)
		}
		if again := normalize(once); again != once {
			t.Errorf("%q becomes %q, and then %q", path, once, again)
		}
	})
}
