package extproc

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// method is what services are asked by.
const method = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

// conversation is the gRPC stream with the service about one HTTP stream.
type conversation struct {
	stream *call.Stream // nil: none yet, or no more
	told   bool         // something was told: protocol_config is
	early  [][]byte     // messages that came before anybody waited for them
}

// part is a part of a message.
type part uint8

const (
	requestHead part = iota
	requestBody
	requestTrailers
	responseHead
	responseBody
	responseTrailers
	immediate // of answers alone: a whole response
	nothing   // of answers alone: none of these
)

// message is what the service is told.
type message struct {
	part     part
	fields   *header.Map // of heads and trailers
	body     []byte
	end      bool
	metadata map[string]map[string]any
	// attributes is what was asked for, by name; nil if it was told before.
	attributes map[string]any
	mode       *Mode // protocol_config, with the first message
	observe    bool
}

// answer is what the service says, in memory of its own.
type answer struct {
	part       part
	changes    bool // it speaks of fields
	set        []mutation
	remove     []string
	replace    bool // CONTINUE_AND_REPLACE
	hasBody    bool // body is in place of what was told
	body       []byte
	end        bool // of a duplex body
	clearRoute bool
	mode       *Mode
	more       time.Duration // override_message_timeout
	metadata   map[string]map[string]any

	code    int // of an immediate response
	grpc    int
	details string
}

// refusal is an answer that is not obeyed; its text is in the details of the reply.
type refusal string

func (r refusal) Error() string { return "ext_proc: " + string(r) }

// The refusals.
const (
	errSpurious  refusal = "spurious_message"
	errImmediate refusal = "unhandled_immediate_response_due_to_config_disabled_it"
	errInvalid   refusal = "header_mutation_set_contains_invalid_character"
	errSet       refusal = "header_mutation_set_headers_failed"
	errRemove    refusal = "header_mutation_remove_headers_failed"
	errLength    refusal = "mismatch_between_content_length_and_the_length_of_the_mutated_body"
	errTooLarge  refusal = "body_too_large"
)

// open begins the conversation.
func (f *Filter) open(s *filter.Stream) error {
	c := &f.conversation
	if c.stream != nil {
		return nil
	}
	f.counters.Started.Inc()
	var err error
	c.stream, err = f.client.Open(call.Background(s.Engine.Context()), f.service, method, s.LogEntry(), time.Now().Add(f.Timeout))
	return err
}

// tell sends a message.
func (f *Filter) tell(s *filter.Stream, m *message) error {
	if err := f.over(); err != nil {
		return err
	}
	f.counters.Sent.Inc()
	if err := f.open(s); err != nil {
		return err
	}
	m.observe = f.Observe
	if !f.conversation.told {
		f.conversation.told, m.mode = true, &f.mode
	}
	f.describe(s, m)
	raw, err := m.encode()
	if err != nil {
		return err
	}
	if err := f.conversation.stream.Send(raw, time.Now().Add(f.Timeout)); err != nil {
		if errors.Is(err, call.ErrTimeout) || call.Ended(err) != nil {
			return err
		}
		if _, why := f.conversation.stream.Receive(time.Now()); why != nil && !errors.Is(why, call.ErrTimeout) {
			return why // the service has said why it hears no more
		}
		return err
	}
	return nil
}

// over says how the service has ended the conversation, nil if it has not, as far as is known: it
// is told nothing more then. Answers of one that only observes are for nobody.
func (f *Filter) over() error {
	c := &f.conversation
	if c.stream == nil || f.Observe || len(c.early) > 0 {
		return nil
	}
	raw, err := c.stream.Receive(time.Now())
	if errors.Is(err, call.ErrTimeout) {
		return nil
	}
	if err == nil {
		c.early = append(c.early, raw)
	}
	return err
}

