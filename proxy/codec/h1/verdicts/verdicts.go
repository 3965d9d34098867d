// Package verdicts reads the corpus of malformed, ambiguous and borderline
// HTTP/1 messages under proxy/codec/h1/testdata/verdicts, each with what real
// Envoy did with it, so that the codec's tests can compare their own verdict.
//
// The package holds data types, the text format and nothing else: the recorder
// that asks a running proxy is the test of this package behind -tags oracle, and
// what mecha makes of a message is decided in package h1.
package verdicts

// A Case is one exchange: what a client sends, what the upstream answers, and
// what Envoy made of both.
type Case struct {
	Name string // unique in the corpus; lower-case words joined by '-'
	File string // where it was read from, for failure messages
	Line int    // line of its "case" line in File

	Notes   []string // why the case is here; free text
	With    string   // configuration variant, one of Variants
	Differs string   // why mecha answers differently on purpose; empty: it must agree

	Send      [][]byte // the client's writes; between two of them it waits until nothing moves
	ClientEOF bool     // after the last write the client shuts its sending side
	Reply     [][]byte // the upstream's writes for each request; nil: DefaultReply
	ReplyEOF  bool     // after the last write the upstream closes
	Early     bool     // the upstream's first write goes out at the request's head, the others at its end

	Verdict Verdict
}

// Configuration variants: how the connection manager under test is configured
// beyond its defaults.
const (
	Plain         = ""               // defaults
	HTTP10        = "http10"         // http_protocol_options.accept_http_10, default_host_for_http_10: ten
	Upgrade       = "upgrade"        // upgrade_configs websocket and CONNECT, a connect_matcher route
	ChunkedLength = "chunked-length" // http_protocol_options.allow_chunked_length on both sides
	NoUnderscores = "no-underscores" // common_http_protocol_options.headers_with_underscores_action: REJECT_REQUEST
	Proxy100      = "proxy-100"      // proxy_100_continue
)

// Variants lists every value Case.With may have.
func Variants() []string {
	return []string{Plain, HTTP10, Upgrade, ChunkedLength, NoUnderscores, Proxy100}
}

// DefaultReply is what the upstream answers where a case says nothing else;
// without its body to a HEAD request.
const DefaultReply = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

// Payload returns the client's bytes without the pauses between them.
func (c *Case) Payload() []byte { return join(c.Send) }

// ReplyBytes returns the upstream's bytes without the pauses between them.
func (c *Case) ReplyBytes() []byte {
	if c.Reply == nil {
		return []byte(DefaultReply)
	}
	return join(c.Reply)
}

func join(parts [][]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// A Verdict is everything the two sides and the access log saw.
type Verdict struct {
	Closed   bool      // the proxy closed the client's connection
	Log      []Entry   // access log, in order
	Answers  []Message // what the client received, 1xx included
	Rest     []byte    // what the client received after the last complete answer's framing (a tunnel, junk)
	Upstream []Message // what the upstream received, in order of arrival
	UpRest   []byte    // what the upstream received after its last framed request
}

// An Entry is one line of the access log.
type Entry struct {
	Status  string // %RESPONSE_CODE%
	Flags   string // %RESPONSE_FLAGS%
	Details string // %RESPONSE_CODE_DETAILS%
}

// A Message is one HTTP/1 message as seen on the wire. Fields that differ from
// run to run or that the proxy adds to every message are left out, see Dropped.
type Message struct {
	Start      string   // request or status line
	Fields     []string // "name: value", in order
	Body       []byte   // chunk framing removed
	Trailers   []string // "name: value", in order
	Incomplete bool     // the framing promised more
}

// Dropped tells whether a field is left out of recorded messages: the proxy adds
// it to each message, or its value is new each time. The name is lower case.
func Dropped(name string) bool {
	switch name {
	case "date", "server", "x-envoy-upstream-service-time", // to the client
		"x-request-id", "x-forwarded-proto", "x-envoy-expected-rq-timeout-ms": // to the upstream
		return true
	}
	return false
}

// An Outcome is a verdict in one word.
type Outcome string

// The outcomes.
const (
	Forwarded Outcome = "forwarded" // the upstream saw at least one request
	Refused   Outcome = "refused"   // the proxy answered by itself
	Closed    Outcome = "dropped"   // closed, no answer
	Waiting   Outcome = "waiting"   // the proxy waits for more bytes
)

// Outcome sums the verdict up. A pipeline of which only a part went upstream
// counts as Forwarded.
func (v *Verdict) Outcome() Outcome {
	switch {
	case len(v.Upstream) > 0:
		return Forwarded
	case len(v.Answers) > 0:
		return Refused
	case v.Closed:
		return Closed
	default:
		return Waiting
	}
}

// Status is the code of the last answer, 0 if the client got none.
func (v *Verdict) Status() int {
	if len(v.Answers) == 0 {
		return 0
	}
	return statusOf(v.Answers[len(v.Answers)-1].Start)
}

// statusOf reads the code out of a status line; 0 if there is none.
func statusOf(line string) int {
	const at = len("HTTP/1.1 ")
	if len(line) < at+3 {
		return 0
	}
	code := 0
	for _, c := range []byte(line[at : at+3]) {
		if c < '0' || c > '9' {
			return 0
		}
		code = code*10 + int(c-'0')
	}
	return code
}
