// Package statsd writes statistics as lines of statsd, in the dialects of statsd itself, of
// DogStatsD and of Graphite, and sends them over UDP.
//
// Nobody waits for a datagram: what the socket does not take is lost and counted. How lines
// leave over TCP is for package telemetry, since that goes through a cluster.
package statsd

import (
	"fmt"
	"net"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Dialect says where the tags of a metric are.
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
	Address string // host and port; "" with Cluster
	Cluster string // tcp_cluster_name
	Prefix  string // "envoy" unless set
	Dialect Dialect
	Max     int // max_bytes_per_datagram; 0: a metric each
}

// Lines calls put with a line for each sample, without a line feed: counters as what was
// added, gauges, and each value that histograms have seen in the interval, with the share of
// which it stands for. The line is lent.
func (c *Config) Lines(samples []stats.Sample, put func(line []byte)) {
	var value, line []byte
	for i := range samples {
		s := &samples[i]
		switch s.Kind {
		case stats.CounterKind:
			value = append(strconv.AppendUint(value[:0], s.Delta, 10), "|c"...)
		case stats.GaugeKind:
			value = append(strconv.AppendInt(value[:0], s.Level, 10), "|g"...)
		default:
			for _, b := range s.Interval.Buckets {
				value = append(strconv.AppendUint(value[:0], uint64(b.Lower), 10), "|ms"...)
				if b.Count > 1 { // so many of them
					value = strconv.AppendFloat(append(value, "|@"...), 1/float64(b.Count), 'g', -1, 64)
				}
				line = c.line(line[:0], s, value)
				put(line)
			}
			continue
		}
		line = c.line(line[:0], s, value)
		put(line)
	}
}

func (c *Config) line(b []byte, s *stats.Sample, value []byte) []byte {
	name := s.Name
	if c.Dialect != Plain {
		name = s.Family
	}
	b = appendName(append(append(b, c.Prefix...), '.'), name)
	if c.Dialect == Graphite {
		for _, l := range s.Tags {
			b = append(append(append(append(b, ';'), l.Name...), '='), l.Value...)
		}
	}
	b = append(append(b, ':'), value...)
	if c.Dialect == Dog && len(s.Tags) > 0 {
		b = append(b, "|#"...)
		for i, l := range s.Tags {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendName(append(append(b, l.Name...), ':'), l.Value)
		}
	}
	return b
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

// counters are the sink's own.
type counters struct {
	Lost stats.Counter `stat:"datagrams_lost" help:"Datagrams with statistics that the system did not take"`
}

// Sink sends samples over UDP. It is not safe for concurrent use.
type Sink struct {
	c    Config
	conn net.Conn
	own  *counters
	gone func()
	gram []byte
}

// Open makes a sink, whose own counter is bound to st.
func Open(c Config, st *stats.Store) (*Sink, error) {
	conn, err := net.Dial("udp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("statsd: %w", err)
	}
	s := &Sink{c: c, conn: conn}
	s.own, s.gone = stats.Shared[counters](st, "statsd", "", "")
	return s, nil
}

// Close closes the socket.
func (s *Sink) Close() {
	_ = s.conn.Close() // datagrams are not written later
	s.gone()
}

// Flush sends samples.
func (s *Sink) Flush(samples []stats.Sample) {
	s.c.Lines(samples, s.put)
	s.send()
}

// put adds a line to the datagram, or sends it alone.
func (s *Sink) put(line []byte) {
	if len(s.gram) > 0 && len(s.gram)+1+len(line) > s.c.Max {
		s.send()
	}
	if len(s.gram) > 0 {
		s.gram = append(s.gram, '\n')
	}
	s.gram = append(s.gram, line...)
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