// describe adds what is told with a part: metadata, and attributes once for each direction.
func (f *Filter) describe(s *filter.Stream, m *message) {
	own, _ := filter.Override[*Config](s, f.env.Slot)
	names, p := f.RequestAttributes, &f.request
	if m.part >= responseHead {
		names, p = f.ResponseAttributes, &f.response
	}
	forward := f.Forward
	if own != nil {
		if m.part < responseHead && len(own.Route.RequestAttributes) > 0 {
			names = own.Route.RequestAttributes
		} else if m.part >= responseHead && len(own.Route.ResponseAttributes) > 0 {
			names = own.Route.ResponseAttributes
		}
		if own.Route.Forward != nil {
			forward = *own.Route.Forward
		}
	}
	for _, name := range forward {
		fields := s.Metadata.Namespace(name)
		if fields == nil && s.Session != nil {
			fields = s.Session.Metadata.Namespace(name)
		}
		if fields != nil {
			if m.metadata == nil {
				m.metadata = map[string]map[string]any{}
			}
			m.metadata[name] = fields
		}
	}
	if !p.told && len(names) > 0 {
		m.attributes = attributesOf(s, names)
	}
	p.told = true
}

// ask sends a message and waits for its answer. A nil answer without an error is that the
// stream goes on without the service.
func (f *Filter) ask(s *filter.Stream, m *message) (*answer, error) {
	if err := f.tell(s, m); err != nil {
		return nil, f.failed(s, err)
	}
	if f.Observe {
		f.decide(s, "tells the service, and goes on", f.service.Cluster)
		return nil, nil
	}
	return f.await(s, m.part, time.Now().Add(f.Timeout))
}

// await waits for the answer to a part.
func (f *Filter) await(s *filter.Stream, to part, until time.Time) (*answer, error) {
	for extended := false; ; {
		a, err := f.nextOf(to, until)
		if err != nil {
			return nil, f.failed(s, err)
		}
		if a.more > 0 {
			f.counters.Received.Inc()
			f.counters.OverrideReceived.Inc()
			if extended || f.MaxTimeout == 0 || a.more > f.MaxTimeout || a.more < time.Millisecond {
				f.counters.OverrideIgnored.Inc()
				continue
			}
			extended, until = true, time.Now().Add(a.more)
			continue
		}
		f.note(s, a)
		switch {
		case a.part == immediate:
			return nil, f.immediately(s, a)
		case a.part != to:
			f.counters.Spurious.Inc()
			return nil, f.failed(s, errSpurious)
		}
		f.counters.Received.Inc()
		f.decide(s, a.verdict(), f.service.Cluster)
		return a, nil
	}
}

// verdict is what an answer says, in a few words.
func (a *answer) verdict() string {
	switch {
	case a.replace:
		return "goes on with another body from the service"
	case a.hasBody && len(a.set)+len(a.remove) > 0:
		return "goes on with fields and a body changed by the service"
	case a.hasBody:
		return "goes on with a body changed by the service"
	case len(a.set)+len(a.remove) > 0:
		return "goes on with fields changed by the service"
	}
	return "goes on as the service says"
}

// next receives one message.
func (f *Filter) next(until time.Time) (*answer, error) {
	c := &f.conversation
	var raw []byte
	if len(c.early) > 0 {
		raw, c.early = c.early[0], c.early[1:]
	} else {
		var err error
		if raw, err = c.stream.Receive(until); err != nil {
			return nil, err
		}
	}
	a := &answer{}
	return a, a.decode(raw)
}

// note puts what the service wants to be known into dynamic metadata.
func (f *Filter) note(s *filter.Stream, a *answer) {
	if len(a.metadata) == 0 {
		return
	}
	allowed := f.Receive
	if own, ok := filter.Override[*Config](s, f.env.Slot); ok && own.Route.Receive != nil {
		allowed = *own.Route.Receive
	}
	for _, namespace := range allowed {
		for k, v := range a.metadata[namespace] {
			s.Metadata.Set(namespace, k, v)
		}
	}
}

