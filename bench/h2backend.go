package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// muxAnswer is what the back end says to a path over HTTP/2.
type muxAnswer struct {
	head, trailers []string // pairs of name and value
	content        []byte
	asked          int // bytes of content that a request has to have
}

func muxAnswers() map[string]muxAnswer {
	answers := map[string]muxAnswer{
		grpcPath: {
			head:     []string{":status", "200", "content-type", "application/grpc"},
			content:  grpcMessage(grpcSize),
			trailers: []string{"grpc-status", "0"},
			asked:    len(grpcMessage(grpcSize)),
		},
	}
	const size = 1 << 10
	answers["/1k"] = muxAnswer{
		head:    []string{":status", "200", "content-type", "text/plain", "content-length", strconv.Itoa(size)},
		content: bytes.Repeat([]byte("x"), size),
	}
	return answers
}

// muxServer answers the streams of one connection, which all ask for one path.
type muxServer struct {
	answers map[string]muxAnswer
	mux     *mux
	begun   bool

	path           string
	say            muxAnswer
	code           *coder
	head, trailers []byte         // blocks of an answer that is not the first
	open           map[uint32]int // streams whose content arrives, and how much did
}

func newMuxServer(answers map[string]muxAnswer) *muxServer {
	s := &muxServer{answers: answers, code: newCoder(), open: map[uint32]int{}}
	s.mux = newMux(s)
	return s
}

func (s *muxServer) data(sk *sock, b []byte) (int, error) {
	skip := 0
	if !s.begun {
		if len(b) < len(preface) {
			return 0, nil
		}
		if !bytes.HasPrefix(b, preface) {
			return 0, fmt.Errorf("no preface but %q", b[:len(preface)])
		}
		s.begun, s.mux.sock, skip = true, sk, len(preface)
		s.mux.hello(backendStreams)
	}
	used, err := s.mux.read(b[skip:])
	if err == nil {
		err = s.mux.flush()
	}
	return skip + used, err
}

func (s *muxServer) fields(stream uint32, f *fields, end bool) error {
	if s.path == "" {
		say, ok := s.answers[f.path]
		if !ok {
			return fmt.Errorf("a request for %q", f.path)
		}
		s.path, s.say = f.path, say
	}
	if f.path != s.path {
		return fmt.Errorf("requests for %q and %q on one connection", s.path, f.path)
	}
	s.open[stream] = 0
	if end {
		return s.answer(stream)
	}
	return nil
}

func (s *muxServer) body(stream uint32, n int, end bool) error {
	got, ok := s.open[stream]
	if !ok {
		return fmt.Errorf("content on stream %d, which is not open", stream)
	}
	s.open[stream] = got + n
	if end {
		return s.answer(stream)
	}
	return nil
}

func (s *muxServer) answer(stream uint32) error {
	if s.open[stream] != s.say.asked {
		return fmt.Errorf("a request with %d bytes, want %d", s.open[stream], s.say.asked)
	}
	delete(s.open, stream)
	head, trailers := s.head, s.trailers
	if head == nil { // the first: its names and values go into the table
		head = s.code.block(s.say.head...)
		trailers = s.code.block(s.say.trailers...)
		s.head, s.trailers = s.code.block(s.say.head...), s.code.block(s.say.trailers...)
	}
	last := s.say.trailers == nil
	s.mux.block(stream, head, false)
	s.mux.content(stream, s.say.content, last)
	if !last {
		s.mux.block(stream, trailers, true)
	}
	return nil
}

func (s *muxServer) skipped(*sock) error { return errors.New("nothing to skip") }

func (s *muxServer) gone(*sock, error) {}
