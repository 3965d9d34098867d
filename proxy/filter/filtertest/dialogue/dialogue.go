// Package dialogue plays scripts of what clients and upstreams say to a proxy and
// compares with what each of them sees. A script is a text file that people read as
// the specification of a behaviour; the same file runs against mecha in this process
// and against any proxy with Envoy's command line, above all Envoy.
//
// A file holds cases:
//
//	=== retry-5xx
//	# A 503 is tried again, as the route says.
//	config
//	  routes:
//	  - match: {prefix: /}
//	    route: {cluster: $up, retry_policy: {retry_on: 5xx}}
//
//	c> GET / HTTP/1.1
//	c> Host: a
//	c>
//
//	u< GET / HTTP/1.1
//	u< host: a
//	u<
//	u> HTTP/1.1 503 Service Unavailable
//	u> content-length: 0
//	u>
//	...
//	log: 200 via_upstream -
//	stat: cluster.$up.upstream_rq_retry 1
//
// Steps run in order. Lines of the same kind that follow each other are one step;
// an empty line ends a step.
//
//	c> LINE      the client sends LINE and CRLF; c, c2, c3... are connections, made
//	             when they are first used
//	c>> TEXT     the same without CRLF
//	c< LINE      the client reads one HTTP message; the lines are what is expected
//	c<head LINE  it reads one message head
//	c<5 LINE     it reads five bytes
//	c<end LINE   it reads until the connection is over
//	c<tls LINE   what its TLS handshake has agreed on, as this end sees it
//	c! close     close, shut (half-close), reset
//	c:1> LINE    the same on the first stream of c, which speaks HTTP/2 then: a message
//	             whose head is written as in HTTP/1, "GET / HTTP/2" and "HTTP/2 200" in
//	             its first line, pseudo-headers of other kinds as fields
//	c:1>head     its head alone; c:1>data, c:1>end: pieces of its body, the last one with
//	             the end of the stream; c:1>trailers
//	c:1<         a message on the stream; c:1<head, c:1<5 parts of it; c:1<end how the
//	             stream ended
//	c:1! reset   RST_STREAM, with CANCEL or what follows
//	c:0> LINE    a frame of the connection: settings NAME VALUE, window STREAM BYTES,
//	             goaway STREAM CODE, ping. Whoever sets initial_window_size gives all credit
//	c:0<         the next GOAWAY; c:0<end: those to come and the end of the connection
//	u> u< u!     the same for connections that the proxy made to cluster $up, in the
//	             order in which it made them: u, u2, u3...; v, v2... are those to $other
//	admin TEXT   POST to a path of the admin endpoint
//	wait 200ms   let time pass, where time is what the case is about
//	log: TEXT    a line of the access log: code, details, flags (for tcp: flags, bytes
//	             received and sent); those that follow each other in alphabetical order, if
//	             clients have several connections or streams of HTTP/2
//	stat: N V    a counter or gauge
//
// What is sent may contain \r \n \t \\ \xHH and {{a*70000}}, which repeats, {{gzip TEXT}}, {{br
// TEXT}} and {{zstd TEXT}}, {{chunk gzip TEXT}} or {{chunk text TEXT}}, which is one chunk
// of HTTP/1 (after >>), $port, that of the listener, and $host, the address of the first
// host of $up. What is read is normalised: header fields are sorted by name, bodies are
// decoded (content-encoding, too: its name precedes the text), dates, random
// IDs, times and addresses are replaced by words. A message after which the connection
// must end is followed by "(closed)".
//
// "in one piece: why" after the heading says that how the bytes are cut is part of the
// case, so that it is not played in random pieces.
//
// With "tls" in the configuration the chain terminates TLS, and "client" says how clients
// do it, "up_tls" how the hosts of $up do. Certificates are in $certs, see names.
//
// The configuration is YAML that is merged over a listener with one connection manager
// and one route to $up; see configFor. "differs from Envoy: why" after the heading says
// that mecha deliberately does something else; such a case must then really differ.
package dialogue

import "strings"

// Case is one dialogue.
type Case struct {
	File, Name string
	Line       int      // of the heading
	About      []string // comment lines
	Config     string   // YAML
	Differs    string   // why Envoy does something else, "" if it must not
	Whole      string   // why the case is not played in pieces, "" if it is
	Steps      []Step
	Subject    Subject
}

// Subject is the HTTP filter that cases are about: what "filter" in their configuration
// configures, and "overrides" for routes by path prefix.
type Subject struct {
	Name, Type, RouteType string
	Service               string // address of a gRPC server that the test runs: cluster $service
	Files                 string // a folder that the test has filled: $files
	// Base is what "filter" is merged over in the case with a name; where it is there, the
	// filter is in all cases.
	Base func(name string) map[string]any
}

// Op is what a step does.
type Op uint8

// The steps.
const (
	Send     Op = iota // Lines are what is sent, escapes resolved
	Read               // one HTTP message
	ReadHead           // one head
	ReadN              // N bytes
	ReadEnd            // until the connection is over
	ReadTLS            // what the handshake has agreed on
	Act                // Arg: close, shut, reset
	Admin              // Arg: path
	Wait               // Arg: how long
	Log                // Arg: expected line
	Stat               // Arg: name and value
)

// Step is one step of a case.
type Step struct {
	Op     Op
	Who    string // "c", "c2", "u", "v"...
	HTTP2  bool   // Who speaks HTTP/2, and this happens on
	Stream int    // that stream of it, 0: the connection
	Part   Part   // Send, HTTP/2
	N      int
	Arg    string
	Data   []byte   // Send
	Lines  []string // as in the file; for reads what is expected
	Line   int      // in the file
	Blank  bool     // an empty line or comment precedes
	Notes  []string // comment lines before the step
}

// reads reports whether the step compares what a connection gets.
func (s *Step) reads() bool { return s.Op >= Read && s.Op <= ReadTLS }

// name is that of the connection or stream.
func (s *Step) name() string {
	if s.HTTP2 {
		return s.Who + ":" + itoa(s.Stream)
	}
	return s.Who
}

// prefix is how the lines of the step begin in a file.
func (s *Step) prefix() string {
	switch s.Op {
	case Read:
		return s.name() + "<"
	case ReadHead:
		return s.name() + "<head"
	case ReadN:
		return s.name() + "<" + itoa(s.N)
	case ReadEnd:
		return s.name() + "<end"
	case ReadTLS:
		return s.Who + "<tls"
	}
	return ""
}

// Client reports whether a name is that of a client's connection.
func client(who string) bool { return strings.HasPrefix(who, "c") }
