package hcm_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// slowHeads are heads that are begun and never complete: what is sent at first, and then
// again and again.
var slowHeads = map[string][2]string{
	"HEADERS without an end":       {"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82", ""},
	"a part of a HEADERS frame":    {"\x00\x00\x64\x01\x05\x00\x00\x00\x01\x82", ""},
	"HEADERS frame byte by byte":   {"\x00\x20\x00\x01\x05\x00\x00\x00\x01\x82", "\x84"},
	"one CONTINUATION, and halted": {"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82\x00\x00\x01\x09\x00\x00\x00\x00\x01\x84", ""},
	"a part of a CONTINUATION":     {"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82\x00\x20\x00\x09\x00\x00\x00\x00\x01\x84", "\x84"},
}

// TestSlowHead: a client that does not complete a head has no connection for it after the
// time that a head, or else a stream, may take. Other frames are no part of that.
func TestSlowHead(t *testing.T) {
	for limit, counter := range map[string]string{
		"stream_idle_timeout": "downstream_rq_idle_timeout", "request_headers_timeout": "downstream_rq_header_timeout",
	} {
		port, admin := ports.Free(t), ports.Free(t)
		config := stallConfig(port, admin, 1, filepath.Join(t.TempDir(), "log"), &stall{streamIdle: "0.5s", waiting: "0s"})
		listener := config["static_resources"].(obj)["listeners"].([]any)[0].(obj)
		hcm := listener["filter_chains"].([]any)[0].(obj)["filters"].([]any)[0].(obj)["typed_config"].(obj)
		hcm["codec_type"] = "HTTP2"
		delete(hcm, "stream_idle_timeout")
		hcm[limit] = "0.5s"
		raw, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		p := dialogue.StartMecha(t, raw)
		t.Run(limit, func(t *testing.T) {
			for name, said := range slowHeads {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					slowHead(t, port, said)
				})
			}
		})
		p.WaitStat(t, "http.test."+counter, fmt.Sprint(len(slowHeads)))
		p.WaitStat(t, "http.test.downstream_cx_active", "0")
	}
}

func slowHead(t *testing.T, port int, said [2]string) {
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"+said[0]); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		for said[1] != "" {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
				_, _ = io.WriteString(c, said[1]) // until it is closed
			}
		}
	}()
	begun := time.Now()
	_ = c.SetReadDeadline(begun.Add(10 * time.Second))
	fr := http2.NewFramer(nil, c)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("after %v: %v", time.Since(begun), err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if took := time.Since(begun); g.ErrCode != http2.ErrCodeEnhanceYourCalm || took < 400*time.Millisecond {
				t.Errorf("%v after %v", g, took)
			}
			return
		}
	}
}
