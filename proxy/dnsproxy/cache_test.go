package dnsproxy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func message(t *testing.T, code int, answer, authority string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion("a.", dns.TypeA)
	m.Response, m.Rcode = true, code
	for text, list := range map[string]*[]dns.RR{answer: &m.Answer, authority: &m.Ns} {
		if text == "" {
			continue
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		*list = append(*list, rr)
	}
	return m
}

func TestLifetime(t *testing.T) {
	soa := "outside. 60 IN SOA ns. root. 1 2 3 4 20"
	for _, tc := range []struct {
		code              int
		answer, authority string
		truncated         bool
		want              time.Duration
	}{
		{dns.RcodeSuccess, "a. 60 IN A 1.2.3.4", "", false, 60 * time.Second},
		{dns.RcodeSuccess, "a. 99999 IN A 1.2.3.4", "", false, time.Hour},
		{dns.RcodeSuccess, "a. 0 IN A 1.2.3.4", "", false, 0},
		{dns.RcodeSuccess, "a. 60 IN A 1.2.3.4", "", true, 0},
		{dns.RcodeNameError, "", soa, false, 20 * time.Second},
		{dns.RcodeSuccess, "", soa, false, 20 * time.Second},
		{dns.RcodeSuccess, "a. 7 IN CNAME b.", soa, false, 7 * time.Second},
		{dns.RcodeNameError, "", "outside. 9999 IN SOA ns. root. 1 2 3 4 9999", false, 300 * time.Second},
		{dns.RcodeNameError, "", "", false, 0},
		{dns.RcodeServerFailure, "", soa, false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCache(10, new(Stats))
			m := message(t, tc.code, tc.answer, tc.authority)
			m.Truncated = tc.truncated
			k := keyOf(m)
			c.put(k, m)
			if tc.want > 0 {
				time.Sleep(tc.want - time.Second)
				got := c.get(k)
				if got == nil {
					t.Fatalf("%+v: forgotten too early", tc)
				}
				was := append(m.Answer, m.Ns...)
				for i, rr := range append(got.Answer, got.Ns...) {
					if rr.Header().Ttl != was[i].Header().Ttl-uint32(tc.want/time.Second)+1 {
						t.Errorf("%+v: TTL %d is left", tc, rr.Header().Ttl)
					}
				}
				time.Sleep(time.Second)
			}
			if c.get(k) != nil {
				t.Errorf("%+v: remembered too long", tc)
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	st := new(Stats)
	c := newCache(3, st)
	m := message(t, dns.RcodeSuccess, "a. 60 IN A 1.2.3.4", "")
	at := func(i int) key { return key{name: fmt.Sprint(i), kind: dns.TypeA} }
	for i := range 3 {
		c.put(at(i), m)
	}
	c.get(at(0))
	c.put(at(3), m)
	for i, want := range []bool{true, false, true, true} {
		if got := c.get(at(i)) != nil; got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if st.Entries.Value() != 3 || st.Evictions.Value() != 1 {
		t.Errorf("%d entries, %d evictions", st.Entries.Value(), st.Evictions.Value())
	}
}
