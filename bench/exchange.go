package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
)

// exchange is one request and its answer as the load generator sees them.
type exchange struct {
	request []byte
	http    bool
	answer  int // bytes of the answer; for HTTP, of its body
}

// pingSize is both sides' message in a TCP exchange: the first eight bytes say
// how many the answer shall have.
const pingSize = 64

// bodySizes are the paths the back end knows.
var bodySizes = map[string]int{"/1k": 1 << 10, "/1m": 1 << 20}

func httpGet(path string) exchange {
	return exchange{
		request: []byte("GET " + path + " HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"),
		http:    true,
		answer:  bodySizes[path],
	}
}

func httpPost(size int) exchange {
	head := fmt.Sprintf("POST /post HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: bench\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size)
	return exchange{
		request: append([]byte(head), bytes.Repeat([]byte("p"), size)...),
		http:    true,
		answer:  len(postAnswer),
	}
}

func tcpFetch(size int) exchange {
	request := make([]byte, pingSize)
	binary.BigEndian.PutUint64(request, uint64(size))
	return exchange{request: request, answer: size}
}

var (
	headEnd      = []byte("\r\n\r\n")
	lengthName   = []byte("content-length:")
	lengthNameUp = []byte("Content-Length:")
)

// httpHead reads a message head: its length with the final empty line (0: not
// all there yet) and the Content-Length, -1 without one.
func httpHead(b []byte) (head, length int, err error) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return 0, 0, nil
	}
	at := bytes.Index(b[:end], lengthName)
	if at < 0 {
		if at = bytes.Index(b[:end], lengthNameUp); at < 0 {
			return end + len(headEnd), -1, nil
		}
	}
	value := b[at+len(lengthName) : end]
	if cr := bytes.IndexByte(value, '\r'); cr >= 0 {
		value = value[:cr]
	}
	length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
	return end + len(headEnd), length, err
}