// decide notes what the service has decided, or what is done without it. Only hooks of heads may
// note something: those of the request body may run beside those of the response.
func (f *Filter) decide(s *filter.Stream, what, of string) {
	if !f.deciding {
		return
	}
	s.Tick()
	s.Decide(what, of)
}

// failed ends the conversation. It returns what the hook has to return: nil where the
// stream goes on without the service.
func (f *Filter) failed(s *filter.Stream, err error) error {
	if over := call.Ended(err); over != nil {
		f.hangUp()
		f.off = true
		return over
	}
	timeout := errors.Is(err, call.ErrTimeout)
	switch {
	case errors.Is(err, io.EOF) && !f.consumed:
		f.counters.HalfClosed.Inc()
		f.hangUp()
		f.off = true
		f.decide(s, "goes on without the service, which has ended the conversation", f.service.Cluster)
		return nil // it has seen enough
	case timeout:
		f.counters.Timeouts.Inc()
		if f.conversation.stream == nil {
			f.counters.Closed.Inc() // it was begun, but there was no time for a connection
		}
	case errors.As(err, new(refusal)):
	default:
		f.counters.Failed.Inc()
		f.broken = true
	}
	f.off = true
	allowed := (f.failureAllow || f.Observe) && !f.consumed
	f.broken = f.broken && !allowed
	f.hangUp()
	if allowed {
		f.counters.FailureAllowed.Inc()
		f.decide(s, "goes on without the service, which has failed", reason(err))
		return nil
	}
	r := &filter.Reply{Code: f.StatusOnError, Details: reason(err)}
	if timeout {
		r.Code = 504
	}
	return r
}

// reason names an error in the details of a reply.
func reason(err error) string {
	var st *call.Status
	var no refusal
	switch {
	case errors.Is(err, call.ErrTimeout):
		return "ext_proc_error_per-message_timeout_exceeded"
	case errors.As(err, &no):
		return string(no)
	case errors.As(err, &st):
		return "ext_proc_error_gRPC_error_" + strconv.Itoa(st.Code) + "{" + oneWord(st.Message) + "{via_upstream}}"
	}
	return "ext_proc_error_gRPC_error_14{" + oneWord(err.Error()) + "}"
}

// oneWord keeps the fields of an access log apart.
func oneWord(text string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, text)
}

// immediately is the response that the service has given itself.
func (f *Filter) immediately(s *filter.Stream, a *answer) error {
	if f.NoImmediate {
		f.counters.Spurious.Inc()
		return f.failed(s, errImmediate)
	}
	f.counters.Received.Inc()
	f.counters.Immediate.Inc()
	f.hangUp()
	f.off = true
	r := &filter.Reply{Code: a.code, Body: string(a.body), GRPC: a.grpc, Details: oneWord(a.details)}
	if r.Details == "" {
		r.Details = "ext_proc_immediate_response"
	}
	r.Modify = func(s *filter.Stream) { _ = f.change(&s.Response, a) } // what it may not change stays as it is
	return r
}

// mostClosing bounds how many conversations wait to be closed.
const mostClosing = 1000

// hangUp ends the conversation.
func (f *Filter) hangUp() {
	st := f.conversation.stream
	if st == nil {
		return
	}
	f.conversation.stream = nil
	if !f.broken {
		f.counters.Closed.Inc()
	}
	_ = st.CloseSend() // it may be broken
	if !f.Observe || f.closing.Add(1) > mostClosing {
		if f.Observe {
			f.closing.Add(-1)
		}
		st.Close()
		return
	}
	go f.chain.closeLater(st)
}

// closeLater gives a service that only observes time to hear all.
func (ch *chain) closeLater(st *call.Stream) {
	defer ch.closing.Add(-1)
	defer st.Close()
	until := time.Now().Add(ch.CloseAfter)
	for {
		if _, err := st.Receive(until); err != nil {
			return
		}
	}
}
