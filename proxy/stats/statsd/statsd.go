// Package statsd sends statistics to a statsd over UDP, in the dialects of statsd itself, of
// DogStatsD and of Graphite.
//
// Nobody waits for a datagram: what the socket does not take is lost and counted.
package statsd

import (
	"fmt"
	"net"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Dialect says where the labels of a metric are.
type Dialect uint8

// The dialects.
const (
	Plain    Dialect = iota // in its name, with all their values
	Dog                     // name:1|c|#key:value,key:value
	Graphite                // name;key=value;key=value:1|c
)

// Config is a sink: plain, validated, immutable (StatsdSink, DogStatsdSink,
// GraphiteStatsdSink).
type Config struct {
	Address string // host and port
	Prefix  string // "envoy" unless set
	Dialect Dialect
	Max     int // max_bytes_per_datagram; 0: a metric each
}

// counters are the sink's own.
type counters struct {
	Lost stats.Counter `stat:"datagrams_lost" help:"Datagrams with statistics that the system did not take"`
}

// Sink sends what a store has counted. It is not safe for concurrent use.
type Sink struct {
	c    Config
	conn net.Conn
	own  counters
	last map[*stats.Counter]uint64 // what was told of counters
	next map[*stats.Counter]uint64
	line []byte
	gram []byte
}

// Open makes a sink, whose own counter is bound to st.
func Open(c Config, st *stats.Store) (*Sink, error) {
	conn, err := net.Dial("udp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("statsd: %w", err)
	}
	s := &Sink{c: c, conn: conn, last: map[*stats.Counter]uint64{}, next: map[*stats.Counter]uint64{}}
	st.Scope("statsd").Bind(&s.own) // twice with two sinks: they are added up
	return s, nil
}

// Close closes the socket.
func (s *Sink) Close() { _ = s.conn.Close() } // datagrams are not written later

// Flush sends the counters and gauges that were ever used, the former as what was added
// since the last time, and what histograms have seen in the interval that has ended.
func (s *Sink) Flush(st *stats.Store) {
	st.Each(func(m stats.Metric) {
		switch {
		case m.Counter != nil:
			now := m.Counter.Value()
			if now == 0 {
				return
			}
			delta := now - s.last[m.Counter]
			if now < s.last[m.Counter] { // it was reset
				delta = now
			}
			s.next[m.Counter] = now
			s.put(&m, strconv.AppendUint(nil, delta, 10), "|c")
		case m.Gauge != nil:
			if m.Gauge.Used() {
				s.put(&m, strconv.AppendInt(nil, m.Gauge.Value(), 10), "|g")
			}
		case m.Histogram != nil:
			for _, b := range m.Histogram.Interval().Buckets {
				value := strconv.AppendUint(nil, uint64(b.Lower), 10)
				kind := "|ms"
				if b.Count > 1 { // so many of them
					kind += "|@" + strconv.FormatFloat(1/float64(b.Count), 'g', -1, 64)
				}
				s.put(&m, value, kind)
			}
		}
	})
	s.send()
	s.last, s.next = s.next, s.last
	clear(s.next)
}

// put adds a line to the datagram, or sends it alone.
func (s *Sink) put(m *stats.Metric, value []byte, kind string) {
	name := m.Name
	if s.c.Dialect != Plain {
		name = m.Family
	}
	b := appendName(append(append(s.line[:0], s.c.Prefix...), '.'), name)
	if s.c.Dialect == Graphite {
		for _, l := range m.Labels {
			b = append(append(append(append(b, ';'), l.Name...), '='), l.Value...)
		}
	}
	b = append(append(append(b, ':'), value...), kind...)
	if s.c.Dialect == Dog && len(m.Labels) > 0 {
		b = append(b, "|#"...)
		for i, l := range m.Labels {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendName(append(append(b, l.Name...), ':'), l.Value)
		}
	}
	s.line = b
	if len(s.gram) > 0 && len(s.gram)+1+len(b) > s.c.Max {
		s.send()
	}
	if len(s.gram) > 0 {
		s.gram = append(s.gram, '\n')
	}
	s.gram = append(s.gram, b...)
}

// appendName appends a name without what ends one.
func appendName(b []byte, name string) []byte {
	for i := range len(name) {
		switch c := name[i]; c {
		case ':', '|', '@', '\n', '#':
			b = append(b, '_')
		default:
			b = append(b, c)
		}
	}
	return b
}

func (s *Sink) send() {
	if len(s.gram) == 0 {
		return
	}
	if _, err := s.conn.Write(s.gram); err != nil {
		s.own.Lost.Inc()
	}
	s.gram = s.gram[:0]
}
