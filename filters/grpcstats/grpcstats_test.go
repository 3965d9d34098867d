package grpcstats

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// TestFrames: messages are counted alike however they are cut.
func TestFrames(t *testing.T) {
	var all []byte
	sizes := []int{0, 1, 4, 5, 6, 300, 70_000, 0, 0}
	for _, n := range sizes {
		all = binary.BigEndian.AppendUint32(append(all, 0), uint32(n))
		all = append(all, bytes.Repeat([]byte{1}, n)...)
	}
	for range 200 {
		var f frames
		var sum uint64
		for rest := all; len(rest) > 0; {
			n := 1 + rand.IntN(min(len(rest), 1<<rand.IntN(17)))
			var b buffer.Buf
			b.Append(rest[:n])
			sum += f.see(&b)
			if b.Len() != n {
				t.Fatal("the piece has changed")
			}
			b.Release()
			rest = rest[n:]
		}
		if sum != uint64(len(sizes)) || f.count != sum || f.head != 0 || f.left != 0 {
			t.Fatalf("%d begun, %+v; want %d", sum, f, len(sizes))
		}
	}
}

func TestMethod(t *testing.T) {
	for path, want := range map[string]string{
		"/s/m": "s m", "/a.b.S/M?q=/x": "a.b.S M", "//s//m/": "s m", "s/m": "s m",
		"/": "", "": "", "/s": "", "/s/": "", "/a/b/c": "", "/?a/b": "", "///": "",
	} {
		service, name, ok := method(path)
		if got := service + " " + name; ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v, want %q", path, got, ok, want)
		}
	}
}

// TestState: what logs print.
func TestState(t *testing.T) {
	for st, want := range map[State]string{
		{0, 0}: `0,0 {}`,
		{1, 0}: `1,0 {"requestMessageCount":"1"}`,
		{2, 3}: `2,3 {"requestMessageCount":"2","responseMessageCount":"3"}`,
	} {
		json, err := st.MarshalJSON()
		if got := fmt.Sprintf("%v %s", &st, json); err != nil || got != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}

// TestNamesOfStatistics: the labels of methods, and one counter for each status.
func TestNamesOfStatistics(t *testing.T) {
	st := stats.NewStore()
	sc := st.Scope("cluster").Tag("envoy_cluster_name", "c")
	for _, key := range []struct{ of, a, b string }{{"grpc", "p.S", "M"}, {"grpc without dots", "p.S", "N"}, {"grpc", "", ""}} {
		c := newCalls(sc, cluster.ExtraStats{Of: key.of, A: key.a, B: key.b}).(*calls)
		for _, status := range []string{"0", "0", "16", "17", "", "-1", "99999999999"} {
			c.Count(c.scope, status)
		}
		c.time().Record(5)
	}
	got := map[string]uint64{}
	st.Each(func(m stats.Metric) {
		if m.Counter != nil {
			got[m.Name] = m.Counter.Value()
		}
		if m.Histogram != nil {
			got[m.Name] = 1
		}
	})
	for _, prefix := range []string{"cluster.c.grpc.p.S.M.", "cluster.c.grpc.p_S.N.", "cluster.c.grpc."} {
		for name, want := range map[string]uint64{"0": 2, "16": 1, "success": 2, "failure": 5, "total": 7, "upstream_rq_time": 1} {
			if got[prefix+name] != want {
				t.Errorf("%s%s is %d, want %d", prefix, name, got[prefix+name], want)
			}
		}
		if _, ok := got[prefix+"17"]; ok {
			t.Errorf("%s17 is there", prefix)
		}
	}
}

// TestChoosy: bodies that are not gRPC are none of the filter's business.
func TestChoosy(t *testing.T) {
	mk, err := Spec.New(&Config{}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	f := mk().(*Filter)
	s := &filter.Stream{}
	s.Response.Add(":status", "200")
	s.Response.Add("content-type", "text/plain")
	if err := f.OnResponseHeaders(s, false); err != nil || f.WantsResponseData() {
		t.Errorf("%v, wants %v", err, f.WantsResponseData())
	}
	s.Response.Set("content-type", "application/grpc")
	if err := f.OnResponseHeaders(s, false); err != nil || !f.WantsResponseData() {
		t.Errorf("%v, wants %v", err, f.WantsResponseData())
	}
}
