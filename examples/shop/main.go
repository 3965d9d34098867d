// Command shop is a small shop made of plain services: net/http, net and
// nothing else. No service knows that there is a mesh; what they have of each
// other is a host name and a port from the environment.
//
//	shop frontend     what customers talk to; asks all the others
//	shop catalog      HTTP; says which version it is (VERSION)
//	shop orders       HTTP; fails one of FAIL_EVERY requests
//	shop reports      HTTP; takes DELAY to answer
//	shop inventory    TCP; a line protocol
//	shop bank         HTTP; says who called
//
// LISTEN is the address to listen on (":8080"; several separated by commas).
//
// What is not here: anything of mecha. "mecha demo" runs these programs.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// services are made from the environment, which getenv reads with a default.
var services = map[string]func(getenv env) (server, error){
	"frontend":  newFrontend,
	"catalog":   newCatalog,
	"orders":    newOrders,
	"reports":   newReports,
	"inventory": newInventory,
	"bank":      newBank,
}

// server answers on listeners until Shutdown.
type server interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// env reads a setting; the second argument is its default.
type env func(name, otherwise string) string

func fromEnvironment(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], fromEnvironment); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string, getenv env) error {
	if len(args) != 1 || services[args[0]] == nil {
		return errors.New("usage: shop frontend|catalog|orders|reports|inventory|bank")
	}
	log.SetPrefix(args[0] + " ")
	s, err := services[args[0]](getenv)
	if err != nil {
		return err
	}
	var listeners []net.Listener
	for addr := range strings.SplitSeq(getenv("LISTEN", ":8080"), ",") {
		l, err := net.Listen("tcp", strings.TrimSpace(addr))
		if err != nil {
			return fmt.Errorf("%w (LISTEN sets the address)", err)
		}
		log.Printf("listening on %s", l.Addr())
		listeners = append(listeners, l)
	}
	return serve(ctx, s, listeners)
}

// serve runs s on all listeners until ctx ends or one of them fails.
func serve(ctx context.Context, s server, listeners []net.Listener) error {
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- s.Serve(l) }()
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if stopped := s.Shutdown(end); err == nil && !errors.Is(stopped, context.DeadlineExceeded) {
		err = stopped
	}
	return err
}

// newHTTP is the server of the HTTP services.
func newHTTP(h http.Handler) server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
}
