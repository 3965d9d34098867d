package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// inventory is a store of numbers with a line protocol:
//
//	STOCK apple       apple 120
//	TAKE apple 3      apple 117
//	anything else     ERR and what is wrong
type inventory struct {
	mu        sync.Mutex
	stock     map[string]int
	listeners []net.Listener
	open      map[net.Conn]bool
	closed    bool
}

const (
	maxLine  = 1 << 10
	idleTime = time.Minute
)

func newInventory(env) (server, error) {
	return &inventory{
		stock: map[string]int{"apple": 120, "pear": 75, "plum": 300, "quince": 8},
		open:  make(map[net.Conn]bool),
	}, nil
}

func (v *inventory) Serve(l net.Listener) error {
	v.mu.Lock()
	v.listeners = append(v.listeners, l)
	v.mu.Unlock()
	for {
		c, err := l.Accept()
		if err != nil {
			if v.ended() {
				return nil
			}
			return err
		}
		if v.enter(c) {
			go v.talk(c)
		}
	}
}

// Shutdown ends listeners and connections.
func (v *inventory) Shutdown(context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	var errs []error
	for _, l := range v.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for c := range v.open {
		c.Close() //nolint:errcheck // cut on purpose
	}
	return errors.Join(errs...)
}

func (v *inventory) ended() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.closed
}

func (v *inventory) enter(c net.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		c.Close() //nolint:errcheck // too late
		return false
	}
	v.open[c] = true
	return true
}

func (v *inventory) talk(c net.Conn) {
	defer func() {
		c.Close() //nolint:errcheck // the talk is over
		v.mu.Lock()
		delete(v.open, c)
		v.mu.Unlock()
	}()
	r := bufio.NewReader(io.LimitReader(c, maxLine))
	for {
		if err := c.SetReadDeadline(time.Now().Add(idleTime)); err != nil {
			return
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, v.answer(line)+"\n"); err != nil {
			return
		}
	}
}

// answer carries out one line.
func (v *inventory) answer(line string) string {
	f := strings.Fields(line)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case len(f) == 2 && f[0] == "STOCK":
	case len(f) == 3 && f[0] == "TAKE":
		n, err := strconv.Atoi(f[2])
		if err != nil || n < 0 || n > v.stock[f[1]] {
			return fmt.Sprintf("ERR cannot take %s of %d", f[2], v.stock[f[1]])
		}
		v.stock[f[1]] -= n
	default:
		return "ERR want STOCK item or TAKE item number"
	}
	n, known := v.stock[f[1]]
	if !known {
		return "ERR no such item"
	}
	return fmt.Sprintf("%s %d", f[1], n)
}
